"""One partition's changes of some keys, from a cluster-wide change stream.

The stream is read by commands (``aggregate``, ``getMore``), not by pymongo's cursor: a batch that is not full says that no more
changes were waiting when it was requested, and that makes an idle key *fresh* instead of stale.

Update events carry no document. The documents of one batch are read in one query, with their current state, which is the state
at the event or a later one (whose own event follows). Delete events carry no key. Of several changes of one document in a batch
only the last is returned. If a transaction writes a document more than once, its events share one cluster time, so they are
read the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from foreshard.consistency.vectors import VersionVector
from foreshard.errors import CaptureLost
from foreshard.model import ConflictPolicy, ShardedCollection
from foreshard.model.cluster_time import ClusterTime
from foreshard.ports.replication import CapturedChange, ChangeBatch
from foreshard.stores.bson_codec import RAW, exact, identity_of, key_filter, key_text_of, key_value
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._change_stream import COLLECTION_EVENTS, history_lost_as, namespace_of
from foreshard.stores.partition.own_transactions import VERSIONS
from foreshard.stores.version_documents import read_vector

DOCUMENT_OPERATIONS = ("update", "replace", "delete")


class MongoCaptureFeed:
    """Implements :class:`foreshard.ports.replication.CaptureFeed`."""

    def __init__(self, client: MongoClient[Document], partition_id: str, collections: Sequence[ShardedCollection]) -> None:
        self._client = client
        self._partition_id = partition_id
        self._collections = {collection.namespace: collection for collection in collections}
        self._keys: frozenset[str] = frozenset()
        self._session: ClientSession | None = None
        self._cursor = 0
        self._waiting: Sequence[RawBSONDocument] = ()

    def open(self, keys: frozenset[str], token: bytes | None) -> bytes:
        self.close()
        self._keys = keys
        start: Document = {"allChangesForCluster": True}
        if token is not None:
            start["resumeAfter"] = RawBSONDocument(token, RAW)
        pipeline = [{"$changeStream": start}, {"$match": {"$or": list(self._wanted(keys))}}]
        self._session = self._client.start_session()
        command = {"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": 0}, "readConcern": {"level": "majority"}}
        cursor = self._command(command)["cursor"]
        self._cursor, self._waiting = cursor["id"], cursor["firstBatch"]
        return bytes(cursor["postBatchResumeToken"].raw)

    def read(self, limit: int, wait_ms: int) -> ChangeBatch:
        get_more = {"getMore": self._cursor, "collection": "$cmd.aggregate", "batchSize": limit, "maxTimeMS": wait_ms}
        cursor = self._command(get_more)["cursor"]
        events = [*self._waiting, *cursor["nextBatch"]]
        self._waiting = ()
        return ChangeBatch(tuple(self._changes(events)), bytes(cursor["postBatchResumeToken"].raw), len(events) < limit)

    def committed(self) -> ClusterTime:
        """Return the newest time that a majority has.

        The reply to a read with this concern is as of that time, or of a later one, and a read of the stream that begins after
        it sees at least as much.
        """
        asked = next(iter(self._collections.values()))
        command = {"find": asked.collection, "filter": {"_id": None}, "limit": 1, "readConcern": {"level": "majority"}}
        at = self._client[asked.database].command(command, session=self._session)["operationTime"]
        return ClusterTime(self._partition_id, at.time, at.inc)

    def close(self) -> None:
        """Close the cursor."""
        if self._session is None:
            return
        try:
            if self._cursor:
                kill = {"killCursors": "$cmd.aggregate", "cursors": [self._cursor]}
                self._client.admin.command(kill, session=self._session)
        except PyMongoError:
            pass  # the server forgets idle cursors by itself
        finally:
            self._session.end_session()
            self._session, self._cursor = None, 0

    def _command(self, command: Document) -> Mapping[str, Any]:
        with history_lost_as(lambda failure: CaptureLost(self._partition_id, str(failure).split(", full error")[0])):
            return self._client.admin.command(command, codec_options=RAW, session=self._session)

    def _wanted(self, keys: frozenset[str]) -> list[Document]:
        names = [{"db": c.database, "coll": c.collection} for c in self._collections.values()]
        inserts = [
            {
                "ns": {"db": c.database, "coll": c.collection},
                "operationType": "insert",
                f"fullDocument.{c.key_field}": {"$in": [key_value(key, c.key_type) for key in sorted(keys)]},
            }
            for c in self._collections.values()
        ]
        databases = sorted({c.database for c in self._collections.values()})
        return [
            *inserts,
            {"ns": {"$in": names}, "operationType": {"$in": [*DOCUMENT_OPERATIONS, *COLLECTION_EVENTS]}},
            {"ns.db": {"$in": databases}, "operationType": "dropDatabase"},
        ]

    # ── from events to changes ───────────────────────────────────────────────────────────────────────────────────────

    def _changes(self, events: Sequence[RawBSONDocument]) -> list[CapturedChange]:
        for event in events:
            if event["operationType"] in COLLECTION_EVENTS or event["operationType"] == "invalidate":
                raise CaptureLost(self._partition_id, f"{event['operationType']} of {namespace_of(event)}")
        current = self._look_up([event for event in events if _needs_lookup(event)])
        latest: dict[bytes, CapturedChange] = {}
        for event in events:
            identity = identity_of(*_subject(event))
            change = self._change(event, identity, current.get(identity))
            if change is not None:
                before = latest.pop(identity, None)
                latest[identity] = change if before is None or not before.rekeyed else replace(change, rekeyed=True)
        return self._with_vectors(latest)

    def _change(self, event: RawBSONDocument, identity: bytes, current: RawBSONDocument | None) -> CapturedChange | None:
        namespace, document_id = _subject(event)
        collection, operation, time = self._collections[namespace], event["operationType"], event["clusterTime"]
        transaction = "txnNumber" in event
        if operation in ("insert", "replace") and not transaction:
            current = event["fullDocument"]
        rekeyed = operation == "replace" or (transaction and operation != "insert") or _sets(event, collection.key_field)
        key = key_text_of(current, collection) if current is not None else None
        if key in self._keys and current is not None:
            return CapturedChange(namespace, document_id, identity, key, bytes(current.raw), time.time, time.inc, rekeyed)
        if operation == "delete":
            return CapturedChange(namespace, document_id, identity, None, None, time.time, time.inc)
        if rekeyed and operation != "insert":
            return CapturedChange(namespace, document_id, identity, None, None, time.time, time.inc, rekeyed=True)
        return None

    def _look_up(self, events: Sequence[RawBSONDocument]) -> dict[bytes, RawBSONDocument]:
        """Return the current documents of ``events`` that carry a captured key."""
        wanted: dict[str, dict[bytes, Any]] = {}
        for event in events:
            namespace, document_id = _subject(event)
            wanted.setdefault(namespace, {})[identity_of(namespace, document_id)] = document_id
        found: dict[bytes, RawBSONDocument] = {}
        for namespace, ids in wanted.items():
            collection = self._collections[namespace]
            documents = exact(self._client[collection.database][collection.collection])
            query = {"_id": {"$in": list(ids.values())}, **key_filter(collection, sorted(self._keys))}
            for document in documents.find(query, session=self._session, batch_size=len(ids)):
                found[identity_of(namespace, document["_id"])] = document
        return found

    def _with_vectors(self, latest: Mapping[bytes, CapturedChange]) -> list[CapturedChange]:
        """Add the version vectors that the source has recorded, for ``vector_clock`` collections."""
        asked: dict[str, list[RawBSONDocument]] = {}
        for identity, change in latest.items():
            collection = self._collections[change.namespace]
            if collection.policy is ConflictPolicy.VECTOR_CLOCK:
                asked.setdefault(collection.database, []).append(RawBSONDocument(identity, RAW))
        seen: dict[bytes, VersionVector] = {}
        for database, identities in asked.items():
            records = exact(self._client[database][VERSIONS])
            for record in records.find({"_id": {"$in": identities}}, {"version": 1}, session=self._session):
                others = dict(read_vector(record["version"]).entries)
                others.pop(self._partition_id, None)
                seen[bytes(record["_id"].raw)] = VersionVector.of(others)
        return [replace(change, seen=seen.get(identity)) for identity, change in latest.items()]


def _subject(event: RawBSONDocument) -> tuple[str, Any]:
    return namespace_of(event), event["documentKey"]["_id"]


def _needs_lookup(event: RawBSONDocument) -> bool:
    return event["operationType"] == "update" or "txnNumber" in event


def _sets(event: RawBSONDocument, field: str) -> bool:
    """Return whether an update changes the key field."""
    update = event.get("updateDescription")
    return update is not None and (field in update["updatedFields"] or field in update["removedFields"])
