"""Moves that people ask for: move units now, preview that, and take moves back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from foreshard.errors import MoveRefused, PlacementRuleBroken
from foreshard.model import Move, Placement, Reason
from foreshard.model.key_space import slots_among, unit_label, units_label
from foreshard.model.move_state import AFTER_SWITCH, CLEANABLE, PENDING
from foreshard.model.unit_set import UnitSet, unit_set
from foreshard.move.context import MoveSummary
from foreshard.move.undoing import can_adopt
from foreshard.move.undoing import undo_move as adopt_copy
from foreshard.ports.move_journal import MoveRecord
from foreshard.stages._ports import WithMoveJournal, WithRouting, WithUnitCopies
from foreshard.stages.migrate import finish_cleaning, revert_move, run_move
from foreshard.stages.moving.context import MovePorts, Notify, moving
from foreshard.stages.rules import RuleCheckPorts, require_allowed


class MoveUnitsPorts(MovePorts, RuleCheckPorts, Protocol):
    """The ports of running a move and checking placement rules."""


class UndoListPorts(WithMoveJournal, WithRouting, Protocol):
    """Reads the journal and the routing table."""


class MovePreviewPorts(RuleCheckPorts, WithRouting, WithUnitCopies, Protocol):
    """Reads the routing table, placement rules, and the units' documents. Writes nothing."""


def move_units(
    ports: MoveUnitsPorts, units: Sequence[str], target: str, reason: Reason | None = None, notify: Notify | None = None
) -> MoveSummary:
    """Move units from their current partition to ``target``, as one move.

    Raise an error if they are on several partitions, or a placement rule forbids it.
    """
    owners = ports.routing.placements(units)
    source = _only_source(units, [owners[unit] for unit in units])
    require_allowed(ports, units, target)
    why = reason or Reason("manual", "requested by a person")
    move = Move(f"manual-{uuid.uuid4().hex[:12]}", tuple(units), source, target, 0, units[0], why)
    return run_move(ports, ports.move_journal.plan(move, None).move_id, notify)


def undo_move(ports: MoveUnitsPorts, move_id: str, notify: Notify | None = None) -> MoveSummary:
    """Move a switched move's units back. Return the reverse move's summary.

    While the source's copy is kept, the reverse move takes it over: it brings the changes since the switch back and costs a
    fence. After that the units are copied.
    """
    record = ports.move_journal.get(move_id)
    if record.state not in AFTER_SWITCH:
        raise MoveRefused(move_id, f"it is {record.state}, so there is nothing to undo", "revert it instead")
    units = units_on(ports, record.move.units, record.move.target)
    if not units:
        raise MoveRefused(move_id, f"{record.move.label} is not on {record.move.target} any more", "leave it")
    why = Reason("undo", f"undo of move {move_id}", {"undoes": move_id})
    adopted = _adopt(ports, record, why)
    if adopted is not None:
        return run_move(ports, adopted, notify)
    if record.state in CLEANABLE:
        finish_cleaning(ports, move_id, notify)
    return move_units(ports, units, record.move.source, why, notify)


def _adopt(ports: MoveUnitsPorts, record: MoveRecord, why: Reason) -> str | None:
    """End the move as undone, and journal the reverse move that takes over the kept copy. Return that move's id, or None."""
    move = record.move
    require_allowed(ports, move.units, move.source)
    with moving(ports, record) as context:
        if not can_adopt(context, record):
            return None
        reverse = Move(f"undo-{uuid.uuid4().hex[:12]}", move.units, move.target, move.source, 0, move.clump, why)
        return adopt_copy(context, move.move_id, reverse).move_id


def moves_to_undo(ports: UndoListPorts, hour: datetime) -> tuple[str, ...]:
    """Return the hour's moves that still have an effect, the latest first: running, or with a unit still on their target."""
    found = ports.move_journal.find((*PENDING, *AFTER_SWITCH), hour)
    return tuple(
        record.move_id
        for record in reversed(found)
        if record.state not in AFTER_SWITCH or units_on(ports, record.move.units, record.move.target)
    )


def take_back(ports: MoveUnitsPorts, move_id: str) -> MoveSummary:
    """Revert a move that has not switched, or move its units back. A second call changes nothing."""
    record = ports.move_journal.get(move_id)
    if record.state not in AFTER_SWITCH:
        return revert_move(ports, move_id, "an hour's moves are undone")
    if not units_on(ports, record.move.units, record.move.target):
        return MoveSummary.of(record)
    return undo_move(ports, move_id)


@dataclass(frozen=True, slots=True)
class MovePreview:
    """The effect of a manual move: the units' owner, their documents per collection, and the problem that would refuse the
    move. ``left_out`` are the listed keys of the slots, which stay.
    """

    label: str
    owner: str
    epoch: int
    documents: dict[str, int]
    left_out: int
    problem: str | None


def describe_move(ports: MovePreviewPorts, units: Sequence[str], target: str) -> MovePreview:
    """Return what :func:`move_units` would do. Nothing is changed."""
    ports.registry.partition(target)
    placements = ports.routing.placements(units)
    owners = [placements[unit] for unit in units]
    source, epoch = _only_source(units, owners), max(owner.epoch for owner in owners)
    moved = _moved(ports, units)
    problem = f"it is on {target} already" if source == target else None
    copy = ports.unit_copy(source, f"preview of {units_label(units)}", moved)
    try:
        copy.shape()
        documents = dict(copy.count())
        require_allowed(ports, units, target)
    except MoveRefused as refused:
        documents, problem = {}, refused.problem
    except PlacementRuleBroken as broken:
        problem = str(broken)
    finally:
        copy.close()
    return MovePreview(units_label(units), source, epoch, documents, len(moved.exceptions), problem)


def units_on(ports: WithRouting, units: Sequence[str], partition_id: str) -> tuple[str, ...]:
    """Return the units whose primary copy is on a partition."""
    placements = ports.routing.placements(units)
    return tuple(unit for unit in units if placements[unit].primary == partition_id)


def _moved(ports: WithRouting, units: Sequence[str]) -> UnitSet:
    listed = ports.routing.listed_in(slots_among(units))
    return unit_set(units, ports.routing.space(), (placement.key for placement in listed))


def _only_source(units: Sequence[str], owners: Sequence[Placement]) -> str:
    """Return the partition of all units. Raise :class:`MoveRefused` if there are several."""
    for unit, owner in zip(units, owners, strict=True):
        if owner.primary != owners[0].primary:
            where = f"{unit_label(units[0])} is on {owners[0].primary}, {unit_label(unit)} on {owner.primary}"
            raise MoveRefused("manual", where, "move the units of each partition by themselves")
    return owners[0].primary
