"""The transition table of a shadow: which event leads from which state to which.

::

    request ─► requested ─start─► copying ─copied─► catching_up ─caught_up─► ready ─publish─► live
                   ▲                 ▲ │                 │                      │               │
                   │                 └─┴─────────────────┴──────── recopy ──────┴───────────────┘
      request      │                                     (the primary moved, or changes may have been missed)
    retired ───────┤
    failed  ───────┘        any before retiring ─remove─► retiring ─cleaned─► retired
                            any but retired     ─absorb─► retired   (its partition becomes the primary)
                            any before retiring ─fail─►   failed ─remove─► retiring

``copying`` compares the target with the source and copies the differences, so it can be repeated from any point.
``catching_up`` waits until the changes after that comparison are applied. A ``live`` shadow is in the routing table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from foreshard.errors import IllegalTransition
from foreshard.model.shadow_state import APPLYING, WANTED, ShadowState
from foreshard.ports.replication import Shadow, ShadowStore

_S = ShadowState
TRANSITIONS: Final[Mapping[tuple[ShadowState, str], ShadowState]] = {
    (_S.REQUESTED, "start"): _S.COPYING,
    (_S.COPYING, "copied"): _S.CATCHING_UP,
    (_S.CATCHING_UP, "caught_up"): _S.READY,
    (_S.READY, "publish"): _S.LIVE,
    **{(state, "recopy"): _S.COPYING for state in APPLYING},
    **{(state, "remove"): _S.RETIRING for state in (*WANTED, _S.FAILED)},
    **{(state, "fail"): _S.FAILED for state in WANTED},
    **{(state, "absorb"): _S.RETIRED for state in (*WANTED, _S.FAILED, _S.RETIRING)},
    (_S.RETIRING, "cleaned"): _S.RETIRED,
    (_S.RETIRED, "request"): _S.REQUESTED,
    (_S.FAILED, "request"): _S.REQUESTED,
}


def next_state(state: ShadowState, event: str) -> ShadowState:
    """Return the state after ``event``. Raise :class:`IllegalTransition` if the table has no such transition."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition("shadow", state.value, event) from None


def step(store: ShadowStore, shadow: Shadow, event: str, fields: Mapping[str, Any] | None = None) -> Shadow | None:
    """Take ``shadow`` through ``event``. Return None if it has changed since it was read; read it again then."""
    return store.change(shadow, next_state(shadow.state, event), fields)
