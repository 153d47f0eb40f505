"""Move units: journal the plan's moves, run them, clean their sources; stop, resume and revert them."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from foreshard.errors import IllegalTransition, MoveHasEnded, MoveSuperseded
from foreshard.model.move_state import CLEANABLE, ENDED, OPEN, RUNNING, MoveState
from foreshard.move import mover
from foreshard.move.caretaker import Caretaker
from foreshard.move.context import MoveSummary
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.move_journal import MoveRecord
from foreshard.stages._ports import (
    WithFences,
    WithMoveJournal,
    WithPlans,
    WithRegistry,
)
from foreshard.stages.listing import ListKeysPorts, list_staying_keys
from foreshard.stages.moving.batches import batched
from foreshard.stages.moving.context import MovePorts, Notify, move_context, moving
from foreshard.stages.rules import RuleCheckPorts, allowed_moves

LOG = logging.getLogger("foreshard.move")
HOURS_ALONE = 6
"""Units of a batch that was reverted move alone for this long, so that one unit does not hold up the others."""
WATCH_SECONDS = 0.1
"""Pause between two rounds over the moves that wait for their cleaning."""


class FencePorts(WithRegistry, WithFences, Protocol):
    """Reads the registered partitions. Repairs their fences."""


class ResumeMovesPorts(MovePorts, FencePorts, Protocol):
    """The ports of running moves and repairing fences."""


class StartMovesPorts(FencePorts, RuleCheckPorts, WithPlans, ListKeysPorts, Protocol):
    """Reads the plan, forecasts, placement rules and fences. Writes the journal, and lists keys that stay in the table."""


def start_moves(ports: StartMovesPorts, hour: datetime) -> tuple[str, ...]:
    """Journal the plan's moves and return the ids of the moves to run; none for a dry run. Repair fences that apps changed.

    Moves between the same partitions are one, unless one of their units was in a batch that was reverted lately. Units that
    stay while their slots move are listed first. A second call returns the moves that have not ended. Moves of earlier hours
    that have not started are skipped, because this plan replaces them.
    """
    repair_fences(ports)
    _retire_planned(ports, hour)
    plan = ports.plans.load(hour)
    moves = () if plan.dry_run else allowed_moves(ports, plan.moves)
    list_staying_keys(ports, hour, moves)
    records = tuple(ports.move_journal.plan(move, hour) for move in batched(moves, _reverted_lately(ports, hour)))
    for record in records:
        if record.state in ENDED and record.error:
            LOG.warning("move %s of %s: %s", record.move_id, record.move.label, record.error)
    return tuple(record.move_id for record in records if record.state not in ENDED)


def run_move(ports: MovePorts, move_id: str, notify: Notify | None = None) -> MoveSummary:
    """Run one move until its target serves, or until it has reverted. Any other mover of it is superseded."""
    record = _narrowed(ports, ports.move_journal.get(move_id))
    with moving(ports, record, notify) as context:
        return _summary(mover.run_move(context, move_id))


def revert_move(ports: MovePorts, move_id: str, reason: str = "requested", notify: Notify | None = None) -> MoveSummary:
    """Revert a move. Raise :class:`foreshard.errors.IllegalTransition` if it has switched; it must be undone then."""
    with moving(ports, ports.move_journal.get(move_id), notify) as context:
        return _summary(mover.revert_move(context, move_id, reason))


def stop_move(ports: WithMoveJournal, move_id: str) -> MoveSummary:
    """Ask a move's mover to pause at its next batch. It does not pause between fence and switch, when apps wait."""
    return MoveSummary.of(ports.move_journal.request_stop(move_id))


def stop_moves(ports: WithMoveJournal, hour: datetime | None = None) -> tuple[MoveSummary, ...]:
    """Ask the movers of all moves that have not ended to pause; with ``hour``, only that hour's."""
    return tuple(stop_move(ports, record.move_id) for record in ports.move_journal.find(OPEN, hour))


def resume_moves(ports: ResumeMovesPorts, notify: Notify | None = None) -> tuple[MoveSummary, ...]:
    """Resume every started move whose mover is silent, unless it was asked to stop. Repair fences that apps have changed.

    All of them are tried. Then the first error is raised, if there was one.
    """
    rescue_moves(ports)
    troubles: list[Exception] = []
    done = []
    for record in ports.move_journal.abandoned(RUNNING):
        try:
            done.append(run_move(ports, record.move_id, notify))
        except Exception as error:
            LOG.warning("move %s of %s: %s", record.move_id, record.move.label, error)
            troubles.append(error)
    repair_fences(ports)
    _raise_first(troubles)
    return tuple(done)


def rescue_moves(ports: MovePorts) -> tuple[MoveSummary, ...]:
    """Let a partition take the writes of each move whose mover ended between its fence and its opening.

    One cheap query when there is none, so that a watchdog can ask every second. A move that can't be rescued is tried again.
    """
    rescued = []
    for record in ports.move_journal.abandoned((MoveState.FENCED, MoveState.SWITCHED), stopped=True):
        if mover.is_serving(record):
            continue
        try:
            with moving(ports, record) as context:
                rescued.append(mover.rescue_move(context, record.move_id))
            LOG.warning("move %s of %s had lost its mover behind the fence", record.move_id, record.move.label)
        except Exception as error:
            LOG.warning("move %s of %s still refuses writes: %s", record.move_id, record.move.label, error)
    return tuple(map(MoveSummary.of, rescued))


def caretaker(ports: MovePorts, notify: Notify | None = None) -> Caretaker:
    """Return a caretaker of switched moves. Close it."""
    return Caretaker(lambda record: move_context(ports, record, notify))


def tend_moves(ports: MovePorts, carer: Caretaker | None = None) -> tuple[MoveSummary, ...]:
    """One round of the watchdog: rescue moves, forward late changes of switched moves, and clean the due ones.

    Moves with a living mover or caretaker are left to it. Return the moves that have ended. With ``carer``, its moves stay open
    for the next round.
    """
    rescue_moves(ports)
    carers = carer or caretaker(ports)
    for record in ports.move_journal.abandoned(CLEANABLE):
        if mover.is_serving(record):
            carers.take(record, silent=True)
    ended = list(carers.step(keep=carer is not None))
    if carer is None:
        while carers.held:
            ended += carers.step(keep=False)
        _raise_first(carers.troubles)
    return tuple(map(_summary, ended))


def clean_moves(
    ports: MovePorts, hour: datetime | None = None, *, wait: bool = True, notify: Notify | None = None
) -> tuple[MoveSummary, ...]:
    """Clean up after the switched moves of all hours up to ``hour`` (None: all). Return the moves that have ended.

    A move is due once its source's copy was kept for ``source_kept`` and the sidecars follow. Until then, late changes on the
    source are forwarded. Without ``wait``, only due moves are cleaned.
    """
    found = ports.move_journal.find(CLEANABLE)
    due = [r for r in found if not r.stop_requested and (hour is None or r.hour is None or r.hour <= hour)]
    return clean_some(ports, [record.move_id for record in due], wait, notify)


def repair_fences(ports: FencePorts, spared: Collection[str] = ()) -> tuple[str, ...]:
    """Impose again every fence that an app's ``collMod`` has changed. Return the ids of the partitions concerned.

    A partition that does not answer is left for the next time, like the ``spared`` ones.
    """
    repaired = []
    for partition in ports.registry.partitions():
        if partition.partition_id in spared:
            continue
        for fence in ports.fences(partition.partition_id):
            try:
                if fence.is_out_of_date():
                    fence.repair()
                    LOG.warning("partition %s: another validator had changed a fence; it is in force", partition.partition_id)
                    repaired.append(partition.partition_id)
            except Exception as error:
                problem = str(error).splitlines()[0]
                LOG.warning("partition %s: its fence is not checked: %s", partition.partition_id, problem)
    return tuple(repaired)


def _reverted_lately(ports: WithMoveJournal, hour: datetime) -> frozenset[str]:
    """Return the units of the moves of several units that were reverted in the hours before."""
    before = (hour - timedelta(hours=number) for number in range(HOURS_ALONE + 1))
    found = [record for each in before for record in ports.move_journal.find((MoveState.REVERTED,), each)]
    return frozenset(unit for record in found if len(record.move.units) > 1 for unit in record.move.units)


def repair_settled_fences(ports: ResumeMovesPorts) -> tuple[str, ...]:
    """Repair fences like ``repair_fences``, but not where a move is between its fence and its opening: its mover changes them.

    A process that dies right after a late ``collMod`` leaves a fence that refuses writes of an owned key.
    """
    found = ports.move_journal.find((MoveState.FENCED, MoveState.SWITCHED))
    under_way = [record.move for record in found if not mover.is_serving(record)]
    return repair_fences(ports, {name for move in under_way for name in (move.source, move.target)})


def _retire_planned(ports: WithMoveJournal, hour: datetime) -> None:
    for record in ports.move_journal.find((MoveState.PLANNED,)):
        if record.hour is None or record.hour >= hour:
            continue
        try:
            taken = ports.move_journal.take(record.move_id, (MoveState.PLANNED,))
            to = next_state(taken.state, MoveEvent.SKIP)
            why = f"skipped: the plan of {hour:%Y-%m-%dT%HZ} replaces it"
            ports.move_journal.advance(taken, to, MoveEvent.SKIP, {"error": why})
        except (IllegalTransition, MoveHasEnded, MoveSuperseded):
            LOG.info("move %s has started meanwhile", record.move_id)


def clean_some(ports: MovePorts, move_ids: Sequence[str], wait: bool, notify: Notify | None) -> tuple[MoveSummary, ...]:
    """Clean up after these moves. Return the ended ones. All of them are tried; then the first error is raised."""
    carer = caretaker(ports, notify)
    ended: list[MoveRecord] = []
    try:
        for move_id in move_ids:
            carer.take(ports.move_journal.get(move_id))
        while carer.held:
            ended += carer.step(keep=wait)
            time.sleep(WATCH_SECONDS if wait and carer.held else 0)
    finally:
        carer.close()
    _raise_first(carer.troubles)
    return tuple(map(_summary, ended))


def finish_cleaning(ports: MovePorts, move_id: str, notify: Notify | None) -> None:
    """Clean up after a switched move now, although its source's copy has not been kept for long."""
    with moving(ports, ports.move_journal.get(move_id), notify) as context:
        mover.finish_cleaning(context, move_id)


def _raise_first(troubles: Sequence[Exception]) -> None:
    if troubles:
        raise troubles[0]


def _narrowed(ports: MovePorts, record: MoveRecord) -> MoveRecord:
    """Drop the units of a planned move that are not on its source. A move with none of them left is skipped by its mover."""
    move = record.move
    if record.state is not MoveState.PLANNED or len(move.units) == 1:
        return record
    placements = ports.routing.placements(move.units)
    kept = tuple(unit for unit in move.units if placements[unit].primary == move.source)
    if not kept or len(kept) == len(move.units):
        return record
    LOG.info("move %s: %d of %d units are not on %s", move.move_id, len(move.units) - len(kept), len(move.units), move.source)
    return ports.move_journal.narrow(record, kept)


def _summary(record: MoveRecord) -> MoveSummary:
    summary = MoveSummary.of(record)
    if record.error:
        LOG.warning("move %s of %s is %s: %s", summary.move_id, summary.label, summary.state, summary.error)
    return summary
