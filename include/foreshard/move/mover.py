"""The driver of a move: it takes a move from any state to the next, until the target serves or the move has ended.

Every step may run twice and may be killed anywhere. The journal says which state holds, and each step starts by making that
state true. Taking a move raises its lease in the journal and on both partitions, which fences off the previous mover.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from foreshard.errors import (
    FenceRefused,
    FenceTimedOut,
    HistoryLost,
    MoveRefused,
    MoveSuperseded,
    MoveTimedOut,
    VerificationFailed,
)
from foreshard.model.move_state import BEFORE_SWITCH, CLEANABLE, ENDED, MoveState
from foreshard.move._cleaning import forward_late_changes, is_ready, remove_source
from foreshard.move._copying import begin, catch_up, copy, skip_if_out_of_date
from foreshard.move._cutover import MAXIMUM_RETREATS, fence_and_drain, open_target, retreat, switch, verify
from foreshard.move._reversal import turn_back
from foreshard.move.context import MoveContext
from foreshard.move.session import MoveSession, Paused
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import MoveRecord

LOG = logging.getLogger("foreshard.move")
WATCH_SECONDS = 0.1
"""Pause between two rounds over the moves that wait for their cleaning."""


def is_serving(record: MoveRecord) -> bool:
    """Return whether the target accepts the units' writes. What remains then is the cleaning, which waits for the sidecars."""
    opened = record.state is MoveState.SWITCHED and "opened_at" in record.notes
    return opened or record.state in (MoveState.CLEANING, MoveState.DONE)


def serve(session: MoveSession) -> None:
    """Open the target. Then forward late changes until the source may be cleaned."""
    if not is_serving(session.record):
        open_target(session)
        return
    forward_late_changes(session)
    if is_ready(session):
        session.advance(MoveEvent.CLEAN)


STEPS: dict[MoveState, Callable[[MoveSession], None]] = {
    MoveState.PLANNED: begin,
    MoveState.COPYING: copy,
    MoveState.CATCHING_UP: catch_up,
    MoveState.FENCED: fence_and_drain,
    MoveState.DRAINED: verify,
    MoveState.VERIFIED: switch,
    MoveState.SWITCHED: serve,
    MoveState.CLEANING: remove_source,
    MoveState.REVERTING: turn_back,
}
"""The step of each state that is not final. It leads to another state, or notes progress within its own."""

TURN_BACK = (MoveRefused, MoveTimedOut, FenceRefused, FenceTimedOut, VerificationFailed)
"""Errors that revert a move that has not switched."""

APPS_WAIT = (MoveState.FENCED, MoveState.DRAINED)
"""After an unexpected error in these states the mover lifts the fence. Not in ``verified``: the switch may be committed."""


def run_move(context: MoveContext, move_id: str) -> MoveRecord:
    """Take the move and run it until its target serves, it is reverted, or it pauses. Return its journal entry."""
    session = MoveSession(context, context.journal.take(move_id))
    record = session.record
    if record.state in ENDED or (record.state is MoveState.PLANNED and skip_if_out_of_date(session)):
        return session.record
    session.claim()
    try:
        drive(session, until=is_serving)
    except Paused:
        session.pause()
    finally:
        session.close_feed()
    return session.record


def revert_move(context: MoveContext, move_id: str, reason: str) -> MoveRecord:
    """Take the move and revert it. Raise :class:`foreshard.errors.IllegalTransition` if it has switched."""
    record = context.journal.get(move_id)
    if record.state is MoveState.REVERTED:
        return record
    if record.state is not MoveState.REVERTING:
        next_state(record.state, MoveEvent.REVERT)
    session = MoveSession(context, context.journal.take(move_id))
    session.claim()
    if session.record.state is not MoveState.REVERTING:
        session.advance(MoveEvent.REVERT, error=f"reverted: {reason}")
    drive(session, until=is_serving)
    return session.record


def clean_moves(moves: Iterable[tuple[str, MoveContext]], *, wait: bool) -> tuple[MoveRecord, ...]:
    """Drive switched moves to their end. Return the entries of the ended moves, in the order in which they ended.

    Late changes are forwarded for all of them meanwhile. Without ``wait``, moves that may not be cleaned yet are left.
    """
    done: list[MoveRecord] = []
    with ExitStack() as stack:
        waiting: list[MoveSession] = []
        for move_id, context in moves:
            session = MoveSession(context, context.journal.take(move_id))
            stack.callback(session.close_feed)
            session.claim()
            drive(session, until=is_serving)
            waiting.append(session)
        while waiting:
            for session in tuple(waiting):
                if not _step_towards_end(session, wait=wait):
                    waiting.remove(session)
                    done += [session.record] if session.record.state in ENDED else []
            time.sleep(WATCH_SECONDS if waiting else 0)
    return tuple(done)


def _step_towards_end(session: MoveSession, *, wait: bool) -> bool:
    """Take one step of a switched move. Return False if no more steps should be taken now."""
    try:
        step(session)
    except Paused:
        session.pause()
        return False
    except MoveSuperseded as superseded:
        LOG.warning("%s", superseded)
        return False
    state = session.record.state
    return state not in ENDED and (wait or state is MoveState.CLEANING)


def drive(session: MoveSession, *, until: Callable[[MoveRecord], bool]) -> None:
    """Take step after step until the move has ended or ``until`` holds for its journal entry."""
    while session.record.state not in ENDED and not until(session.record):
        step(session)


def step(session: MoveSession) -> None:
    """Take the step of the move's state. Errors before the switch revert the move or lift the fence."""
    try:
        STEPS[session.record.state](session)
    except HistoryLost as error:
        start_over(session, error)
    except TURN_BACK as error:
        if session.record.state not in BEFORE_SWITCH:
            raise
        session.advance(MoveEvent.REVERT, error=str(error))
    except Paused:
        raise
    except Exception as error:
        _lift_fence(session, error)
        raise


def start_over(session: MoveSession, lost: HistoryLost) -> None:
    """The source's oplog no longer holds the changes: copy again from now, at most ``MAXIMUM_RETREATS`` times."""
    session.close_feed()
    session.suspects = None
    if session.record.state in CLEANABLE:
        session.note(position=session.context.source.now(), notes__late_changes_unknown=str(lost))
        return
    if session.record.state in (MoveState.FENCED, MoveState.DRAINED, MoveState.VERIFIED):
        retreat(session, str(lost))
    if session.record.state not in (MoveState.COPYING, MoveState.CATCHING_UP):
        return
    restarts = int(session.record.counters.get("restarts", 0)) + 1
    if restarts > MAXIMUM_RETREATS:
        session.advance(MoveEvent.REVERT, error=str(lost))
    else:
        session.advance(MoveEvent.RESTART, position=session.context.source.now(), counters__restarts=restarts)


def _lift_fence(session: MoveSession, error: Exception) -> None:
    """Lift the fence after an unexpected error. If that fails too, the move waits for its next mover."""
    if session.record.state in APPS_WAIT:
        try:
            retreat(session, f"{type(error).__name__}: {error}")
        except Exception as second:
            error.add_note(f"the fence stays until the move is resumed: {second}")
