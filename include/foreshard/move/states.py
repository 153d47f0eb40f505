"""The transition table of a move: which event leads from which state to which.

::

    planned ─begin─► copying ─copied─► catching_up ─fence─► fenced ─drained─► drained ─verified─► verified ─switch─► switched
       │               ▲ └restart┘        │    ▲ ▲             │               │  │                  │ │                │
     skip              └─────restart──────┘    │ └───retreat───┴───────────────┘  └─refence► fenced ◄┘ │              clean
       ▼                                       └──────────────────retreat──────────────────────────────┘                ▼
    reverted ◄─reverted─ reverting ◄─revert─ (every state before switched)                       done ◄─finish─ cleaning

``restart``: the source's oplog no longer held the changes, so the copy starts again at a new position. ``retreat``: draining
took too long, so the fence is lifted, apps write on the source, and the move catches up again. ``refence``: an app's own
``collMod`` had lifted the fence. ``skip``: the planned source no longer owns a unit. After ``switched``, a reverse move undoes
the move; it is a new move.
"""

from __future__ import annotations

from enum import StrEnum

from foreshard.errors import IllegalTransition
from foreshard.model.move_state import BEFORE_SWITCH, MoveState


class MoveEvent(StrEnum):
    """The events that change a move's state."""

    BEGIN = "begin"
    SKIP = "skip"
    COPIED = "copied"
    RESTART = "restart"
    FENCE = "fence"
    RETREAT = "retreat"
    REFENCE = "refence"
    DRAIN = "drained"
    VERIFY = "verified"
    SWITCH = "switch"
    CLEAN = "clean"
    FINISH = "finish"
    REVERT = "revert"
    REVERTED = "reverted"


_S, _E = MoveState, MoveEvent

TRANSITIONS: dict[tuple[MoveState, MoveEvent], MoveState] = {
    (_S.PLANNED, _E.SKIP): _S.REVERTED,
    (_S.PLANNED, _E.BEGIN): _S.COPYING,
    (_S.COPYING, _E.RESTART): _S.COPYING,
    (_S.COPYING, _E.COPIED): _S.CATCHING_UP,
    (_S.CATCHING_UP, _E.RESTART): _S.COPYING,
    (_S.CATCHING_UP, _E.FENCE): _S.FENCED,
    (_S.FENCED, _E.RETREAT): _S.CATCHING_UP,
    (_S.FENCED, _E.DRAIN): _S.DRAINED,
    (_S.DRAINED, _E.REFENCE): _S.FENCED,
    (_S.DRAINED, _E.RETREAT): _S.CATCHING_UP,
    (_S.DRAINED, _E.VERIFY): _S.VERIFIED,
    (_S.VERIFIED, _E.REFENCE): _S.FENCED,
    (_S.VERIFIED, _E.RETREAT): _S.CATCHING_UP,
    (_S.VERIFIED, _E.SWITCH): _S.SWITCHED,
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
