"""Undoing a switched move while its source's copy is kept: writes flow back, so it costs a fence instead of a copy."""

from __future__ import annotations

from dataclasses import replace

from foreshard.model import Move
from foreshard.model.move_state import MoveState
from foreshard.move._cleaning import forward_all_late_changes
from foreshard.move.context import MoveContext
from foreshard.move.session import MoveSession
from foreshard.ports.move_journal import MoveRecord


def can_adopt(context: MoveContext, record: MoveRecord) -> bool:
    """Return whether a reverse move can take over the copy that the move's source keeps.

    It holds what the units consisted of at the switch. If keys of its slots were listed or delisted since, they consist of
    other keys now.
    """
    if record.state is not MoveState.SWITCHED or record.opened_from is None or "opened_at" not in record.notes:
        return False
    with MoveSession(context, record) as session:
        owners = session.read_owners()
    return not owners.off(record.move.target) and not owners.have_other_exceptions()


def undo_move(context: MoveContext, move_id: str, reverse: Move) -> MoveRecord:
    """End the switched move as undone. Return the entry of ``reverse``, which catches up with the target's changes since.

    What stale clients changed on the source is forwarded first. From the end of the move on, ``reverse`` answers for the copy.
    """
    with MoveSession(replace(context, renew_every=None), context.journal.take(move_id, (MoveState.SWITCHED,))) as session:
        session.claim(context.source, context.target)
        forward_all_late_changes(session)
        adopted = {
            "undoes": move_id,
            "swept": True,
            "absorbing": True,
            "exceptions": sorted(context.units.exceptions),
            "strays_from": session.record.position,
            "source_from": session.record.opened_from,
        }
        return context.journal.undo(session.record, reverse, adopted)
