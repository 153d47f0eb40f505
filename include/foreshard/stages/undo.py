"""Undo an hour's moves: move switched keys back, and revert moves that have not switched."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from foreshard.model.move_state import AFTER_SWITCH, PENDING
from foreshard.move.context import MoveSummary
from foreshard.ports.migration import MoveRecord
from foreshard.routing.table import locate
from foreshard.stages._ports import WithMoveJournal, WithRouting
from foreshard.stages.migrate import MoveKeyPorts, revert_move, undo_move


class UndoPorts(MoveKeyPorts, Protocol):
    """Reads the journal and the routing table. Moves keys back."""


class UndoListPorts(WithMoveJournal, WithRouting, Protocol):
    """Reads the journal and the routing table."""


def moves_to_undo(ports: UndoListPorts, hour: datetime) -> tuple[str, ...]:
    """Return the hour's moves that still have an effect, the latest first: running, or with the key still on their target."""
    table = ports.routing.current()
    found = ports.move_journal.find((*PENDING, *AFTER_SWITCH), hour)
    return tuple(
        record.move_id
        for record in reversed(found)
        if record.state not in AFTER_SWITCH or locate(table, record.move.key).primary == record.move.target
    )


def take_back(ports: UndoPorts, move_id: str) -> MoveSummary:
    """Revert a move that has not switched, or move its key back. A second call changes nothing."""
    record = ports.move_journal.get(move_id)
    if record.state not in AFTER_SWITCH:
        return revert_move(ports, move_id, "an hour's moves are undone")
    if not _has_effect(ports, record):
        return MoveSummary.of(record)
    return undo_move(ports, move_id)


def _has_effect(ports: WithRouting, record: MoveRecord) -> bool:
    return locate(ports.routing.current(), record.move.key).primary == record.move.target
