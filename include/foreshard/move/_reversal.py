"""Reverting a move before its switch: the source accepts writes again at once, and the target is cleared."""

from __future__ import annotations

from foreshard.errors import MoveRefused
from foreshard.model import PlacementChange
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent
from foreshard.ports.publishing import TableEdit, publish_edit


def turn_back(session: MoveSession) -> None:
    """Lift the source's fence, remove the copied documents (never from the owner), and restore the target's fence."""
    move, notes, target = session.record.move, session.record.notes, session.context.target
    session.context.source.unfence()
    if session.context.owner(move.units[0]).primary == move.target:
        raise MoveRefused(
            move.move_id, f"{move.target} owns the key, so nothing is removed there", "check the key with `foreshard route`"
        )
    if "absorbing" in notes:
        session.context.shadows.absorb(move.units[0], move.target)
        _unlist_shadow(session)
        session.sync.remove_all(target, lambda _documents: session.beat())
    if notes.get("target_was_fenced") is False:
        target.unfence()
    session.advance(MoveEvent.REVERTED)


def _unlist_shadow(session: MoveSession) -> None:
    """Remove the absorbed shadow from the routing table before its documents are removed."""
    move = session.record.move

    def edit() -> TableEdit | None:
        owner = session.context.owner(move.units[0])
        if move.target not in owner.shadows:
            return None
        shadows = tuple(shadow for shadow in owner.shadows if shadow != move.target)
        change = PlacementChange(move.units[0], owner.primary, shadows, owner.epoch, owner.epoch + 1)
        return TableEdit([change], f"move {move.move_id} reverted")

    publish_edit(session.context.routing, edit)
