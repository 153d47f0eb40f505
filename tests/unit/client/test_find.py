"""The rest of a find: after the last id, or without what was returned; none if that can't be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreshard.client import _find
from foreshard.client._find import Find, Given

BY_ID = Find({"key": "k"}, skip=5, limit=10, sort=(("_id", 1),))


def after(find: Find, *identities: object) -> Find | None:
    given = Given(find)
    for identity in identities:
        assert given.note({"_id": identity})
    return given.rest(find)


def test_a_find_by_id_goes_on_after_the_last_id_of_any_type():
    beyond = {"$expr": {"$gt": ["$_id", {"$literal": "b"}]}}
    assert after(BY_ID, "a", "b") == replace(BY_ID, filter={"key": "k", "$and": [beyond]}, skip=0, limit=8)


def test_a_find_by_descending_id_goes_on_below_the_last_id():
    rest = after(replace(BY_ID, sort=(("_id", -1),)), "b")
    assert rest is not None
    assert rest.filter["$and"] == [{"$expr": {"$lt": ["$_id", {"$literal": "b"}]}}]


def test_the_filters_own_conditions_stay():
    rest = after(replace(BY_ID, filter={"$and": [{"n": 1}]}), "a")
    assert rest is not None
    assert rest.filter["$and"][0] == {"n": 1}
    assert len(rest.filter["$and"]) == 2


def test_a_find_without_a_sort_is_repeated_without_what_was_returned():
    find, given = Find({"key": "k"}), Given(Find({"key": "k"}))
    assert [given.note({"_id": n}) for n in (1, 2)] == [True, True]
    assert given.rest(find) == find
    assert [given.note({"_id": n}) for n in (1, 2, 3)] == [False, False, True]
    assert given.count == 3


def test_documents_with_the_same_id_on_different_partitions_are_both_returned():
    for find in (Find({}), replace(BY_ID, limit=5, skip=0)):
        given = Given(find, "k")
        first, second, third = {"_id": 1, "k": "a"}, {"_id": 1, "k": "b"}, {"_id": 2, "k": "a"}
        assert [given.note(document) for document in (first, second)] == [True, True]
        rest = given.rest(find)
        assert rest is not None
        assert [given.note(document) for document in (first, second, {"_id": 1, "k": "c"}, third)] == [False, False, True, True]
        if find.sort:
            assert rest.filter["$and"] == [{"$expr": {"$gte": ["$_id", {"$literal": 1}]}}]
            assert rest.limit == 5


def test_documents_without_their_key_can_not_be_told_apart():
    for projection in ({"n": 1}, {"k": 0}, ["n"], {"k": "$n"}, {"at": 0}):
        given = Given(Find({}, projection), "k" if projection != {"at": 0} else "at.k")
        given.note({"_id": 1})
        assert given.rest(Find({}, projection)) is None, projection
    for projection in (None, {}, [], {"k": 1}, {"n": 0}, ["k"], {"_id": 1, "k": True}):
        given = Given(Find({}, projection), "k")
        given.note({"_id": 1, "k": "a"})
        assert given.rest(Find({}, projection)) is not None, projection


@pytest.mark.parametrize(
    "find",
    [
        Find({}, sort=(("n", 1),)),
        Find({}, sort=(("_id", 1), ("n", 1))),
        Find({}, skip=1),
        Find({}, {"_id": 0}),
        Find({}, {"_id": "$other"}, sort=(("_id", 1),)),
    ],
)
def test_a_find_whose_missing_documents_cannot_be_told_has_no_rest_once_it_has_returned_one(find):
    assert after(find) == find
    assert after(find, 1) is None


@pytest.mark.parametrize("identity", [True, {"a": 1}])
def test_ids_that_python_cannot_tell_apart_leave_no_rest(identity):
    assert after(Find({}), identity) is None


def test_too_many_ids_are_not_remembered(monkeypatch):
    monkeypatch.setattr(_find, "MOST_GIVEN", 2)
    assert after(Find({}), 1, 2) is not None
    assert after(Find({}), 1, 2, 3, 4) is None
