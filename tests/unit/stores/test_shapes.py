"""Which differences of two collections are settled by adding to the target, and which refuse a move."""

from __future__ import annotations

from typing import Any

import pytest

from foreshard.stores.partition.units.shapes import conflicts, missing_indexes

ID = {"name": "_id_", "key": {"_id": 1}}
EMAIL = {"name": "email_1", "key": {"email": 1}, "unique": True}


def shaped(*indexes: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"options": options, "indexes": [ID, *indexes]}


def test_what_the_target_lacks_is_added():
    assert missing_indexes(shaped(EMAIL), shaped()) == [EMAIL]
    assert list(conflicts(shaped(EMAIL, validator={"a": 1}), shaped())) == []


def test_plain_indexes_of_the_target_stay():
    assert list(conflicts(shaped(), shaped({"name": "city_1", "key": {"city": 1}}))) == []


def test_an_index_of_another_name_but_the_same_definition_is_no_difference():
    other = {**EMAIL, "name": "by_email", "sparse": False, "background": True}
    assert missing_indexes(shaped(EMAIL), shaped(other)) == []
    assert list(conflicts(shaped(EMAIL), shaped(other))) == []


@pytest.mark.parametrize(
    ("wanted", "there", "problem"),
    [
        (shaped({"name": "email_1", "key": {"email": 1}}), shaped(EMAIL), "another index 'email_1'"),
        (shaped(EMAIL), shaped({"name": "email_1", "key": {"email": -1}, "unique": True}), "another index 'email_1'"),
        (
            shaped({"name": "two", "key": {"a": 1, "b": 1}, "unique": True}),
            shaped({"name": "two", "key": {"b": 1, "a": 1}, "unique": True}),
            "another index 'two'",
        ),
        (shaped(), shaped(EMAIL), "a unique index 'email_1' that the source lacks"),
        (shaped(), shaped({"name": "t", "key": {"at": 1}, "expireAfterSeconds": 5}), "a TTL index 't' that the source lacks"),
        (shaped(validator={"a": 1}), shaped(validator={"a": 2}), "another validator"),
        (shaped(), shaped(validator={"a": 2}), "another validator"),
        (shaped(validator={"a": 1}), shaped(validator={"a": 1}, validationAction="warn"), "another validator"),
        (shaped(clusteredIndex={"key": {"_id": 1}}), shaped(), "another clusteredIndex"),
    ],
)
def test_what_cannot_be_settled_is_named(wanted, there, problem):
    [found] = conflicts(wanted, there)
    assert problem in found
