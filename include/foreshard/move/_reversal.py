"""Turning a move back before its switch: the source takes writes again at once, the target is cleared."""

from __future__ import annotations

from foreshard.errors import MoveRefused, StaleEpoch
from foreshard.model import PlacementChange
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent

MAXIMUM_STALE = 5


def turn_back(hold: MoveSession) -> None:
    """Unfence the source, remove what was copied (never on the key's owner), restore the target's own fence."""
    move, notes, target = hold.record.move, hold.record.notes, hold.ends.target
    hold.ends.source.unfence()
    if hold.ends.owner(move.key).primary == move.target:
        raise MoveRefused(move.move_id, f"{move.target} owns the key, so nothing is removed there", "look at the table")
    if "absorbing" in notes:
        hold.ends.shadows.absorb(move.key, move.target)
        _unlist_shadow(hold)
        hold.replication.remove_all(target, lambda _documents: hold.beat())
    if notes.get("target_was_fenced") is False:
        target.unfence()
    hold.advance(MoveEvent.REVERTED)


def _unlist_shadow(hold: MoveSession) -> None:
    """Take a shadow that the move has absorbed out of the table, before its documents go."""
    move = hold.record.move
    for _ in range(MAXIMUM_STALE):
        owner = hold.ends.owner(move.key)
        if move.target not in owner.shadows:
            return
        shadows = tuple(shadow for shadow in owner.shadows if shadow != move.target)
        change = PlacementChange(move.key, owner.primary, shadows, owner.epoch, owner.epoch + 1)
        try:
            hold.ends.routing.publish([change], f"move {move.move_id} reverted")
        except StaleEpoch:
            continue
