"""A move's units on one partition, for one mover. Ids must be unique over the partitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.write_concern import WriteConcern

from foreshard.errors import ForeshardError, MoveRefused
from foreshard.model import ShardedCollection
from foreshard.model.unit_set import UnitSet
from foreshard.ports.migration import DocumentId, LateChange, MoveFeed, Position, RawDocument, Shape, UniqueConflict
from foreshard.stores.bson_codec import RAW, id_bytes
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._collection_shape import index_keys, missing_rules, prepare, shape
from foreshard.stores.partition._late_writes import last_writes
from foreshard.stores.partition._move_feed import MongoMoveFeed
from foreshard.stores.partition._move_lease import MoveLease
from foreshard.stores.partition._unit_documents import UnitDocuments, with_ids
from foreshard.stores.partition.fences.fence import ExpectedFence, MongoFence
from foreshard.stores.partition.fences.unit_fence import UnitFence
from foreshard.stores.partition.units.insertion import insert
from foreshard.stores.partition.units.open_cursors import reads_opened_before
from foreshard.stores.partition.units.raw_batches import portions
from foreshard.stores.partition.units.reading import UnitReading
from foreshard.stores.partition.units.removed_units import KEPT, REMOVED_UNITS, entry

DUPLICATE_KEY = 11000
STRAYS = "strays"
"""``{move_id, namespace, document, at}``: what apps wrote where another partition owned the units."""


@dataclass(frozen=True, slots=True)
class CopyScope:
    """The units, move and collections, and the batch size. ``bookkeeping`` is the database of the lease documents.

    ``expected()`` reads the fence that the routing table prescribes for the partition.
    """

    move_id: str
    units: UnitSet
    expected: ExpectedFence
    collections: tuple[ShardedCollection, ...]
    bookkeeping: str
    batch_documents: int
    fence_timeout: timedelta


class MongoUnitCopy(UnitFence, UnitReading):
    """Implements :class:`foreshard.ports.migration.UnitCopy`."""

    def __init__(self, partition_id: str, client: MongoClient[Document], scope: CopyScope) -> None:
        self._scope = scope
        self._lease = MoveLease(client, scope.bookkeeping, scope.move_id)
        fenced: Any = {"expected": scope.expected, "timeout": scope.fence_timeout, "guard": self._lease.guard}
        fences = {c.namespace: MongoFence(client, c, owner=scope.move_id, **fenced) for c in scope.collections}
        super().__init__(partition_id, scope.move_id, scope.units, client, fences)
        units = {
            c.namespace: UnitDocuments(scope.move_id, f"{c.namespace} on {partition_id}", c, scope.units)
            for c in scope.collections
        }
        session, by_name = client.start_session(causal_consistency=True), {c.namespace: c for c in scope.collections}
        self.begin_reading(by_name, units, session, scope.batch_documents)

    @property
    def partition_id(self) -> str:
        """The partition."""
        return self._partition_id

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The sharded collections."""
        return tuple(self._by_name)

    def close(self) -> None:
        """End the reading session, and armed changes that were not imposed."""
        with suppress(PyMongoError, ForeshardError):
            self.settle()
        self._reading.end_session()

    # ── lease, shape, position ───────────────────────────────────────────────────────────────────────────────────────

    def claim(self, lease: int) -> None:
        self._lease.claim(lease)

    def mark(self) -> int:
        return self._lease.mark()

    def shape(self) -> Shape:
        return shape(self._client, self._scope.collections, self._scope.move_id)

    def prepare(self, wanted: Shape) -> None:
        for each in self._scope.collections:
            like, fence = wanted.get(each.namespace), self._fences[each.namespace]
            prepare(self._client, each, like, self._scope.move_id, fence.probe)
            fence.prepare()
            rules = missing_rules(like, fence.in_force())
            if rules is not None:
                fence.set_rules(rules)
            index_keys(self._client, each, fence.probe, hashed=bool(self._scope.units.slots))

    def now(self) -> Position:
        """The partition's cluster time."""
        self._client.admin.command("ping", session=self._reading)
        return {"at": self._reading.operation_time}

    def feed(self, position: Position, *, strays: bool = False) -> MoveFeed:
        """The partition's changes after ``position``."""
        return MongoMoveFeed(
            self._client,
            self._reading,
            partition_id=self._partition_id,
            collections=self._scope.collections,
            units=self._scope.units,
            lease=self._lease,
            position=position,
            strays=strays,
        )

    # ── writing, always under the lease ──────────────────────────────────────────────────────────────────────────────

    def write(self, namespace: str, remove: Collection[DocumentId], put: Sequence[RawDocument]) -> None:

        def work(session: ClientSession) -> None:
            self._require_fence(namespace, session)
            self._replace(namespace, remove, put, session)

        try:
            self._lease.transact(work)
        except BulkWriteError as error:
            self._explain(namespace, error)

    def _replace(
        self, namespace: str, remove: Collection[DocumentId], put: Sequence[RawDocument], session: ClientSession
    ) -> None:
        collection = self._collection(namespace, in_transaction=True)
        if remove:
            own = self._units[namespace].ids_among(collection, remove, session)
            collection.delete_many(with_ids(own), session=session)
        for some in portions(put, len(put)):
            insert(collection, some, session)

    def announce_removal(self, epochs: Mapping[str, int]) -> None:
        announcement = entry(self._scope.move_id, self._scope.units, epochs)
        kept = self._client[self._scope.bookkeeping].get_collection(REMOVED_UNITS, write_concern=WriteConcern("majority"))
        kept.create_index("at", expireAfterSeconds=int(KEPT.total_seconds()))
        written = {"_id": announcement.pop("_id")}, {"$set": {**announcement, "at": datetime.now(UTC)}}
        self._lease.transact(lambda session: kept.update_one(*written, upsert=True, session=session))

    def cursors_opened_before(self, at: datetime) -> int:
        return reads_opened_before(self._client, self.namespaces, at)

    def set_aside(self, namespace: str, documents: Sequence[RawDocument]) -> None:
        strays = self._client[self._scope.bookkeeping][STRAYS]
        now = datetime.now(UTC)
        head = {"move_id": self._move_id, "namespace": namespace, "at": now}
        kept = [{**head, "document": RawBSONDocument(document.raw, RAW)} for document in documents]

        def work(session: ClientSession) -> None:
            self._require_fence(namespace, session)
            strays.insert_many([dict(each) for each in kept], session=session)
            self._replace(namespace, [document.id for document in documents], (), session)

        self._lease.transact(work)

    def remove_unchanged(self, namespace: str, documents: Sequence[RawDocument]) -> int:

        def work(session: ClientSession) -> int:
            self._require_fence(namespace, session)
            there = self._fetch(namespace, [document.id for document in documents], session)
            same = [document.id for document in documents if there.get(document.id) == document.raw]
            self._replace(namespace, same, (), session)
            return len(same)

        return self._lease.transact(work)

    def forward(self, namespace: str, changes: Mapping[DocumentId, LateChange], since: Position) -> frozenset[DocumentId]:
        """Apply changes that another partition has acknowledged. Return the ids of the documents that were kept instead.

        The transaction's snapshot is taken before the change stream is read up to a later mark. A write that the stream did not
        show therefore conflicts with the transaction.
        """

        def work(session: ClientSession) -> frozenset[DocumentId]:
            there = self._fetch(namespace, changes, session)
            written = last_writes(self._client, self._by_name[namespace], tuple(changes), since, self._lease)
            kept = frozenset(i for i, c in changes.items() if i in written and (c.raw is None or written[i] >= c.at))
            due = {i: change.raw for i, change in changes.items() if i not in kept and there.get(i) != change.raw}
            put = [RawDocument(i, raw) for i, raw in due.items() if raw is not None]
            self._replace(namespace, [i for i in due if i in there], put, session)
            return kept

        try:
            return self._lease.transact(work)
        except BulkWriteError as error:
            self._explain(namespace, error)

    # ── details ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _explain(self, namespace: str, error: BulkWriteError) -> NoReturn:
        """Explain which document conflicts with an insert: one of the same units, or another one."""
        first = error.details["writeErrors"][0]
        if first["code"] != DUPLICATE_KEY:
            raise error
        there = self._collection(namespace).find_one(dict(first["keyValue"]), session=self._reading)
        if there is None or self._units[namespace].holds(there):
            ids = frozenset() if there is None else frozenset({id_bytes(there["_id"])})
            raise UniqueConflict(namespace, ids) from error
        fields = ", ".join(first["keyPattern"])
        problem = f"{namespace} on {self._partition_id} has a document of another key with the same {fields}"
        raise MoveRefused(self._scope.move_id, problem, "make them unique over all partitions") from error
