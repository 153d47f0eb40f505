"""The documents of ``moves`` and ``plans``: their units (older documents name one ``key``), and filters of other moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foreshard.model import Move
from foreshard.model.key_space import slot_unit, slots_among
from foreshard.model.move_state import BEFORE_SWITCH

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
