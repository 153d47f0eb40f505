"""The keys that filters, documents and updates name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.client._keys import change_of_key, key_of_document, keys_of_filter, narrowed

KEYS = st.sampled_from(["a", "b", "c"])


@pytest.mark.parametrize(
    ("filter_", "keys"),
    [
        ({"k": "a"}, ("a",)),
        ({"k": "a", "n": {"$gt": 1}}, ("a",)),
        ({"k": {"$eq": "a"}}, ("a",)),
        ({"k": {"$in": ["b", "a", "b"]}}, ("b", "a")),
        ({"k": {"$in": ["a", "b"], "$ne": "b"}}, ("a", "b")),
        ({"k": {"$in": []}}, ()),
        ({"$and": [{"n": 1}, {"k": "a"}]}, ("a",)),
        ({"$and": [{"k": {"$in": ["a", "b"]}}, {"k": {"$in": ["b", "c"]}}]}, ("b",)),
        ({"$or": [{"k": "a"}, {"k": "b", "n": 1}]}, ("a", "b")),
        ({"$or": [{"k": "a"}, {"n": 1}]}, None),
        ({"k": {"$gt": "a"}}, None),
        ({"k": {"$in": ["a", None]}}, None),
        ({"k": None}, None),
        ({"k": ""}, None),
        ({"k": 5}, None),
        ({"$nor": [{"k": "a"}]}, None),
        ({}, None),
    ],
)
def test_a_filter_names_the_keys_whose_documents_can_match(filter_, keys) -> None:
    assert keys_of_filter(filter_, "k") == keys


def conditions() -> st.SearchStrategy[dict]:
    leaf = st.one_of(
        KEYS.map(lambda key: {"k": key}),
        st.lists(KEYS, max_size=3).map(lambda keys: {"k": {"$in": keys}}),
        st.sampled_from([{"n": 1}, {"n": 2}, {}]),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda some: {"$and": some}),
            st.lists(inner, min_size=1, max_size=3).map(lambda some: {"$or": some}),
        ),
        max_leaves=6,
    )


def matches(document: dict, condition: dict) -> bool:
    for name, wanted in condition.items():
        if name == "$and":
            good = all(matches(document, one) for one in wanted)
        elif name == "$or":
            good = any(matches(document, one) for one in wanted)
        elif isinstance(wanted, dict):
            good = document[name] in wanted["$in"]
        else:
            good = document[name] == wanted
        if not good:
            return False
    return True


@given(conditions(), KEYS, st.sampled_from([1, 2]))
@settings(max_examples=100, deadline=None)
def test_every_matching_document_has_one_of_the_named_keys(condition, key, number) -> None:
    named = keys_of_filter(condition, "k")
    document = {"k": key, "n": number}
    if named is not None and key not in named:
        assert not matches(document, condition)
    if matches(document, condition):
        assert named is None or key in named


@given(conditions(), st.lists(KEYS, min_size=1, max_size=2, unique=True), KEYS, st.sampled_from([1, 2]))
@settings(max_examples=100, deadline=None)
def test_a_narrowed_filter_matches_the_same_documents_of_these_keys(condition, keys, key, number) -> None:
    document = {"k": key, "n": number}
    assert matches(document, narrowed(condition, "k", keys)) == (matches(document, condition) and key in keys)


def test_the_key_of_a_document_is_a_non_empty_string_at_the_field_or_path() -> None:
    assert key_of_document({"k": "a"}, "k") == "a"
    assert key_of_document({"user": {"id": "u1"}}, "user.id") == "u1"
    for document in ({}, {"k": ""}, {"k": 5}, {"k": None}, {"k": ["a"]}, {"user": 1}):
        assert key_of_document(document, "k") is None
        assert key_of_document(document, "user.id") is None


@pytest.mark.parametrize(
    ("update", "culprit"),
    [
        ({"$set": {"n": 1}}, None),
        ({"$set": {"k": "a", "n": 1}}, None),
        ({"$setOnInsert": {"k": "a"}}, None),
        ({"$set": {"k": "b"}}, "$set"),
        ({"$unset": {"k": ""}}, "$unset"),
        ({"$inc": {"n": 1}, "$rename": {"n": "k"}}, "$rename"),
        ({"$rename": {"k": "old"}}, "$rename"),
        ({"$set": {"k.x": 1}}, "$set"),
        ({"$min": {"k": "a"}}, "$min"),
        ([{"$set": {"n": 1}}], None),
        ([{"$unset": ["n", "k"]}], "$unset"),
        ([{"$set": {"n": 1}}, {"$replaceWith": {"n": 1}}], "$replaceWith"),
    ],
)
def test_an_update_that_may_change_the_key_is_found(update, culprit) -> None:
    assert change_of_key(update, "k", "a") == culprit


def test_a_nested_key_field_is_protected_too() -> None:
    assert change_of_key({"$set": {"user": {"id": "x"}}}, "user.id", "u1") == "$set"
    assert change_of_key({"$set": {"user.name": "x"}}, "user.id", "u1") is None
