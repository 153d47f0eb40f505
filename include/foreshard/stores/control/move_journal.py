"""The journal of moves: ``moves`` in the control database, one document per move.

``{_id: move_id, units, slots, source, target, clump, estimated_bytes, reason: {code, sentence, facts}, hour, state, active,
lease, lease_until, stop_requested, position, opened_from, version, error, counters: {…}, notes: {…}, planned_at, history:
[{state, event, at, lease}]}``. ``active`` is removed when a move ends. Leases use the database's own clock.

``slots`` are the slots of the units. A move of a slot excludes every other open move that touches this slot. Plans take turns
on ``move_planning``, so that two of them cannot miss each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.errors import MoveHasEnded, MoveSuperseded, NoRoutingTable, UnknownMove
from foreshard.model import Move
from foreshard.model.key_space import KeySpace
from foreshard.model.move_state import AFTER_SWITCH, ENDED, OF_EARLIER_VERSIONS, OPEN, MoveState
from foreshard.model.unit_set import UnitSet
from foreshard.ports.move_journal import MoveRecord
from foreshard.stores.control._counts import count_by_state
from foreshard.stores.control._move_documents import excluding, planned, record_of, running_beside, skipped
from foreshard.stores.control._transactions import in_transaction
from foreshard.stores.control.routing.store import MongoRoutingStore
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition.dead_transactions import past_dead_transactions
from foreshard.watch.state import MoveStatus

TURN = "turn"
OLD_INDEX = "one_active_move_per_key"
SILENT = {"$lt": [{"$ifNull": ["$lease_until", datetime.fromtimestamp(0, UTC)]}, "$$NOW"]}
"""The lease of a move's mover is over, by the database's clock."""
RECENT_MOVES = 50
"""The exporter shows the cutover pauses of this many moves."""


class MongoMoveJournal:
    """Implements :class:`foreshard.ports.move_journal.MoveJournal`. A lease ends ``lease_duration`` after its last renewal."""

    def __init__(self, database: Database[Document], lease_duration: timedelta) -> None:
        self._moves = database.get_collection(
            "moves", write_concern=WriteConcern("majority"), read_concern=ReadConcern("majority")
        )
        self._leases = self._moves.with_options(write_concern=WriteConcern(1))
        self._client = database.client
        self._lease_ms = int(lease_duration.total_seconds() * 1000)
        self._database, self._turn = database, database.get_collection("move_planning")
        self._prepared = False

    def plan(self, move: Move, hour: datetime | None) -> MoveRecord:
        self._prepare()
        document = {**planned(move, hour), "slots": self._slots(move.units)}

        def enter(session: ClientSession) -> None:
            self._turn.update_one({"_id": TURN}, {"$inc": {"plans": 1}}, session=session)
            if self._moves.find_one({"_id": move.move_id}, {"_id": 1}, session=session) is None:
                other = self._moves.find_one(excluding(document), {"_id": 1}, session=session)
                self._moves.insert_one(document if other is None else skipped(document, other["_id"]), session=session)

        in_transaction(self._database, enter)
        return self.get(move.move_id)

    def narrow(self, record: MoveRecord, units: Sequence[str]) -> MoveRecord:
        dropped = [unit for unit in record.move.units if unit not in set(units)]
        fields = {
            "units": list(units),
            "slots": self._slots(units),
            "notes.dropped": dropped,
            "lease_until": record.lease_until,
        }
        return self._change(record, fields)

    def claim_place(self, record: MoveRecord, most: int) -> MoveRecord | None:
        def enter(session: ClientSession) -> MoveRecord | None:
            self._turn.update_one({"_id": TURN}, {"$inc": {"places": 1}}, session=session)
            taken = any(self._moves.count_documents(others, session=session) >= most for others in running_beside(record.move))
            return None if taken else self._change(record, {"notes.placed": True}, session)

        return in_transaction(self._database, enter)

    def _slots(self, units: Sequence[str]) -> list[int]:
        try:
            space = MongoRoutingStore(self._database).space()
        except NoRoutingTable:
            space = KeySpace()
        return sorted(UnitSet(space, tuple(units)).touched_slots())

    def get(self, move_id: str) -> MoveRecord:
        document = self._moves.find_one({"_id": move_id})
        if document is None:
            raise UnknownMove(move_id)
        return record_of(document)

    def find(self, states: Collection[MoveState] = (), hour: datetime | None = None) -> tuple[MoveRecord, ...]:
        wanted: Document = {"state": {"$in": list(states)}} if states else {}
        if hour is not None:
            wanted["hour"] = hour
        return tuple(record_of(document) for document in self._moves.find(wanted).sort([("planned_at", 1), ("_id", 1)]))

    def take(self, move_id: str, states: Collection[MoveState] = OPEN, *, silent: bool = False) -> MoveRecord:
        wanted: Document = {"_id": move_id, "state": {"$in": list(states)}}
        if silent:
            wanted["$expr"] = SILENT
        fields: Document = {"lease": {"$add": ["$lease", 1]}, "lease_until": self._until()}
        change = [{"$set": fields if silent else {**fields, "stop_requested": False}}]
        taken = past_dead_transactions(
            self._client,
            lambda limit: self._moves.find_one_and_update(
                wanted, change, return_document=ReturnDocument.AFTER, maxTimeMS=limit
            ),
        )
        if taken is not None:
            return record_of(taken)
        record = self.get(move_id)
        if silent and record.state in states:
            raise MoveSuperseded(move_id, record.lease)
        raise MoveHasEnded(move_id, str(record.state))

    def renew(self, record: MoveRecord) -> None:
        held = {"_id": record.move_id, "lease": record.lease, "lease_until": {"$ne": None}}
        self._leases.update_one(held, [{"$set": {"lease_until": self._until()}}])

    def release(self, record: MoveRecord, waiting: str | None) -> MoveRecord:
        return self._change(record, {"lease_until": None, "notes.waiting": waiting})

    def undo(self, record: MoveRecord, reverse: Move, notes: Mapping[str, Any]) -> MoveRecord:
        now, lease = datetime.now(UTC), {"lease": 0, "lease_until": None}
        adopted = {"state": str(MoveState.CATCHING_UP), "event": "adopt", "at": now, "lease": 0}
        first = planned(reverse, None)
        document = {**first, **lease, "slots": self._slots(reverse.units), "state": adopted["state"], "notes": dict(notes)}
        document |= {"position": record.opened_from, "history": [*first["history"], adopted]}

        def enter(session: ClientSession) -> None:
            self.advance(record, MoveState.UNDONE, "undo", {"notes.undone_by": reverse.move_id}, session)
            self._moves.insert_one(document, session=session)

        in_transaction(self._database, enter)
        return self.get(reverse.move_id)

    def advance(
        self, record: MoveRecord, to: MoveState, event: str, changes: Mapping[str, Any] | None = None, session: Any = None
    ) -> MoveRecord:
        entry = {"state": str(to), "event": str(event), "at": datetime.now(UTC), "lease": record.lease}
        fields: Document = {
            "notes.waiting": None,
            **(changes or {}),
            "state": str(to),
            "history": {"$concatArrays": ["$history", [entry]]},
        }
        return self._change(record, fields, session, unset=["active"] if to in ENDED else [])

    def beat(self, record: MoveRecord, changes: Mapping[str, Any]) -> MoveRecord:
        return self._change(record, changes)

    def pause(self, record: MoveRecord) -> MoveRecord:
        return self._change(record, {"lease_until": None, "stop_requested": True})

    def request_stop(self, move_id: str) -> MoveRecord:
        asked = self._moves.find_one_and_update(
            {"_id": move_id}, {"$set": {"stop_requested": True}}, return_document=ReturnDocument.AFTER
        )
        if asked is None:
            raise UnknownMove(move_id)
        return record_of(asked)

    def abandoned(self, states: Collection[MoveState], *, stopped: bool = False) -> tuple[MoveRecord, ...]:
        wanted: Document = {"state": {"$in": list(states)}, "$expr": SILENT}
        if not stopped:
            wanted["stop_requested"] = False
        return tuple(record_of(document) for document in self._moves.find(wanted).sort([("planned_at", 1), ("_id", 1)]))

    def status(self, kept: timedelta) -> MoveStatus:
        """Return the figures that the exporter shows; the cutover pauses are those of the latest ``RECENT_MOVES``.

        A switched move waits only once its source's copy was ``kept`` for long enough.
        """
        last = {"last": {"$last": "$history.at"}}
        unfinished = list(self._moves.find({"active": True}, {"planned_at": 1, "state": 1, **last}))
        waiting = [found["last"] + kept * (found["state"] == MoveState.SWITCHED) for found in unfinished if "last" in found]
        switched = self._moves.find({"state": {"$in": list(AFTER_SWITCH)}}, {"counters.pause_ms": 1, **last})
        recent = list(switched.sort("planned_at", -1).limit(RECENT_MOVES))
        pauses = (found.get("counters", {}).get("pause_ms") for found in recent)
        return MoveStatus(
            count_by_state(self._moves),
            oldest_planned_at=min((found["planned_at"] for found in unfinished), default=None),
            waiting_since=min(waiting, default=None),
            last_transition_at=max((found["last"] for found in (*unfinished, *recent) if "last" in found), default=None),
            pauses=tuple(pause / 1000 for pause in pauses if pause is not None),
        )

    def _change(
        self,
        record: MoveRecord,
        fields: Mapping[str, Any],
        session: Any = None,
        unset: Collection[str] = (),
    ) -> MoveRecord:
        """Set ``fields`` (dotted names reach inside) if state and lease are those of ``record``. Raise if they are not."""
        values = {name: value if name == "history" else {"$literal": value} for name, value in fields.items()}
        values.setdefault("lease_until", self._until())
        stages: list[Document] = [{"$set": values}, *([{"$unset": list(unset)}] if unset else [])]
        held = {"_id": record.move_id, "state": str(record.state), "lease": record.lease}
        changed = self._moves.find_one_and_update(held, stages, return_document=ReturnDocument.AFTER, session=session)
        if changed is None:
            raise MoveSuperseded(record.move_id, record.lease)
        return record_of(changed)

    def _until(self) -> Document:
        return {"$add": ["$$NOW", self._lease_ms]}

    def _prepare(self) -> None:
        if self._prepared:
            return
        self._upgrade()
        active: Any = {"partialFilterExpression": {"active": True}}
        self._moves.create_index([("units", ASCENDING)], name="one_active_move_per_unit", unique=True, **active)
        self._moves.create_index([("slots", ASCENDING)], name="active_moves_by_slot", **active)
        self._moves.create_index([("state", ASCENDING), ("planned_at", ASCENDING)], name="by_state")
        with suppress(DuplicateKeyError):
            self._turn.update_one({"_id": TURN}, {"$setOnInsert": {"plans": 0}}, upsert=True)
        self._prepared = True

    def _upgrade(self) -> None:
        """Give moves of older versions their ``units`` and ``slots``, and today's states. Their index refuses new documents."""
        self._moves.update_many({"state": {"$in": OF_EARLIER_VERSIONS}}, {"$set": {"state": str(MoveState.FENCED)}})
        if OLD_INDEX in self._moves.index_information():
            self._moves.update_many({"units": {"$exists": False}}, [{"$set": {"units": ["$key"]}}, {"$unset": "key"}])
            self._moves.drop_index(OLD_INDEX)
        for found in self._moves.find({"active": True, "slots": {"$exists": False}}, {"units": 1}):
            self._moves.update_one({"_id": found["_id"]}, {"$set": {"slots": self._slots(found["units"])}})
