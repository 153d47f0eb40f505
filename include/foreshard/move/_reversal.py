"""Reverting a move before its switch: the source accepts writes again at once, and the target is cleared."""

from __future__ import annotations

from foreshard.errors import MoveRefused
from foreshard.model.key_space import units_label
from foreshard.move._strays import forward_strays
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent
from foreshard.ports.publishing import TableEdit, publish_edit


def turn_back(session: MoveSession) -> None:
    """Lift the source's fence, which needs the source only. Then remove the copied documents (never from an owner).

    The target stays fenced. While it does not answer, the move waits in ``reverting`` and the source serves.
    """
    move, units, target = session.record.move, session.context.units, session.context.target
    session.claim(session.context.source)
    session.context.source.unfence()
    session.claim(target)
    target.settle()
    owned = session.read_owners().on(move.target)
    if owned:
        problem = f"{move.target} owns {units_label(owned)}, so nothing is removed there"
        raise MoveRefused(move.move_id, problem, "check the owner with `foreshard route`")
    if "absorbing" in session.record.notes:
        if not target.is_fenced():
            session.patiently(target.fence, f"fencing {target.partition_id}")
        forward_strays(session)
        session.context.shadows.absorb(units, move.target)
        _unlist_shadows(session)
        session.sync.remove_all(target, lambda _documents: session.beat())
    session.advance(MoveEvent.REVERTED)


def _unlist_shadows(session: MoveSession) -> None:
    """Remove the absorbed shadows from the routing table before their documents are removed."""
    move = session.record.move

    def edit() -> TableEdit | None:
        changes = session.read_owners().without_shadows(move.target)
        cause = f"move {move.move_id} reverted"
        return TableEdit(changes, cause, move_id=move.move_id) if changes else None

    publish_edit(session.context.routing, edit)
