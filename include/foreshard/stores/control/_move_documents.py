"""The documents of ``moves`` and ``plans``: their units (older documents name one ``key``), and filters of other moves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from foreshard.model import Move, Reason
from foreshard.model.key_space import slot_unit, slots_among
from foreshard.model.move_state import BEFORE_SWITCH, MoveState
from foreshard.ports.move_journal import HistoryEntry, MoveRecord
from foreshard.stores.mongo_connections import Document

UNITS = {"units": 1, "key": 1}
"""The projection that :func:`units_of` needs."""


def units_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the units of a move."""
    units = document.get("units")
    return tuple(units) if units is not None else (document["key"],)


def excluding(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filter of open moves beside which a move may not be open."""
    touched = [slot_unit(slot) for slot in document["slots"]]
    moved = sorted(slots_among(document["units"]))
    return {"active": True, "$or": [{"units": {"$in": [*document["units"], *touched]}}, {"slots": {"$in": moved}}]}


def running_beside(move: Move) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the filters of other moves that have a place: from the move's source, and to its target. Silent ones have none."""
    running: dict[str, Any] = {
        "_id": {"$ne": move.move_id},
        "active": True,
        "notes.placed": True,
        "state": {"$in": [str(state) for state in BEFORE_SWITCH]},
        "$expr": {"$gt": ["$lease_until", "$$NOW"]},
    }
    return {**running, "source": move.source}, {**running, "target": move.target}


def skipped(document: Document, other: str) -> Document:
    """Return the document of a move that another open move excludes."""
    entry = {"state": str(MoveState.REVERTED), "event": "skip", "at": document["planned_at"], "lease": 0}
    skipped = {name: value for name, value in document.items() if name != "active"}
    skipped |= {"state": str(MoveState.REVERTED), "error": f"skipped: move {other} is under way"}
    return {**skipped, "history": [*document["history"], entry]}


def planned(move: Move, hour: datetime | None) -> Document:
    """Return the document of a planned move, without its slots."""
    now = datetime.now(UTC)
    return {
        "_id": move.move_id,
        "units": list(move.units),
        "source": move.source,
        "target": move.target,
        "clump": move.clump,
        "estimated_bytes": move.estimated_bytes,
        "reason": {"code": move.reason.code, "sentence": move.reason.sentence, "facts": dict(move.reason.facts)},
        "hour": hour,
        "state": str(MoveState.PLANNED),
        "active": True,
        "lease": 0,
        "lease_until": None,
        "stop_requested": False,
        "counters": {},
        "notes": {},
        "planned_at": now,
        "history": [{"state": str(MoveState.PLANNED), "event": "plan", "at": now, "lease": 0}],
    }


def record_of(document: Document) -> MoveRecord:
    """Read a move's document."""
    reason = document["reason"]
    return MoveRecord(
        move=Move(
            document["_id"],
            units_of(document),
            document["source"],
            document["target"],
            document["estimated_bytes"],
            document["clump"],
            Reason(reason["code"], reason["sentence"], reason["facts"]),
        ),
        state=MoveState(document["state"]),
        hour=document["hour"],
        lease=document["lease"],
        lease_until=document.get("lease_until"),
        stop_requested=document["stop_requested"],
        position=document.get("position"),
        opened_from=document.get("opened_from"),
        version=document.get("version"),
        error=document.get("error"),
        counters=document["counters"],
        notes=document["notes"],
        history=tuple(HistoryEntry(MoveState(h["state"]), h["event"], h["at"], h["lease"]) for h in document["history"]),
    )
