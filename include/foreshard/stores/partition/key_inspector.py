"""Counts what one partition's documents hold in their key field, and makes the hashed index on it."""

from __future__ import annotations

import time
from typing import Any

from bson import Binary
from bson.binary import UUID_SUBTYPE
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from foreshard.errors import ArrayKeys
from foreshard.model import ShardedCollection
from foreshard.model.key_space import SLOT_MARK, KeyType
from foreshard.ports.keys import IndexMade, KeyKinds
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._indexes import index_definitions

INDEX_NAME = "foreshard_hashed"
ARRAY_IN_HASHED_INDEX = 16766
USABLE = "usable"
LEAST_UUID, MOST_UUID = (Binary(bytes([byte]) * 16, UUID_SUBTYPE) for byte in (0, 255))


class MongoKeyInspector:
    """Implements :class:`foreshard.ports.keys.KeyInspector`."""

    def __init__(self, partition_id: str, client: MongoClient[Document]) -> None:
        self._partition_id, self._client = partition_id, client

    def kinds(self, collection: ShardedCollection, sample: int | None = None) -> KeyKinds:
        database = self._client.get_database(collection.database, read_preference=ReadPreference.SECONDARY_PREFERRED)
        value = f"${collection.key_field}"
        kind = {"$cond": [_usable(value, collection.key_type), USABLE, {"$type": value}]}
        pipeline: list[Document] = [{"$sample": {"size": sample}}] if sample else []
        rows = database[collection.collection].aggregate([*pipeline, {"$group": {"_id": kind, "n": {"$sum": 1}}}])
        found = {row["_id"]: row["n"] for row in rows}
        return KeyKinds(sum(found.values()), {name: n for name, n in sorted(found.items()) if name != USABLE})

    def make_hashed_index(self, collection: ShardedCollection) -> IndexMade | None:
        documents = self._client[collection.database][collection.collection]
        if collection.collection not in documents.database.list_collection_names(filter={"name": collection.collection}):
            return None
        wanted = {collection.key_field: "hashed"}
        if any(dict(index["key"]) == wanted for index in index_definitions(documents)):
            return None
        begun = time.monotonic()
        try:
            documents.create_index([(collection.key_field, "hashed")], name=INDEX_NAME)
        except OperationFailure as error:
            if error.code == ARRAY_IN_HASHED_INDEX or "array" in str(error).split(", full error")[0]:
                raise ArrayKeys(collection.namespace, self._partition_id, collection.key_field) from error
            raise
        return IndexMade(documents.estimated_document_count(), time.monotonic() - begun, _size(documents))


def _usable(value: str, key_type: KeyType) -> Any:
    """Return the expression that is true for a key of this type."""
    kind = {"$type": value}
    if key_type is KeyType.STRING:
        marked = {"$eq": [{"$indexOfBytes": [value, SLOT_MARK]}, 0]}
        return {"$cond": [{"$eq": [kind, "string"]}, {"$not": [marked]}, False]}
    if key_type is KeyType.INT:
        return {"$in": [kind, ["int", "long"]]}
    if key_type is KeyType.OBJECT_ID:
        return {"$eq": [kind, "objectId"]}
    return {"$and": [{"$gte": [value, LEAST_UUID]}, {"$lte": [value, MOST_UUID]}]}


def _size(documents: Collection[Document]) -> int:
    stats = next(iter(documents.aggregate([{"$collStats": {"storageStats": {}}}])))
    return int(stats["storageStats"]["indexSizes"].get(INDEX_NAME, 0))
