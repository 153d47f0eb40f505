"""What a child of the nursery does: one operation on a move, with its effects counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pymongo import monitoring
from tests.move_proofs.effects import EffectCounter, Halt

from foreshard.model.move_state import CLEANABLE, ENDED, OPEN, MoveState
from foreshard.move import mover
from foreshard.stages import manual_moves, migrate
from foreshard.stages.moving.watchdog import MoveWatchdog
from foreshard.stores.control import move_journal, shadows  # noqa: F401  # stores are imported lazily; here before the fork
from foreshard.stores.control.routing import store  # noqa: F401
from foreshard.stores.partition import dead_transactions, shadow_absorber, strain, unit_copy  # noqa: F401
from foreshard.wiring import Wiring

dead_transactions.IDLE, dead_transactions.PATIENCE_MS = timedelta(seconds=0.5), 300
"""A matrix kills in transactions a hundred times, so what waits for the dead waits less."""
strain.SLOWER_BY = 60.0
"""Moves don't make way for others: what a machine does beside the proofs would slow the moves down."""
LEFT = (*ENDED, MoveState.PLANNED, MoveState.COPYING, MoveState.CATCHING_UP)
"""The watchdog leaves moves in these states alone."""
ROUNDS, ROUND = 40, 0.25
"""At most this many rounds of the watchdog end one move, and the seconds between two."""
REPAIRED = 20.0
"""Seconds within which the watchdog must have repaired all fences. The lock of a dead process is over after ten."""


def run(wiring: Wiring, move_id: str) -> object:
    """Run a move until its target serves."""
    return migrate.run_move(wiring, move_id)


def clean(wiring: Wiring, move_id: str) -> object:
    """Remove the source's copy."""
    return migrate.clean_some(wiring, [move_id], True, None)


def finish(wiring: Wiring, _move_id: str = "") -> object:
    """Take every move to its end."""
    ended = []
    while opened := wiring.move_journal.find(OPEN):
        move_id = opened[0].move_id
        if opened[0].state not in CLEANABLE or not mover.is_serving(opened[0]):
            migrate.run_move(wiring, move_id)
        if wiring.move_journal.get(move_id).state not in ENDED:
            clean(wiring, move_id)
        ended.append(move_id)
        assert ended.count(move_id) < ROUNDS, f"move {move_id} does not end"
    return ended


def revert(wiring: Wiring, move_id: str) -> object:
    """Revert a move."""
    return migrate.revert_move(wiring, move_id)


def undo(wiring: Wiring, move_id: str) -> object:
    """Undo a switched move."""
    return manual_moves.undo_move(wiring, move_id)


def tend(wiring: Wiring, move_id: str) -> object:
    """Let the watchdog take care of the moves until this one has ended, or has no key fenced. Upkeep resumes such a move."""
    for _ in range(ROUNDS):
        migrate.tend_moves(wiring)
        if wiring.move_journal.get(move_id).state in LEFT:
            break
        time.sleep(ROUND)
    return wiring.move_journal.get(move_id).state


def watch(wiring: Wiring, _move_id: str = "") -> object:
    """Let the watchdog repair what dead processes have left in the fences. Return the seconds, 0 if there was nothing."""
    begun = time.monotonic()
    if not _disagreeing(wiring):
        return 0.0
    with MoveWatchdog(wiring, care=True):
        while disagreeing := _disagreeing(wiring):
            assert time.monotonic() - begun < REPAIRED, f"no watchdog repairs the fences of {disagreeing}"
            time.sleep(ROUND)
    return time.monotonic() - begun


def _disagreeing(wiring: Wiring) -> list[str]:
    """Return the partitions whose server refuses other writes than the fences' lists do."""
    partitions = [partition.partition_id for partition in wiring.registry.partitions()]
    return [name for name in partitions if any(fence.is_out_of_date() for fence in wiring.fences(name))]


OPERATIONS: dict[str, Callable[[Wiring, str], object]] = {
    made.__name__: made for made in (run, clean, finish, revert, undo, tend, watch)
}


def perform(operation: str, arguments: Sequence[str], log: Path, halt: Mapping[str, Any] | None) -> object:
    """Run an operation with connections of its own."""
    monitoring.register(EffectCounter(log, None if halt is None else Halt(**halt)))
    with Wiring() as wiring:
        return OPERATIONS[operation](wiring, *arguments)
