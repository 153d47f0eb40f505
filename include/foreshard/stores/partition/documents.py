"""One partition's documents as exact BSON, for copying and comparing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from pymongo.write_concern import WriteConcern

from foreshard.errors import ReplicaRefused
from foreshard.model import ShardedCollection
from foreshard.ports.replicas import DocumentReader
from foreshard.stores.bson_codec import exact, identity_of, key_filter
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._indexes import create_missing, index_definitions

Batch = dict[bytes, tuple[Any, bytes]]


class MongoDocumentReader:
    """Implements :class:`foreshard.ports.replicas.DocumentReader`. Reads see at least the last ``cluster_time``."""

    def __init__(self, client: MongoClient[Document], bookkeeping_database: str) -> None:
        self._client = client
        self._clock = client[bookkeeping_database].get_collection("shadow_clock", write_concern=WriteConcern("majority"))
        self._after: Timestamp | None = None

    def cluster_time(self) -> tuple[int, int]:
        time: Timestamp = self._client.admin.command("ping")["operationTime"]
        self._after = time
        return time.time, time.inc

    def tick(self) -> tuple[int, int]:
        with self._client.start_session() as session:
            self._clock.update_one({"_id": "tick"}, {"$inc": {"ticks": 1}}, upsert=True, session=session)
            time = session.operation_time
        if time is None:
            raise ReplicaRefused("the server gave no time for a write")
        self._after = time
        return time.time, time.inc

    def scan(self, collection: ShardedCollection, key: str, batch: int) -> Iterator[Batch]:
        with self._client.start_session() as session:
            if self._after is not None:
                session.advance_operation_time(self._after)
            found: Batch = {}
            for document in self._documents(collection).find(key_filter(collection, [key]), session=session, batch_size=batch):
                found[identity_of(collection.namespace, document["_id"])] = (document["_id"], bytes(document.raw))
                if len(found) >= batch:
                    yield found
                    found = {}
            if found:
                yield found

    def fetch(self, collection: ShardedCollection, key: str, ids: Sequence[Any]) -> Batch:
        found = self._of_key(collection, key, ids)
        return {identity_of(collection.namespace, d["_id"]): (d["_id"], bytes(d.raw)) for d in found}

    def present(self, collection: ShardedCollection, key: str, ids: Sequence[Any]) -> frozenset[bytes]:
        return frozenset(identity_of(collection.namespace, d["_id"]) for d in self._of_key(collection, key, ids, {"_id": 1}))

    def indexes(self, collection: ShardedCollection) -> list[Document]:
        """Return the index definitions as ``createIndexes`` takes them."""
        return list(index_definitions(self._client[collection.database][collection.collection]))

    def copy_indexes_from(self, other: DocumentReader, collection: ShardedCollection) -> None:
        for index in other.indexes(collection):
            with suppress(OperationFailure):  # the partition's own indexes may conflict with it
                create_missing(self._client[collection.database][collection.collection], [index])

    def _of_key(
        self, collection: ShardedCollection, key: str, ids: Sequence[Any], fields: dict[str, int] | None = None
    ) -> list[RawBSONDocument]:
        with self._client.start_session() as session:
            if self._after is not None:
                session.advance_operation_time(self._after)
            wanted = {"_id": {"$in": list(ids)}, **key_filter(collection, [key])}
            return list(self._documents(collection).find(wanted, fields, session=session, batch_size=max(1, len(ids))))

    def _documents(self, collection: ShardedCollection) -> Collection[RawBSONDocument]:
        return exact(self._client[collection.database][collection.collection])
