"""The change stream of a partition as a move reads it: which documents were touched, and where fences stand.

One stream over the whole replica set, filtered by the server to the sharded collections and the move's own lease document, so
that their changes come in one order. Events carry ids only: whoever follows reads the latest state itself. The deletes that
the move made are known by their transaction, which has bumped the lease document, and are left out.

A position is ``{"token": …}`` or ``{"at": Timestamp}``: the resume token of a ``modify`` event holds its whole validator, too
much for a journal, so after one of those the cluster time serves (resuming by it repeats what happened at that time). A
position never lies inside a transaction: its first event tells whether the rest is the move's own work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Timestamp
from pymongo import MongoClient
from pymongo.change_stream import ChangeStream
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from foreshard.errors import HistoryLost
from foreshard.model import ShardedCollection
from foreshard.ports.migration import ChangeKind, Changes, DocumentId, Position, Touch
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._move_lease import MoveLease
from foreshard.stores.partition.fence_validator import read_options
from foreshard.stores.raw_bson import id_bytes

AWAIT_MS = 2
"""How long an empty read waits for more: the stream is read in loops that must not hold up a cutover."""
MAXIMUM_TOKEN = 4_000
LOST = frozenset({136, 260, 280, 286})
"""Capped position lost, invalid resume token, change stream fatal error, history lost."""
VALIDATION = ("validator", "validationLevel", "validationAction")
PUTS = ("insert", "update", "replace")
BREAKS = ("drop", "rename", "dropDatabase")


class MongoMoveFeed:
    """Implements :class:`foreshard.ports.migration.ChangeFeed` for the key ``key`` and the move ``move_id``."""

    def __init__(
        self,
        client: MongoClient[Document],
        session: ClientSession,
        *,
        partition_id: str,
        collections: Sequence[ShardedCollection],
        key: str,
        lease: MoveLease,
        position: Position,
    ) -> None:
        self._partition_id, self._key, self._move_id = partition_id, key, lease.move_id
        self._fields = {c.namespace: c.key_field for c in collections}
        self._lease_namespace = ".".join(lease.namespace)
        self._position = position
        self._reached: Position = position
        self._transaction: tuple[Any, int] | None = None
        self._own: tuple[Any, int] | None = None
        self._mark, self._fences = -1, dict[str, int]()
        with _history(partition_id):
            self._stream: ChangeStream[Document] = client.watch(
                _pipeline(collections, key, lease),
                max_await_time_ms=AWAIT_MS,
                session=session,
                show_expanded_events=True,
                **start_at(position, session),
            )

    @property
    def position(self) -> Position:
        """Where to resume."""
        return self._position

    @property
    def fences_seen(self) -> Mapping[str, int]:
        """Namespace → revision of the fence with our key that was read last."""
        return self._fences

    @property
    def mark_seen(self) -> int:
        """The highest count of the lease document that was read."""
        return self._mark

    def poll(self, limit: int, *, until_fences: Mapping[str, int] | None = None, until_mark: int | None = None) -> Changes:
        """Read up to ``limit`` events, until the end or until what is waited for."""
        batch = _Batch()
        with _history(self._partition_id):
            for _ in range(limit):
                if self._seen(until_fences, until_mark):
                    break
                event = self._stream.try_next()
                if event is None:
                    batch.at_end = True
                    self._position = self._reached = self._here(None)
                    break
                self._follow(event)
                self._take(event, batch)
        return batch.freeze()

    def close(self) -> None:
        """Close the server's cursor."""
        self._stream.close()

    def _seen(self, fences: Mapping[str, int] | None, mark: int | None) -> bool:
        if fences is not None and all(self._fences.get(name, -1) >= revision for name, revision in fences.items()):
            return True
        return mark is not None and self._mark >= mark

    def _take(self, event: Document, batch: _Batch) -> None:
        place = event.get("ns", {})
        namespace, kind = f"{place.get('db')}.{place.get('coll')}", event["operationType"]
        at = event["wallTime"].replace(tzinfo=UTC)
        batch.last_at = at
        if namespace == self._lease_namespace:
            if event["documentKey"]["_id"] == self._move_id:
                self._own = transaction_of(event)
            else:
                self._mark = max(self._mark, event.get("mark") or -1)
        elif kind in BREAKS:
            batch.broken = f"{kind} of {namespace if place.get('coll') else place.get('db')}"
        elif kind == "modify":
            self._take_modify(namespace, event.get("operationDescription") or {}, batch)
        elif kind in PUTS:
            batch.touch(namespace, id_bytes(event["documentKey"]["_id"]), Touch(ChangeKind.PUT, at))
        elif kind == "delete" and (self._own is None or transaction_of(event) != self._own):
            batch.touch(namespace, id_bytes(event["documentKey"]["_id"]), Touch(ChangeKind.REMOVE, at))

    def _take_modify(self, namespace: str, description: Document, batch: _Batch) -> None:
        if not any(name in description for name in VALIDATION):
            return
        fence = read_options(description, self._fields[namespace])
        if self._key in fence.keys:
            self._fences[namespace] = fence.revision
            batch.unfenced.discard(namespace)
        else:
            self._fences.pop(namespace, None)
            batch.unfenced.add(namespace)

    def _follow(self, event: Document) -> None:
        """Move the position up to before ``event`` unless both lie in one transaction."""
        transaction = transaction_of(event)
        if transaction is None or transaction != self._transaction:
            self._position = self._reached
        self._transaction = transaction
        self._reached = self._here(event["clusterTime"])

    def _here(self, clock: Timestamp | None) -> Position:
        token = self._stream.resume_token
        if token is not None and len(token.get("_data", "")) <= MAXIMUM_TOKEN:
            return {"token": dict(token)}
        return self._reached if clock is None else {"at": clock}


class _Batch:
    """What one poll gathers."""

    def __init__(self) -> None:
        self.touched: dict[str, dict[DocumentId, Touch]] = {}
        self.unfenced: set[str] = set()
        self.broken: str | None = None
        self.at_end = False
        self.last_at: datetime | None = None

    def touch(self, namespace: str, identity: DocumentId, touch: Touch) -> None:
        self.touched.setdefault(namespace, {})[identity] = touch

    def freeze(self) -> Changes:
        behind = timedelta() if self.at_end or self.last_at is None else datetime.now(UTC) - self.last_at
        return Changes(self.touched, frozenset(self.unfenced), self.broken, self.at_end, max(behind, timedelta()))


def transaction_of(event: Document) -> tuple[Any, int] | None:
    """The transaction that an event belongs to."""
    return (event["lsid"]["id"], event["txnNumber"]) if "txnNumber" in event and "lsid" in event else None


def start_at(position: Position, session: ClientSession) -> dict[str, Any]:
    """How ``watch`` starts at a position."""
    if "token" in position:
        return {"resume_after": dict(position["token"])}
    session.advance_operation_time(position["at"])
    return {"start_at_operation_time": position["at"]}


def mark_of_event(lease: MoveLease) -> dict[str, Any]:
    """The number of a mark, as an expression on its change event (an update, or the first one's insert)."""
    number = {"$ifNull": ["$updateDescription.updatedFields.batches", "$fullDocument.batches"]}
    return {"$cond": [{"$eq": ["$ns.coll", lease.namespace[1]]}, number, None]}


def _pipeline(collections: Sequence[ShardedCollection], key: str, lease: MoveLease) -> list[dict[str, Any]]:
    ours: list[dict[str, Any]] = []
    for each in collections:
        place = {"ns.db": each.database, "ns.coll": each.collection}
        wanted = [{"operationType": {"$ne": "insert"}}, {f"fullDocument.{each.key_field}": key}]
        ours += [{**place, "$or": wanted}, {"to.db": each.database, "to.coll": each.collection}]
    ours += [{"ns.db": name, "operationType": "dropDatabase"} for name in sorted({c.database for c in collections})]
    kinds = [*PUTS, *BREAKS, "delete", "modify"]
    return [
        {"$match": {"operationType": {"$in": kinds}, "$or": [*ours, lease.events()]}},
        {"$set": {"mark": mark_of_event(lease)}},
        {"$unset": ["fullDocument", "updateDescription", "stateBeforeChange"]},
    ]


@contextmanager
def _history(partition_id: str) -> Iterator[None]:
    """Raise :class:`HistoryLost` for the server's ways to say that its oplog no longer reaches back far enough."""
    try:
        yield
    except OperationFailure as error:
        if error.code in LOST:
            raise HistoryLost(partition_id) from error
        raise
