"""The transition table of a move: which event leads from which state to which.

::

       ┌──────────────adopt────────────────┐
       │                                   ▼
    planned ─begin─► copying ─copied─► catching_up ─fence─► fenced ─switch─► switched ─clean─► cleaning ─finish─► done
       │               ▲ └restart┘       │   ▲                 │                │
     skip              └────restart──────┘   └─────retreat─────┘                └─undo─► undone
       ▼
    reverted ◄─reverted─ reverting ◄─revert─ (every state before switched)

``adopt``: an undo's reverse move takes over the copy that its target has kept, so it needs no copying. ``undo``: the undone
move ends at the same moment. ``restart``: the source's oplog no longer held the changes, so the copy starts again at a new
position. ``retreat``: the cutover failed or its mover died, so the fence is lifted, apps write on the source, and the move
catches up again. ``skip``: the move can't begin, for example because its source no longer owns a unit. A move that has been
cleaned is undone by a plain move back.
"""

from __future__ import annotations

from enum import StrEnum

from foreshard.errors import IllegalTransition
from foreshard.model.move_state import BEFORE_SWITCH, MoveState


class MoveEvent(StrEnum):
    """The events that change a move's state."""

    BEGIN = "begin"
    ADOPT = "adopt"
    SKIP = "skip"
    COPIED = "copied"
    RESTART = "restart"
    FENCE = "fence"
    RETREAT = "retreat"
    SWITCH = "switch"
    UNDO = "undo"
    CLEAN = "clean"
    FINISH = "finish"
    REVERT = "revert"
    REVERTED = "reverted"


_S, _E = MoveState, MoveEvent

TRANSITIONS: dict[tuple[MoveState, MoveEvent], MoveState] = {
    (_S.PLANNED, _E.SKIP): _S.REVERTED,
    (_S.PLANNED, _E.BEGIN): _S.COPYING,
    (_S.PLANNED, _E.ADOPT): _S.CATCHING_UP,
    (_S.COPYING, _E.RESTART): _S.COPYING,
    (_S.COPYING, _E.COPIED): _S.CATCHING_UP,
    (_S.CATCHING_UP, _E.RESTART): _S.COPYING,
    (_S.CATCHING_UP, _E.FENCE): _S.FENCED,
    (_S.FENCED, _E.RETREAT): _S.CATCHING_UP,
    (_S.FENCED, _E.SWITCH): _S.SWITCHED,
    (_S.SWITCHED, _E.UNDO): _S.UNDONE,
    (_S.SWITCHED, _E.CLEAN): _S.CLEANING,
    (_S.CLEANING, _E.FINISH): _S.DONE,
    (_S.REVERTING, _E.REVERTED): _S.REVERTED,
    **{(state, _E.REVERT): _S.REVERTING for state in BEFORE_SWITCH},
}


def next_state(state: MoveState, event: MoveEvent) -> MoveState:
    """Return the state after ``event``. Raise :class:`IllegalTransition` if the table has no such transition."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition("move", str(state), str(event)) from None
