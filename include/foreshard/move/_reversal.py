"""Reverting a move before its switch: the source accepts writes again at once, and the target is cleared."""

from __future__ import annotations

from foreshard.errors import MoveRefused, StaleEpoch
from foreshard.model import PlacementChange
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent

MAXIMUM_STALE = 5


def turn_back(session: MoveSession) -> None:
    """Lift the source's fence, remove the copied documents (never from the owner), and restore the target's fence."""
    move, notes, target = session.record.move, session.record.notes, session.context.target
    session.context.source.unfence()
    if session.context.owner(move.key).primary == move.target:
        raise MoveRefused(
            move.move_id, f"{move.target} owns the key, so nothing is removed there", "check the key with `foreshard route`"
        )
    if "absorbing" in notes:
        session.context.shadows.absorb(move.key, move.target)
        _unlist_shadow(session)
        session.sync.remove_all(target, lambda _documents: session.beat())
    if notes.get("target_was_fenced") is False:
        target.unfence()
    session.advance(MoveEvent.REVERTED)


def _unlist_shadow(session: MoveSession) -> None:
    """Remove the absorbed shadow from the routing table before its documents are removed."""
    move = session.record.move
    for _ in range(MAXIMUM_STALE):
        owner = session.context.owner(move.key)
        if move.target not in owner.shadows:
            return
        shadows = tuple(shadow for shadow in owner.shadows if shadow != move.target)
        change = PlacementChange(move.key, owner.primary, shadows, owner.epoch, owner.epoch + 1)
        try:
            session.context.routing.publish([change], f"move {move.move_id} reverted")
        except StaleEpoch:
            continue
