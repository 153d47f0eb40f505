"""Clients of collections whose keys are integers, ObjectIds or UUIDs, on real partitions."""

from __future__ import annotations

from uuid import UUID

import pytest
from bson import Int64, ObjectId
from pymongo import InsertOne, UpdateOne

from foreshard.errors import RouteRefused, UnroutableOperation
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType
from foreshard.stores.bson_codec import key_text, key_value

VALUES = {
    KeyType.INT: (7, Int64(-3), 2**40),
    KeyType.OBJECT_ID: tuple(ObjectId(f"64b00000000000000000000{digit}") for digit in "abc"),
    KeyType.UUID: tuple(UUID(int=number) for number in (1, 2, 3)),
}


@pytest.fixture(params=list(VALUES))
def sharded(request, unique_name: str) -> ShardedCollection:
    return ShardedCollection(unique_name, "things", "station", key_type=request.param)


@pytest.fixture
def keys(sharded, answerer) -> tuple[object, ...]:
    """Three keys: on alpha, on beta, on gamma."""
    values = VALUES[sharded.key_type]
    for value, partition in zip(values, ("alpha", "beta", "gamma"), strict=True):
        answerer.place(key_text(value, sharded.key_type), partition)
    return values


def placed(stand) -> dict[str, list[str]]:
    return {name: sorted(str(d["_id"]) for d in collection.find()) for name, collection in stand.items()}


def test_documents_of_typed_keys_are_written_to_and_read_from_their_owners(things, keys, stand) -> None:
    a, b, c = keys
    things.insert_many(
        [{"_id": f"{name}{n}", "station": value} for name, value in zip("abc", keys, strict=True) for n in (1, 2)]
    )
    assert placed(stand) == {"alpha": ["a1", "a2"], "beta": ["b1", "b2"], "gamma": ["c1", "c2"]}
    assert things.find_one({"station": b})["_id"] in ("b1", "b2")
    assert things.count_documents({"station": {"$in": [a, c]}}) == 4
    assert things.update_many({"station": {"$in": [a, b]}}, {"$set": {"n": 1}}).modified_count == 4
    assert things.update_one({"_id": "new", "station": c}, {"$set": {"n": 2}}, upsert=True).upserted_id == "new"
    things.bulk_write([InsertOne({"_id": "b3", "station": b}), UpdateOne({"station": a, "_id": "a1"}, {"$set": {"n": 3}})])
    assert things.delete_many({"station": {"$in": [b, c]}, "n": {"$exists": True}}).deleted_count == 3
    assert placed(stand) == {"alpha": ["a1", "a2"], "beta": ["b3"], "gamma": ["c1", "c2"]}
    assert things.distinct("station", {"n": 3}) == [a]


def test_a_read_over_all_partitions_sees_each_document_once_although_old_copies_remain(things, keys, stand, sharded) -> None:
    for value, copies in zip(keys, (("alpha", "beta"), ("beta", "alpha", "gamma"), ("gamma",)), strict=True):
        stored = key_value(key_text(value, sharded.key_type), sharded.key_type)
        for partition in copies:
            stand[partition].insert_one({"_id": str(value), "station": stored})
    stand["beta"].insert_many([{"_id": "array", "station": [1, 2]}, {"_id": "none"}, {"_id": "fraction", "station": 5.5}])
    found = list(things.find({}))
    assert sorted(d["_id"] for d in found) == sorted(["array", "none", "fraction", *map(str, keys)])
    assert things.aggregate([{"$match": {"station": keys[1]}}, {"$count": "n"}]).to_list() == [{"n": 1}]


def test_a_document_with_a_key_of_another_type_is_refused_in_one_line(things, keys) -> None:
    with pytest.raises(
        UnroutableOperation, match=r"a document has no partitionable key; give it an? (whole|ObjectId|UUID)"
    ) as refused:
        things.insert_one({"station": "text"})
    assert "\n" not in str(refused.value)
    with pytest.raises(UnroutableOperation, match="its filter names no partitionable key"):
        things.update_one({"station": str(keys[0])}, {"$set": {"n": 1}})


def test_a_route_is_found_by_value_and_by_text(client, keys, sharded) -> None:
    assert client.route(keys[1]).partition == client.route(key_text(keys[1], sharded.key_type).upper()).partition == "beta"
    with pytest.raises(RouteRefused, match="the key is not a"):
        client.route("not a key")
