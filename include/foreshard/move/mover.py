"""The driver of a move: it takes a move from any state to the next, until the target serves or the move has ended.

Every step may run twice and may be killed anywhere. The journal says which state holds, and each step starts by making that
state true. Taking a move raises its lease in the journal; each step then claims the partitions that it writes on, which
fences off the previous mover there.
"""

from __future__ import annotations

from collections.abc import Callable

from foreshard.errors import (
    FenceRefused,
    FenceTimedOut,
    HistoryLost,
    MoveRefused,
    MoveSuperseded,
    MoveTimedOut,
    Unreachable,
    VerificationFailed,
)
from foreshard.model.move_state import BEFORE_SWITCH, CLEANABLE, ENDED, OPEN, MoveState
from foreshard.move._cleaning import forward_late_changes, is_ready, remove_source
from foreshard.move._copying import begin, catch_up, copy, skip_if_out_of_date
from foreshard.move._cutover import MAXIMUM_RETREATS, cut_over, open_target, retreat
from foreshard.move._reversal import turn_back
from foreshard.move.context import MoveContext
from foreshard.move.session import MoveSession, Paused
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.move_journal import MoveRecord


def is_serving(record: MoveRecord) -> bool:
    """Return whether the target accepts the units' writes. What remains then is the cleaning, which waits for the sidecars."""
    opened = record.state is MoveState.SWITCHED and "opened_at" in record.notes
    return opened or record.state in (MoveState.CLEANING, MoveState.DONE)


def serve(session: MoveSession) -> None:
    """Open the target. Then forward late changes until the source may be cleaned."""
    if not is_serving(session.record):
        open_target(session)
        return
    session.claim(session.context.source, session.context.target)
    forward_late_changes(session)
    if is_ready(session):
        session.advance(MoveEvent.CLEAN)


def clean(session: MoveSession) -> None:
    """Remove the source's documents and end the move."""
    session.claim(session.context.source, session.context.target)
    remove_source(session)


STEPS: dict[MoveState, Callable[[MoveSession], None]] = {
    MoveState.PLANNED: begin,
    MoveState.COPYING: copy,
    MoveState.CATCHING_UP: catch_up,
    MoveState.FENCED: cut_over,
    MoveState.SWITCHED: serve,
    MoveState.CLEANING: clean,
    MoveState.REVERTING: turn_back,
}
"""The step of each state that is not final. It leads to another state, or notes progress within its own."""

COPIES = (MoveState.PLANNED, MoveState.COPYING)
"""A move in one of these states waits for a place. An undo takes over a copy, so it does not."""

TURN_BACK = (MoveRefused, MoveTimedOut, FenceRefused, FenceTimedOut, VerificationFailed)
"""Errors that revert a move that has not switched."""


def run_move(context: MoveContext, move_id: str) -> MoveRecord:
    """Take the move and run it until its target serves, it is reverted, or it pauses. Return its journal entry.

    A caretaker may take a served move at once.
    """
    record = context.journal.get(move_id)
    if record.state in ENDED:
        return record
    with MoveSession(context, context.journal.take(move_id)) as session:
        if session.record.state is MoveState.PLANNED and skip_if_out_of_date(session):
            return session.record
        try:
            if session.record.state in COPIES:
                session.await_place()
            drive(session, until=is_serving)
            if session.record.state not in ENDED:
                session.release()
        except Paused:
            session.pause()
    return session.record


def revert_move(context: MoveContext, move_id: str, reason: str) -> MoveRecord:
    """Take the move and revert it. Raise :class:`foreshard.errors.IllegalTransition` if it has switched."""
    record = context.journal.get(move_id)
    if record.state is MoveState.REVERTED:
        return record
    if record.state is not MoveState.REVERTING:
        next_state(record.state, MoveEvent.REVERT)
    with MoveSession(context, context.journal.take(move_id)) as session:
        if session.record.state is not MoveState.REVERTING:
            session.advance(MoveEvent.REVERT, error=f"reverted: {reason}")
        drive(session, until=is_serving)
    return session.record


def finish_cleaning(context: MoveContext, move_id: str) -> MoveRecord:
    """Clean up after a switched move now."""
    with MoveSession(context, context.journal.take(move_id, CLEANABLE)) as session:
        drive(session, until=is_serving)
        if session.record.state is MoveState.SWITCHED:
            session.claim(context.source, context.target)
            session.advance(MoveEvent.CLEAN)
        drive(session, until=lambda _record: False)
    return session.record


def rescue_move(context: MoveContext, move_id: str) -> MoveRecord:
    """Let a partition take writes again where a mover ended between fence and opening. Raise ``MoveSuperseded`` if it lives.

    Before the switch that is the source, and anybody may resume the move then. After it, it is the target.
    """
    states = (MoveState.FENCED, MoveState.SWITCHED)
    with MoveSession(context, context.journal.take(move_id, states, silent=True)) as session:
        try:
            if session.record.state is MoveState.FENCED:
                retreat(session, "its mover ended behind the fence", counted=False)
            elif not is_serving(session.record):
                open_target(session)
        except Exception as error:
            _explain(session, error)
            raise
        session.release()
    return session.record


def drive(session: MoveSession, *, until: Callable[[MoveRecord], bool]) -> None:
    """Take step after step until the move has ended or ``until`` holds for its journal entry."""
    while session.record.state not in ENDED and not until(session.record):
        step(session)


def step(session: MoveSession) -> None:
    """Take the step of the move's state.

    Errors before the switch revert the move, or lift the fence. A move that has not begun ends with the error. One that has
    waits, with its lease released, while a partition does not answer.
    """
    try:
        STEPS[session.record.state](session)
    except HistoryLost as error:
        start_over(session, error)
    except TURN_BACK as error:
        _turn_back(session, error)
    except (Paused, MoveSuperseded):
        raise
    except Exception as error:
        _lift_fence(session, error)
        _explain(session, error)
        if session.record.state in OPEN:
            raise


def _turn_back(session: MoveSession, error: Exception) -> None:
    if session.record.state is MoveState.PLANNED:
        session.advance(MoveEvent.SKIP, error=str(error))
    elif session.record.state in BEFORE_SWITCH:
        session.advance(MoveEvent.REVERT, error=str(error))
    else:
        raise error


def _explain(session: MoveSession, error: Exception) -> None:
    """Raise a driver's error as one line about the partition, after noting it. A planned move ends with it."""
    context = session.context
    known = error if isinstance(error, Unreachable) else context.source.explain(error) or context.target.explain(error)
    if known is None:
        return
    if session.record.state is MoveState.PLANNED:
        session.advance(MoveEvent.SKIP, error=str(known))
        return
    session.release(str(known))
    raise known from error


def start_over(session: MoveSession, lost: HistoryLost) -> None:
    """The source's oplog no longer holds the changes: copy again from now, at most ``MAXIMUM_RETREATS`` times."""
    session.close_feed()
    session.suspects = None
    if session.record.state in CLEANABLE:
        session.note(position=session.context.source.now(), notes__late_changes_unknown=str(lost))
        return
    if session.record.state is MoveState.FENCED:
        retreat(session, str(lost))
    if session.record.state not in (MoveState.COPYING, MoveState.CATCHING_UP):
        return
    restarts = int(session.record.counters.get("restarts", 0)) + 1
    if restarts > MAXIMUM_RETREATS:
        session.advance(MoveEvent.REVERT, error=str(lost))
    else:
        session.advance(MoveEvent.RESTART, position=session.context.source.now(), counters__restarts=restarts)


def _lift_fence(session: MoveSession, error: Exception) -> None:
    """Lift the fence after an unexpected error. If that fails too, the watchdog lifts it once the lease is over.

    A switch without an answer may have been made. A write to the journal entry then fails, or keeps it from being made later.
    """
    if session.record.state is MoveState.FENCED:
        try:
            if session.switching:
                session.note(notes__waiting=f"the switch got no answer: {error}")
            retreat(session, f"{type(error).__name__}: {error}")
        except Exception as second:
            error.add_note(f"the fence stays until the move's lease is over: {second}")
