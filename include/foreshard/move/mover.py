"""A mover takes one move from wherever it stands to a target that serves, or back.

Every step may run twice and be cut off anywhere: the journal says which state holds, and each step begins by making sure of
what that state means. Who takes a move raises its lease number in the journal and writes it down on both partitions, where
that fences the mover before.
"""

from __future__ import annotations

from collections.abc import Callable

from foreshard.errors import FenceRefused, FenceTimedOut, HistoryLost, MoveRefused, MoveTimedOut, VerificationFailed
from foreshard.model.move_state import BEFORE_SWITCH, ENDED, MoveState
from foreshard.move._copying import begin, catch_up, copy, skip_if_out_of_date
from foreshard.move._cutover import MAXIMUM_RETREATS, fence_and_drain, open_target, retreat, switch, verify
from foreshard.move._reversal import turn_back
from foreshard.move.context import MoveContext
from foreshard.move.session import MoveSession, Paused
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import MoveRecord

STEPS: dict[MoveState, Callable[[MoveSession], None]] = {
    MoveState.PLANNED: begin,
    MoveState.COPYING: copy,
    MoveState.CATCHING_UP: catch_up,
    MoveState.FENCED: fence_and_drain,
    MoveState.DRAINED: verify,
    MoveState.VERIFIED: switch,
    MoveState.SWITCHED: open_target,
    MoveState.REVERTING: turn_back,
}
"""What a mover does in each state; each leads to another state, or notes that the target serves."""

TURN_BACK = (MoveRefused, MoveTimedOut, FenceRefused, FenceTimedOut, VerificationFailed)
"""What makes a move turn back by itself, as long as it has not been switched."""

APPS_WAIT = (MoveState.FENCED, MoveState.DRAINED)
"""States that a failing mover leaves by lifting the fence, if it still can. Not ``verified``: its switch may have happened."""


def run_move(ends: MoveContext, move_id: str) -> MoveRecord:
    """Take the move and carry it on until its target serves, it is reverted, or it was asked to stop; return its entry."""
    hold = MoveSession(ends, ends.journal.take(move_id))
    if hold.record.state in ENDED or (hold.record.state is MoveState.PLANNED and skip_if_out_of_date(hold)):
        return hold.record
    hold.claim()
    try:
        carry_on(hold)
    except Paused:
        hold.record = ends.journal.pause(hold.record)
    finally:
        hold.close_feed()
    return hold.record


def revert_move(ends: MoveContext, move_id: str, reason: str) -> MoveRecord:
    """Take the move and turn back; raise :class:`foreshard.errors.IllegalTransition` where it has been switched."""
    record = ends.journal.get(move_id)
    if record.state is MoveState.REVERTED:
        return record
    if record.state is not MoveState.REVERTING:
        next_state(record.state, MoveEvent.REVERT)
    hold = MoveSession(ends, ends.journal.take(move_id))
    hold.claim()
    if hold.record.state is not MoveState.REVERTING:
        hold.advance(MoveEvent.REVERT, error=f"reverted: {reason}")
    carry_on(hold)
    return hold.record


def carry_on(hold: MoveSession) -> None:
    """Take step after step until none is left to take."""
    while hold.record.state in STEPS and not is_serving(hold.record):
        try:
            STEPS[hold.record.state](hold)
        except HistoryLost as error:
            start_over(hold, error)
        except TURN_BACK as error:
            if hold.record.state not in BEFORE_SWITCH:
                raise
            hold.advance(MoveEvent.REVERT, error=str(error))
        except Paused:
            raise
        except Exception as error:
            _give_writes_back(hold, error)
            raise


def is_serving(record: MoveRecord) -> bool:
    """Whether the move is switched and its target takes the key's writes."""
    return record.state is MoveState.SWITCHED and "opened_at" in record.notes


def start_over(hold: MoveSession, lost: HistoryLost) -> None:
    """The source's oplog has run over the move: copy again from a new position; after some times, turn back."""
    hold.close_feed()
    hold.suspects = None
    if hold.record.state is MoveState.SWITCHED:
        hold.note(position=hold.ends.source.now(), notes__late_changes_unknown=str(lost))
        return
    if hold.record.state in (MoveState.FENCED, MoveState.DRAINED, MoveState.VERIFIED):
        retreat(hold, str(lost))
    if hold.record.state not in (MoveState.COPYING, MoveState.CATCHING_UP):
        return
    restarts = int(hold.record.counters.get("restarts", 0)) + 1
    if restarts > MAXIMUM_RETREATS:
        hold.advance(MoveEvent.REVERT, error=str(lost))
    else:
        hold.advance(MoveEvent.RESTART, position=hold.ends.source.now(), counters__restarts=restarts)


def _give_writes_back(hold: MoveSession, error: Exception) -> None:
    """Lift the fence for an error that nobody foresaw; where even that fails, the move waits for the next mover."""
    if hold.record.state in APPS_WAIT:
        try:
            retreat(hold, f"{type(error).__name__}: {error}")
        except Exception as second:
            error.add_note(f"the fence stands until the move is resumed: {second}")
