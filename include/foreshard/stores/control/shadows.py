"""Shadows in the control database.

``shadows {_id: "key|target", key, source, target, state, epoch, round, reason, hour, floor, incarnation, wait_cycle, lag_ms,
caught_up_at, applied_to: {source, at}, problem, attempts, updated_at, history: [{state, at, problem}], worker, worker_until}``:
see :class:`foreshard.ports.replication.Shadow`, whose ``lease`` is stored as ``round`` and whose ``capture_id`` as
``incarnation``. A shadow is at most ``now − caught_up_at`` behind, whether or not the applier still runs. ``lag_ms`` is that
difference at the last report. ``applied_to`` is the cluster time of the source up to which the shadow has everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from bson import Timestamp
from pymongo import ReturnDocument, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.errors import NoRoutingTable, UnknownShadow
from foreshard.model import Placement
from foreshard.model.key_space import slot_unit
from foreshard.model.move_state import OPEN, PENDING
from foreshard.model.shadow_state import CAUGHT_UP, ShadowState
from foreshard.ports.replication import ApplyProgress, Shadow
from foreshard.stores.control._counts import count_by_state
from foreshard.stores.control.routing.store import MongoRoutingStore
from foreshard.stores.mongo_connections import Document
from foreshard.stores.version_documents import read_version, version_document
from foreshard.watch.state import ShadowStatus

HISTORY = 50
"""Number of state changes that are kept."""

FIELDS = tuple(field.name for field in fields(Shadow) if field.name != "shadow_id")
STORED_AS = {"lease": "round", "capture_id": "incarnation"}
"""Fields that are stored under another name."""


class MongoShadowStore:
    """Implements :class:`foreshard.ports.replication.ShadowStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._shadows = database.get_collection(
            "shadows", write_concern=WriteConcern("majority"), read_concern=ReadConcern("majority")
        )

    def create(self, shadow: Shadow) -> bool:
        now = datetime.now(UTC)
        document = {"_id": shadow.shadow_id, **_encode(asdict(shadow) | {"floor": shadow.floor}), "updated_at": now}
        del document["shadow_id"]
        try:
            self._shadows.insert_one({**document, "history": [{"state": shadow.state.value, "at": now, "problem": None}]})
        except DuplicateKeyError:
            return False
        return True

    def get(self, shadow_id: str) -> Shadow:
        found = self._shadows.find_one({"_id": shadow_id})
        if found is None:
            raise UnknownShadow(shadow_id)
        return _decode(found)

    def shadows(self, states: Sequence[ShadowState] = ()) -> tuple[Shadow, ...]:
        wanted = {"state": {"$in": [state.value for state in states]}} if states else {}
        return tuple(_decode(found) for found in self._shadows.find(wanted, {"history": 0}).sort("_id", 1))

    def of_key(self, key: str) -> tuple[Shadow, ...]:
        """Return the shadows of one key, by id."""
        return self.of_keys([key])

    def of_keys(self, keys: Iterable[str]) -> tuple[Shadow, ...]:
        """Return the shadows of some keys, by id."""
        wanted = {"key": {"$in": sorted(keys)}}
        return tuple(_decode(found) for found in self._shadows.find(wanted, {"history": 0}).sort("_id", 1))

    def history(self, shadow_id: str) -> list[Document]:
        found = self._shadows.find_one({"_id": shadow_id}, {"history": 1})
        if found is None:
            raise UnknownShadow(shadow_id)
        return list(found["history"])

    def change(
        self, shadow: Shadow, state: ShadowState, fields: Mapping[str, Any] | None = None, *, session: object | None = None
    ) -> Shadow | None:
        assert session is None or isinstance(session, ClientSession)  # noqa: S101 - for the type checker
        now = datetime.now(UTC)
        changed = {**_encode(fields or {}), "state": state.value, "updated_at": now}
        update: Document = {"$set": changed}
        if state is not shadow.state:
            note = {"state": state.value, "at": now, "problem": changed.get("problem")}
            update["$push"] = {"history": {"$each": [note], "$slice": -HISTORY}}
        found = self._shadows.find_one_and_update(
            {"_id": shadow.shadow_id, "state": shadow.state.value, "round": shadow.lease},
            update,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        return _decode(found) if found else None

    def save_freshness(self, reached: Mapping[str, ApplyProgress], now: datetime) -> None:
        fresh = {"state": {"$in": list(CAUGHT_UP)}}
        changes = [UpdateOne({"_id": shadow_id, **fresh}, {"$set": _freshness(one, now)}) for shadow_id, one in reached.items()]
        if changes:
            self._shadows.bulk_write(changes, ordered=False)

    def status(self) -> ShadowStatus:
        """Return the figures that the exporter shows."""
        oldest_per_target: list[Document] = [
            {"$match": {"state": ShadowState.LIVE}},
            {"$group": {"_id": "$target", "oldest": {"$min": "$caught_up_at"}}},
        ]
        oldest = {row["_id"]: row["oldest"] for row in self._shadows.aggregate(oldest_per_target)}
        return ShadowStatus(
            count_by_state(self._shadows),
            {partition: moment for partition, moment in oldest.items() if moment is not None},
            self._shadows.count_documents({"state": ShadowState.LIVE, "caught_up_at": None}),
        )

    def claim_work(self, shadow_id: str, worker: str, seconds: float) -> bool:
        free = {"$or": [{"$eq": ["$worker", worker]}, {"$lte": [{"$ifNull": ["$worker_until", None]}, "$$NOW"]}]}
        until = {"$add": ["$$NOW", round(seconds * 1000)]}
        done = self._shadows.update_one(
            {"_id": shadow_id, "$expr": free}, [{"$set": {"worker": worker, "worker_until": until}}]
        )
        return done.matched_count == 1

    def release_work(self, shadow_id: str, worker: str) -> None:
        """Release the claim."""
        self._shadows.update_one({"_id": shadow_id, "worker": worker}, {"$unset": {"worker": 1, "worker_until": 1}})

    def placements(self, keys: Sequence[str]) -> dict[str, Placement]:
        rows = self._database.get_collection("routing_table", read_concern=ReadConcern("majority"))
        found = rows.find({"_id": {"$in": list(keys)}})
        return {row["_id"]: Placement(row["_id"], row["primary"], tuple(row["shadows"]), int(row["epoch"])) for row in found}

    def left(self, key: str, primary: str, since_epoch: int, epoch: int) -> bool:
        stayed: set[int] = set()
        units = self._units_of(key)
        for name in ("routing_versions", "routing_changes"):
            versions = self._database.get_collection(name, read_concern=ReadConcern("majority"))
            rows = {"$filter": {"input": "$changes", "cond": {"$in": ["$$this.key", units]}}}
            for version in versions.find({"changes.key": {"$in": units}}, {"changes": rows}):
                stayed |= {int(row["new_epoch"]) for row in version["changes"] if row["primary"] == primary}
        return not stayed.issuperset(range(since_epoch + 1, epoch + 1))

    def is_busy(self, key: str, partition_id: str) -> bool:
        incoming = {"target": partition_id, "state": {"$in": list(PENDING)}}
        outgoing = {"source": partition_id, "state": {"$in": list(OPEN)}}
        moves = self._database.get_collection("moves", read_concern=ReadConcern("majority"))
        mine = {"active": True, "units": {"$in": self._units_of(key)}, "$or": [incoming, outgoing]}
        return moves.find_one(mine, {"_id": 1}) is not None

    def _units_of(self, key: str) -> list[str]:
        """Return the units that may place a key: itself and its slot."""
        try:
            space = MongoRoutingStore(self._database).space()
        except NoRoutingTable:
            return [key]
        return [key, slot_unit(space.slot_of(key))]


def _freshness(reached: ApplyProgress, now: datetime) -> Document:
    """What is stored of how far a shadow has everything. A time of another partition than the source's is never compared."""
    moment, at = reached.seen_until, reached.committed
    stored = {"caught_up_at": moment, "lag_ms": max(0, round((now - moment).total_seconds() * 1000))}
    applied = None if at is None else {"source": at.partition, "at": Timestamp(at.seconds, at.increment)}
    return {**stored, "applied_to": applied}


def _encode(fields: Mapping[str, Any]) -> Document:
    return {
        STORED_AS.get(name, name): version_document(value) if name == "floor" and value is not None else value
        for name, value in fields.items()
    }


def _decode(document: Mapping[str, Any]) -> Shadow:
    values = {name: document.get(STORED_AS.get(name, name)) for name in FIELDS}
    floor = values["floor"]
    values |= {"state": ShadowState(document["state"]), "floor": read_version(floor) if floor else None}
    return Shadow(shadow_id=document["_id"], **values)  # type: ignore[arg-type]
