"""One partition as the target of shadows.

Each app database has ``foreshard_versions {_id: {ns, id}, key, version, deleted, siblings: [{version, body}], at}``, written in
the same transaction as its document. A tombstone has ``deleted: true``, and ``key: null`` if the delete came before anything
else. The partition's bookkeeping database has ``shadow_guards {_id: {key, role}, round, open, eraser, beat}``; a guard's lease
is stored as ``round``. Every writing transaction bumps the guards of its keys, so closing or raising a guard comes after that
transaction or aborts it.

Documents are written past the validator that fences the key against apps. ``_id`` must be unique over all partitions: a
document that carries another key than the replica's is never overwritten or deleted (the write fails instead).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, MongoClient, ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, CollectionInvalid, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.consistency.reconcile import UNREAD, Replica, VersionedDocument
from foreshard.errors import ReplicaRefused
from foreshard.model import ShardedCollection
from foreshard.ports.replicas import GuardsMoved, ReconcileDocuments, ReplicaWrite, Standing
from foreshard.stores.bson_codec import RAW, key_filter
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._writer_sessions import WriterSessions
from foreshard.stores.partition.fences.fence import ExpectedFence, MongoFence
from foreshard.stores.partition.own_transactions import GUARDS, VERSIONS
from foreshard.stores.version_documents import copy_document, read_copy, read_version, version_document

ROLES = ("apply", "copy")
ERASED_AT_ONCE = 1000

WriteOperation = InsertOne[Any] | ReplaceOne[Any] | DeleteOne


class MongoReplicaStore:
    """Implements :class:`foreshard.ports.replicas.ReplicaStore`."""

    def __init__(
        self,
        client: MongoClient[Document],
        collections: Sequence[ShardedCollection],
        bookkeeping_database: str,
        expected: ExpectedFence,
        fence_timeout: timedelta,
    ) -> None:
        self._client = client
        self._collections = {collection.namespace: collection for collection in collections}
        self._sessions = WriterSessions(client, bookkeeping_database)
        self._guards = client[bookkeeping_database].get_collection(GUARDS, write_concern=WriteConcern("majority"))
        self._expected, self._fence_timeout = expected, fence_timeout

    # ── guards ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, key: str, lease: int) -> bool:
        for collection in self._collections.values():
            fence = MongoFence(self._client, collection, expected=self._expected, timeout=self._fence_timeout)
            if not fence.in_force().lists.covers([key]):
                fence.fence([key])
        for database in {collection.database for collection in self._collections.values()}:
            with suppress(CollectionInvalid):
                self._client[database].create_collection(VERSIONS)
            self._client[database][VERSIONS].create_index("key")
        return all(self._open(key, role, lease) for role in ROLES)

    def _open(self, key: str, role: str, lease: int) -> bool:
        guard = {"_id": {"key": key, "role": role}}
        with suppress(DuplicateKeyError):
            opened = {"$set": {"round": lease, "open": True, "eraser": None}}
            self._guards.update_one({**guard, "round": {"$lt": lease}}, opened, upsert=True)
        return self._guards.find_one({**guard, "round": lease, "open": True}) is not None

    def revoke(self, key: str, lease: int) -> None:
        for role in ROLES:
            guard = {"_id": {"key": key, "role": role}}
            change = {"$set": {"open": False, "eraser": None}, "$max": {"round": lease}}
            self._guards.update_one(guard, change, upsert=True)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def write(
        self, role: str, leases: Mapping[str, int], identities: Sequence[tuple[str, Any, bytes]], decide: ReconcileDocuments
    ) -> int:
        """Decide and write in one transaction. Raise :class:`GuardsMoved`, or :class:`ReplicaRefused` for one bad document."""
        ids = {identity: (namespace, document_id) for namespace, document_id, identity in identities}

        def attempt(session: ClientSession) -> int:
            standing = dict(self._standing(session, ids))
            writes = decide(standing, lambda identity: self._body(session, *ids[identity]))
            touched = {w.key for w in writes} | {standing[w.identity].key for w in writes if w.identity in standing}
            self._bump(session, role, {key: lease for key, lease in leases.items() if key in touched})
            for namespace in {write.namespace for write in writes}:
                self._save(session, namespace, [w for w in writes if w.namespace == namespace], standing)
            return len(writes)

        with self._sessions.session() as session:
            try:
                return session.with_transaction(
                    attempt, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
                )
            except BulkWriteError as error:
                raise _refusal(error) from error

    def _bump(self, session: ClientSession, role: str, leases: Mapping[str, int]) -> None:
        if not leases:
            return
        bumps = [
            UpdateOne({"_id": {"key": key, "role": role}, "round": lease, "open": True}, {"$inc": {"beat": 1}})
            for key, lease in leases.items()
        ]
        if self._guards.bulk_write(bumps, ordered=False, session=session).matched_count == len(bumps):
            return
        wanted = [{"key": key, "role": role} for key in leases]
        found = self._guards.find({"_id": {"$in": wanted}, "open": True}, session=session)
        standing = {guard["_id"]["key"]: guard["round"] for guard in found}
        raise GuardsMoved(frozenset(key for key, lease in leases.items() if standing.get(key) != lease))

    def _standing(self, session: ClientSession, ids: Mapping[bytes, tuple[str, Any]]) -> Iterator[tuple[bytes, Standing]]:
        databases: dict[str, list[RawBSONDocument]] = {}
        for identity, (namespace, _) in ids.items():
            databases.setdefault(self._collections[namespace].database, []).append(RawBSONDocument(identity, RAW))
        for database, wanted in databases.items():
            records: Collection[Any] = self._client[database][VERSIONS]
            for record in records.with_options(codec_options=RAW).find(
                {"_id": {"$in": wanted}}, session=session, batch_size=len(wanted)
            ):
                shown = VersionedDocument(read_version(record["version"]), None if record["deleted"] else UNREAD)
                siblings = tuple(read_copy(sibling) for sibling in record["siblings"])
                yield bytes(record["_id"].raw), Standing(record["key"], Replica(shown, siblings))

    def _body(self, session: ClientSession, namespace: str, document_id: Any) -> bytes | None:
        collection = self._collections[namespace]
        documents: Collection[Any] = self._client[collection.database][collection.collection]
        found = documents.with_options(codec_options=RAW).find_one({"_id": document_id}, session=session)
        return bytes(found.raw) if found is not None else None

    def _save(
        self, session: ClientSession, namespace: str, writes: Sequence[ReplicaWrite], standing: Mapping[bytes, Standing]
    ) -> None:
        collection = self._collections[namespace]
        database, now = self._client[collection.database], datetime.now(UTC)
        documents: list[WriteOperation] = []
        records: list[WriteOperation] = []
        for write in writes:
            before = standing.get(write.identity)
            if write.shown_changed and write.key is not None:
                keys = [write.key] if before is None or before.key in (None, write.key) else [before.key, write.key]
                documents.append(_document_operation(collection, write, keys))
            record = _record(write, now)
            records.append(InsertOne(record) if before is None else ReplaceOne({"_id": record["_id"]}, record))
        if documents:
            database[collection.collection].bulk_write(
                documents, ordered=False, bypass_document_validation=True, session=session
            )
        if records:
            database[VERSIONS].bulk_write(records, ordered=False, session=session)

    # ── removal ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def erase(self, key: str, lease: int) -> int:
        self.revoke(key, lease)
        guard = {"_id": {"key": key, "role": "apply"}, "open": False, "round": lease}
        mine = {**guard, "eraser": uuid.uuid4().hex}
        self._guards.update_one(guard, {"$set": {"eraser": mine["eraser"]}})
        deleted = 0
        for collection in self._collections.values():
            deleted += self._erase(key, mine, collection.database, collection.collection, key_filter(collection, [key]))
        for database in {collection.database for collection in self._collections.values()}:
            self._erase(key, mine, database, VERSIONS, {"key": key})
        self._guards.update_one(mine, {"$set": {"eraser": None}})
        return deleted

    def _erase(self, key: str, guard: Document, database: str, name: str, of_key: Document) -> int:
        """Delete in batches. Each bumps the guard, so a superseded eraser deletes nothing."""
        collection, total = self._client[database][name], 0

        def attempt(session: ClientSession) -> int:
            if self._guards.update_one(guard, {"$inc": {"beat": 1}}, session=session).matched_count != 1:
                raise GuardsMoved(frozenset([key]))
            ids = [found["_id"] for found in collection.find(of_key, {"_id": 1}, session=session).limit(ERASED_AT_ONCE)]
            return collection.delete_many({"_id": {"$in": ids}, **of_key}, session=session).deleted_count if ids else 0

        with self._sessions.session() as session:
            while some := session.with_transaction(
                attempt, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
            ):
                total += some
        return total

    def take_over(self) -> int:
        return self._sessions.end_others()

    def purge_tombstones(self, before: datetime) -> int:
        databases = {collection.database for collection in self._collections.values()}
        old = {"deleted": True, "siblings": [], "at": {"$lt": before}}
        return sum(self._client[name][VERSIONS].delete_many(old).deleted_count for name in databases)


def _document_operation(collection: ShardedCollection, write: ReplicaWrite, keys: Sequence[str]) -> WriteOperation:
    body = write.replica.shown.body
    mine = {"_id": write.document_id, **key_filter(collection, keys)}
    return DeleteOne(mine) if body is None else ReplaceOne(mine, RawBSONDocument(body, RAW), upsert=True)


def _record(write: ReplicaWrite, now: datetime) -> Document:
    return {
        "_id": RawBSONDocument(write.identity, RAW),
        "key": write.key,
        "version": version_document(write.replica.shown.version),
        "deleted": write.replica.shown.deleted,
        "siblings": [copy_document(copy) for copy in write.replica.siblings],
        "at": now,
    }


def _refusal(error: BulkWriteError) -> PyMongoError | ReplicaRefused:
    problems = error.details.get("writeErrors") or []
    return ReplicaRefused(str(problems[0].get("errmsg", "refused"))) if problems else error
