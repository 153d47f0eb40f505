"""The keys that filters, documents and updates name."""

from __future__ import annotations

from uuid import UUID

import pytest
from bson import Binary, Int64, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.client._keys import change_of_key, key_argument, key_of_document, keys_of_filter, limited, narrowed
from foreshard.errors import RouteRefused
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType

K = ShardedCollection("app", "things", "k")
USER_ID = ShardedCollection("app", "things", "user.id")
INTEGERS = ShardedCollection("app", "things", "k", key_type=KeyType.INT)
OBJECT_IDS = ShardedCollection("app", "things", "k", key_type=KeyType.OBJECT_ID)
UUIDS = ShardedCollection("app", "things", "k", key_type=KeyType.UUID)
HEX, DASHED = "64b00000000000000000000a", "0d54a85f-02c9-4b59-a5c0-a4a6bbd4be26"

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
    assert keys_of_filter(filter_, K) == keys


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
    named = keys_of_filter(condition, K)
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
    assert key_of_document({"k": "a"}, K) == "a"
    assert key_of_document({"user": {"id": "u1"}}, USER_ID) == "u1"
    for document in ({}, {"k": ""}, {"k": 5}, {"k": None}, {"k": ["a"]}, {"user": 1}):
        assert key_of_document(document, K) is None
        assert key_of_document(document, USER_ID) is None


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
        ([{"$replaceWith": {"n": 1, "k": "$k"}}], None),
        ([{"$replaceWith": {"n": 1, "k": "$n"}}], "$replaceWith"),
        ([{"$replaceWith": "$$ROOT"}], None),
        ([{"$replaceWith": "$n"}], "$replaceWith"),
        ([{"$replaceWith": {"$mergeObjects": ["$n", "$$ROOT", {"n": 1}]}}], None),
        ([{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"k": "$k"}]}}], None),
        ([{"$replaceWith": {"$mergeObjects": ["$$ROOT", "$n"]}}], "$replaceWith"),
        ([{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"k.x": 1}]}}], "$replaceWith"),
        ([{"$replaceWith": {"$arrayToObject": "$n"}}], "$replaceWith"),
        ([{"$replaceRoot": {"newRoot": {"$mergeObjects": [{"k": "z"}, "$$ROOT"]}}}], None),
        ([{"$replaceRoot": {"newRoot": "$n"}}], "$replaceRoot"),
        ([{"$project": {"k": 1, "n": {"$add": ["$n", 1]}}}], None),
        ([{"$project": {"k": True, "n": 1, "_id": 0}}], None),
        ([{"$project": {"n": 0, "_id": 0}}], None),
        ([{"$project": {"n": 1}}], "$project"),
        ([{"$project": {"k": "$n"}}], "$project"),
        ([{"$project": {"k": 0}}], "$project"),
        ([{"$project": {"_id": 0}}], "$project"),
        ([{"$project": {"k": "a"}}], "$project"),
    ],
)
def test_an_update_that_may_change_the_key_is_found(update, culprit) -> None:
    assert change_of_key(update, K, "a") == culprit


def test_a_nested_key_field_is_protected_too() -> None:
    assert change_of_key({"$set": {"user": {"id": "x"}}}, USER_ID, "u1") == "$set"
    assert change_of_key({"$set": {"user.name": "x"}}, USER_ID, "u1") is None


@pytest.mark.parametrize(
    ("sharded", "value", "key"),
    [
        (INTEGERS, 5, "5"),
        (INTEGERS, Int64(-7), "-7"),
        (INTEGERS, 5.0, "5"),
        (OBJECT_IDS, ObjectId(HEX), HEX),
        (UUIDS, UUID(DASHED), DASHED),
        (UUIDS, Binary(UUID(DASHED).bytes, 4), DASHED),
    ],
)
def test_keys_of_other_types_are_named_by_their_values_and_handed_on_as_text(sharded, value, key) -> None:
    assert keys_of_filter({"k": value}, sharded) == keys_of_filter({"k": {"$in": [value, value]}}, sharded) == (key,)
    assert key_of_document({"k": value}, sharded) == key
    assert change_of_key({"$set": {"k": value}}, sharded, key) is None
    assert limited({"k": value, "n": 1}, sharded, key) == {"k": value, "n": 1}
    assert key_argument(value, sharded.key_type) == key_argument(key, sharded.key_type) == key


@pytest.mark.parametrize(
    ("sharded", "value"),
    [(INTEGERS, "5"), (INTEGERS, 5.5), (INTEGERS, True), (OBJECT_IDS, HEX), (UUIDS, DASHED), (K, 5), (UUIDS, b"0" * 16)],
)
def test_a_value_of_another_type_names_no_key(sharded, value) -> None:
    assert keys_of_filter({"k": value}, sharded) is None
    assert keys_of_filter({"k": {"$in": [value]}}, sharded) is None
    assert key_of_document({"k": value}, sharded) is None
    assert change_of_key({"$set": {"k": value}}, sharded, str(value)) == "$set"


def test_a_limited_filter_carries_the_typed_value() -> None:
    assert limited({"k": {"$in": [5, 6]}}, INTEGERS, "6") == {"$and": [{"k": {"$in": [5, 6]}}, {"k": 6}]}
    assert limited({"n": 1}, UUIDS, DASHED) == {"n": 1, "k": Binary(UUID(DASHED).bytes, 4)}


@pytest.mark.parametrize(
    ("key", "key_type"), [("five", KeyType.INT), (5.5, KeyType.INT), ("12", KeyType.UUID), (5, KeyType.STRING)]
)
def test_an_argument_that_is_no_key_is_refused_in_one_line(key, key_type) -> None:
    with pytest.raises(RouteRefused, match="the key is not"):
        key_argument(key, key_type)
