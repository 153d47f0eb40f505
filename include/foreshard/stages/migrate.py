"""Move keys: journal the plan's moves, run them, clean their sources; stop, resume, revert and undo them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from foreshard.errors import IllegalTransition, MoveRefused, MoveSuperseded, PlacementRuleBroken
from foreshard.model import Move, Placement, Reason
from foreshard.model.move_state import AFTER_SWITCH, CLEANABLE, ENDED, OPEN, PENDING, RUNNING, MoveState
from foreshard.move import mover
from foreshard.move.context import MoveContext, MoveSummary
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import MoveRecord
from foreshard.routing.table import locate
from foreshard.stages._ports import (
    WithFences,
    WithKeyCopies,
    WithMigrateSettings,
    WithMoveJournal,
    WithPlans,
    WithRegistry,
    WithRouting,
    WithShadowAbsorber,
)
from foreshard.stages.rules import RuleCheckPorts, allowed_moves, require_allowed

LOG = logging.getLogger("foreshard.move")
Notify = Callable[[MoveRecord], None]


class MovePorts(WithMoveJournal, WithKeyCopies, WithRouting, WithShadowAbsorber, WithMigrateSettings, Protocol):
    """Reads the routing table. Writes the journal, both copies of the key, and its row of the table."""


class FencePorts(WithRegistry, WithFences, Protocol):
    """Reads the registered partitions. Repairs their fences."""


class ResumeMovesPorts(MovePorts, FencePorts, Protocol):
    """The ports of running moves and repairing fences."""


class StartMovesPorts(FencePorts, RuleCheckPorts, WithPlans, WithMoveJournal, Protocol):
    """Reads the plan, placement rules and fences. Writes the journal."""


class MoveKeyPorts(MovePorts, RuleCheckPorts, Protocol):
    """The ports of running a move and checking placement rules."""


class UndoListPorts(WithMoveJournal, WithRouting, Protocol):
    """Reads the journal and the routing table."""


class MovePreviewPorts(RuleCheckPorts, WithRouting, WithKeyCopies, Protocol):
    """Reads the routing table, placement rules, and the key's documents. Writes nothing."""


def start_moves(ports: StartMovesPorts, hour: datetime) -> tuple[str, ...]:
    """Journal the plan's moves and return the ids of the moves to run; none for a dry run. Repair fences that apps have lifted.

    A second call returns the moves that have not ended. Moves of earlier hours that have not started are skipped, because this
    plan replaces them.
    """
    repair_fences(ports)
    _retire_planned(ports, hour)
    plan = ports.plans.load(hour)
    moves = () if plan.dry_run else allowed_moves(ports, plan.moves)
    records = tuple(ports.move_journal.plan(move, hour) for move in moves)
    for record in records:
        if record.state in ENDED and record.error:
            LOG.warning("move %s of %s: %s", record.move_id, record.move.label, record.error)
    return tuple(record.move_id for record in records if record.state not in ENDED)


def run_move(ports: MovePorts, move_id: str, notify: Notify | None = None) -> MoveSummary:
    """Run one move until its target serves, or until it has reverted. Any other mover of it is superseded."""
    with ExitStack() as stack:
        record = mover.run_move(_context(ports, ports.move_journal.get(move_id), stack, notify), move_id)
    return _summary(record)


def revert_move(ports: MovePorts, move_id: str, reason: str = "requested", notify: Notify | None = None) -> MoveSummary:
    """Revert a move. Raise :class:`foreshard.errors.IllegalTransition` if it has switched; it must be undone then."""
    with ExitStack() as stack:
        record = mover.revert_move(_context(ports, ports.move_journal.get(move_id), stack, notify), move_id, reason)
    return _summary(record)


def stop_move(ports: WithMoveJournal, move_id: str) -> MoveSummary:
    """Ask a move's mover to pause at its next batch. It does not pause between fence and switch, when apps wait."""
    return MoveSummary.of(ports.move_journal.request_stop(move_id))


def stop_moves(ports: WithMoveJournal, hour: datetime | None = None) -> tuple[MoveSummary, ...]:
    """Ask the movers of all moves that have not ended to pause; with ``hour``, only that hour's."""
    return tuple(stop_move(ports, record.move_id) for record in ports.move_journal.find(OPEN, hour))


def resume_moves(ports: ResumeMovesPorts, notify: Notify | None = None) -> tuple[MoveSummary, ...]:
    """Resume every started move whose mover is silent, unless it was asked to stop. Repair fences that apps have lifted."""
    repair_fences(ports)
    abandoned = ports.move_journal.abandoned((*RUNNING, MoveState.SWITCHED))
    return tuple(run_move(ports, record.move_id, notify) for record in abandoned if not mover.is_serving(record))


def clean_moves(
    ports: MovePorts, hour: datetime | None = None, *, wait: bool = True, notify: Notify | None = None
) -> tuple[MoveSummary, ...]:
    """Clean up after the switched moves of all hours up to ``hour`` (None: all). Return the moves that have ended.

    A move is ready once the sidecars have acknowledged its switch, or its grace period is over. Until then, late changes on the
    source are forwarded. Without ``wait``, only ready moves are cleaned.
    """
    found = ports.move_journal.find(CLEANABLE)
    due = [r for r in found if not r.stop_requested and (hour is None or r.hour is None or r.hour <= hour)]
    return _clean(ports, [record.move_id for record in due], wait, notify)


def undo_move(ports: MoveKeyPorts, move_id: str, notify: Notify | None = None) -> MoveSummary:
    """Move a switched key back: finish the cleaning, then run a reverse move. Return the reverse move's summary."""
    record = ports.move_journal.get(move_id)
    if record.state in CLEANABLE:
        _clean(ports, [move_id], True, notify)
        record = ports.move_journal.get(move_id)
    if record.state is not MoveState.DONE:
        raise MoveRefused(move_id, f"it is {record.state}, so there is nothing to undo", "revert it instead")
    sentence = f"undo of move {move_id}"
    return move_key(ports, record.move.units[0], record.move.source, Reason("undo", sentence, {"undoes": move_id}), notify)


def move_key(
    ports: MoveKeyPorts, key: str, target: str, reason: Reason | None = None, notify: Notify | None = None
) -> MoveSummary:
    """Move ``key`` from its current partition to ``target``. Raise an error if a placement rule forbids it."""
    source = owner_of(ports, key).primary
    require_allowed(ports, key, target)
    why = reason or Reason("manual", "requested by a person")
    move = Move(f"manual-{uuid.uuid4().hex[:12]}", (key,), source, target, 0, key, why)
    return run_move(ports, ports.move_journal.plan(move, None).move_id, notify)


def moves_to_undo(ports: UndoListPorts, hour: datetime) -> tuple[str, ...]:
    """Return the hour's moves that still have an effect, the latest first: running, or with the key still on their target."""
    table = ports.routing.current()
    found = ports.move_journal.find((*PENDING, *AFTER_SWITCH), hour)
    return tuple(
        record.move_id
        for record in reversed(found)
        if record.state not in AFTER_SWITCH or locate(table, record.move.units[0]).primary == record.move.target
    )


def take_back(ports: MoveKeyPorts, move_id: str) -> MoveSummary:
    """Revert a move that has not switched, or move its key back. A second call changes nothing."""
    record = ports.move_journal.get(move_id)
    if record.state not in AFTER_SWITCH:
        return revert_move(ports, move_id, "an hour's moves are undone")
    if locate(ports.routing.current(), record.move.units[0]).primary != record.move.target:
        return MoveSummary.of(record)
    return undo_move(ports, move_id)


@dataclass(frozen=True, slots=True)
class MovePreview:
    """The effect of a manual move: the key's owner, its documents per collection, and the problem that would refuse the
    move."""

    owner: str
    epoch: int
    documents: dict[str, int]
    problem: str | None


def describe_move(ports: MovePreviewPorts, key: str, target: str) -> MovePreview:
    """Return what :func:`move_key` would do. Nothing is changed."""
    ports.registry.partition(target)
    owner = owner_of(ports, key)
    source = ports.key_copy(owner.primary, f"preview of {key}", key)
    problem = f"it is on {target} already" if owner.primary == target else None
    try:
        source.shape()
        documents = dict(source.count())
        require_allowed(ports, key, target)
    except MoveRefused as refused:
        documents, problem = {}, refused.problem
    except PlacementRuleBroken as broken:
        problem = str(broken)
    finally:
        source.close()
    return MovePreview(owner.primary, owner.epoch, documents, problem)


def owner_of(ports: WithRouting, key: str) -> Placement:
    """Return the placement of ``key`` in the published table."""
    return locate(ports.routing.current(), key)


def repair_fences(ports: FencePorts) -> tuple[str, ...]:
    """Impose again every fence that an app's ``collMod`` has lifted. Return the ids of the partitions concerned."""
    repaired = []
    for partition in ports.registry.partitions():
        for fence in ports.fences(partition.partition_id):
            if fence.listed() - fence.fenced():
                fence.repair()
                LOG.warning("partition %s: another validator had lifted a fence; it is in force again", partition.partition_id)
                repaired.append(partition.partition_id)
    return tuple(repaired)


def _retire_planned(ports: WithMoveJournal, hour: datetime) -> None:
    for record in ports.move_journal.find((MoveState.PLANNED,)):
        if record.hour is None or record.hour >= hour:
            continue
        try:
            taken = ports.move_journal.take(record.move_id)
            to = next_state(taken.state, MoveEvent.SKIP)
            why = f"skipped: the plan of {hour:%Y-%m-%dT%HZ} replaces it"
            ports.move_journal.advance(taken, to, MoveEvent.SKIP, {"error": why})
        except (IllegalTransition, MoveSuperseded):
            LOG.info("move %s has started meanwhile", record.move_id)


def _clean(ports: MovePorts, move_ids: Sequence[str], wait: bool, notify: Notify | None) -> tuple[MoveSummary, ...]:
    with ExitStack() as stack:
        records = (ports.move_journal.get(move_id) for move_id in move_ids)
        moves = [(record.move_id, _context(ports, record, stack, notify)) for record in records]
        return tuple(_summary(record) for record in mover.clean_moves(moves, wait=wait))


def _context(ports: MovePorts, record: MoveRecord, stack: ExitStack, notify: Notify | None) -> MoveContext:
    move = record.move
    context = MoveContext(
        journal=ports.move_journal,
        source=ports.key_copy(move.source, move.move_id, move.units[0]),
        target=ports.key_copy(move.target, move.move_id, move.units[0]),
        routing=ports.routing,
        owner=lambda key: owner_of(ports, key),
        shadows=ports.shadow_absorber,
        limits=ports.migrate_settings,
        notify=notify or _log_progress,
    )
    stack.callback(context.close)
    return context


def _log_progress(record: MoveRecord) -> None:
    counters = record.counters
    LOG.info(
        "move %s of %s, %s to %s: %s, %d of %d documents",
        record.move_id,
        record.move.label,
        record.move.source,
        record.move.target,
        record.state,
        counters.get("documents", 0),
        counters.get("total", 0),
    )


def _summary(record: MoveRecord) -> MoveSummary:
    summary = MoveSummary.of(record)
    if record.error:
        LOG.warning("move %s of %s is %s: %s", summary.move_id, summary.label, summary.state, summary.error)
    return summary
