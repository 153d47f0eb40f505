"""A move's view of a partition's changes: which documents were touched, and where the fences are.

One stream covers the whole replica set, so the changes of all sharded collections come in one order. Events carry ids only; the
follower reads the current documents itself. The move's own deletes are left out, and with ``strays`` all that movers do: a
mover removes the copy of a document whose key has changed at the owner, which may be in another move's units now.

A position is ``{"token": …}`` or ``{"at": Timestamp}``. The resume token of a ``modify`` event contains its whole validator,
which is too large for a journal, so the cluster time is used after one (resuming there repeats the changes of that time). A
position never lies inside a transaction, because the transaction's first event says whether the rest is the move's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Timestamp
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from foreshard.errors import HistoryLost
from foreshard.model import ShardedCollection
from foreshard.model.unit_set import UnitSet
from foreshard.ports.migration import ChangeKind, Changes, DocumentId, Position, Touch
from foreshard.stores.bson_codec import id_bytes, key_value
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._change_stream import (
    COLLECTION_EVENTS,
    PUTS,
    LeaseStream,
    history_lost_as,
    namespace_of,
    transaction_of,
)
from foreshard.stores.partition._move_lease import MoveLease
from foreshard.stores.partition._slot_filter import inside_slots
from foreshard.stores.partition.fences.fence_validator import ERROR, STRICT, is_enforced, revision_of

AWAIT_MS = 2
"""How long an empty read waits for events. The stream is read in loops that must not delay a cutover."""
MAXIMUM_TOKEN = 4_000


class MongoMoveFeed:
    """Implements :class:`foreshard.ports.migration.MoveFeed` for some units and the move that holds ``lease``.

    ``strays``: only changes of standing documents, without those by movers. Inserts are the move's, so they are not read.
    """

    def __init__(
        self,
        client: MongoClient[Document],
        session: ClientSession,
        *,
        partition_id: str,
        collections: Sequence[ShardedCollection],
        units: UnitSet,
        lease: MoveLease,
        position: Position,
        strays: bool = False,
    ) -> None:
        self._strays = strays
        self._partition_id = partition_id
        self._position: Position = position
        self._reached: Position = position
        self._transaction: tuple[Any, int] | None = None
        self._fences: dict[str, int] = {}
        with history_lost_as(self._lost):
            wanted = _wanted(collections, units, strays)
            self._stream = LeaseStream(client, session, wanted, lease, position, await_ms=AWAIT_MS, of_all=strays)

    @property
    def position(self) -> Position:
        return self._position

    @property
    def fences_seen(self) -> Mapping[str, int]:
        return self._fences

    @property
    def mark_seen(self) -> int:
        return self._stream.mark

    def poll(self, limit: int, *, until_fences: Mapping[str, int] | None = None, until_mark: int | None = None) -> Changes:
        batch = _Batch()
        with history_lost_as(self._lost):
            for _ in range(limit):
                if self._has_seen(until_fences, until_mark):
                    break
                event = self._stream.read()
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

    def _lost(self, _failure: OperationFailure) -> HistoryLost:
        return HistoryLost(self._partition_id)

    def _has_seen(self, fences: Mapping[str, int] | None, mark: int | None) -> bool:
        if fences is not None and all(self._fences.get(name, -1) >= revision for name, revision in fences.items()):
            return True
        return mark is not None and self._stream.mark >= mark

    def _take(self, event: Document, batch: _Batch) -> None:
        namespace, kind = namespace_of(event), event["operationType"]
        at = event["wallTime"].replace(tzinfo=UTC)
        batch.last_at = at
        if self._stream.is_of_lease(event) or (self._strays and self._stream.is_of_mover(event)):
            return
        if kind in COLLECTION_EVENTS:
            batch.broken = f"{kind} of {namespace}"
        elif kind == "modify":
            self._take_modify(namespace, event.get("validator"), batch)
        elif kind in PUTS:
            batch.touch(namespace, id_bytes(event["documentKey"]["_id"]), Touch(ChangeKind.PUT, at))
        elif kind == "delete" and not self._stream.is_own(event):
            batch.touch(namespace, id_bytes(event["documentKey"]["_id"]), Touch(ChangeKind.REMOVE, at))

    def _take_modify(self, namespace: str, validator: Document | None, batch: _Batch) -> None:
        """Note a fence's revision. A lower one than before is a late ``collMod`` of an older fence, which lifts this one."""
        if validator is None:
            return
        enforced = is_enforced(validator.get("level", STRICT), validator.get("action", ERROR))
        revision = revision_of(validator["head"]) if enforced else None
        if revision is not None and revision >= self._fences.get(namespace, 0):
            self._fences[namespace] = revision
            batch.unfenced.discard(namespace)
        else:
            self._fences.pop(namespace, None)
            batch.unfenced.add(namespace)

    def _follow(self, event: Document) -> None:
        """Move the position to just before ``event``, unless both are in one transaction."""
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
    """Collects the result of one poll."""

    def __init__(self) -> None:
        self.touched: dict[str, dict[DocumentId, Touch]] = {}
        self.unfenced: set[str] = set()
        self.broken: str | None = None
        self.at_end = False
        self.last_at: datetime | None = None

    def touch(self, namespace: str, identity: DocumentId, touch: Touch) -> None:
        self.touched.setdefault(namespace, {})[identity] = touch

    def freeze(self) -> Changes:
        lag = timedelta() if self.at_end or self.last_at is None else datetime.now(UTC) - self.last_at
        return Changes(self.touched, frozenset(self.unfenced), self.broken, self.at_end, max(lag, timedelta()))


def _wanted(collections: Sequence[ShardedCollection], units: UnitSet, strays: bool) -> list[dict[str, Any]]:
    """The events of interest. An insert carries its document, so the server filters inserts by key and slot."""
    ours: list[dict[str, Any]] = []
    for each in collections:
        place = {"ns.db": each.database, "ns.coll": each.collection}
        of_units: list[dict[str, Any]] = [{"operationType": {"$ne": "insert"}}]
        if strays:
            ours.append({**place, **of_units[0]})
            continue
        if units.keys:
            of_units.append({f"fullDocument.{each.key_field}": {"$in": _values(each, units)}})
        if units.slots:
            of_units.append(inside_slots(each, units.space, units.slots, "fullDocument."))
        ours += [{**place, "$or": of_units}, {"to.db": each.database, "to.coll": each.collection}]
    ours += [{"ns.db": name, "operationType": "dropDatabase"} for name in sorted({c.database for c in collections})]
    kinds = {"operationType": {"$in": [*PUTS, *COLLECTION_EVENTS, "delete", "modify"]}}
    return [{**kinds, **each} for each in ours]


def _values(collection: ShardedCollection, units: UnitSet) -> list[Any]:
    return [key_value(key, collection.key_type) for key in sorted(units.keys)]
