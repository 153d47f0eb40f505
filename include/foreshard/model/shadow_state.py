"""The states of a shadow and the groups of states that stages and stores ask for.

:mod:`foreshard.shadow.machine` has the transitions between them.
"""

from __future__ import annotations

from enum import StrEnum


class ShadowState(StrEnum):
    """The state of a shadow in its control document."""

    REQUESTED = "requested"
    COPYING = "copying"
    CATCHING_UP = "catching_up"
    READY = "ready"
    LIVE = "live"
    RETIRING = "retiring"
    RETIRED = "retired"
    FAILED = "failed"


_S = ShadowState

WANTED = (_S.REQUESTED, _S.COPYING, _S.CATCHING_UP, _S.READY, _S.LIVE)
"""The shadow is being made or serves reads."""

APPLYING = (_S.COPYING, _S.CATCHING_UP, _S.READY, _S.LIVE)
"""The shadow receives the changes of its primary copy."""

CAUGHT_UP = (_S.READY, _S.LIVE)
"""The shadow holds every change up to its ``caught_up_at``."""

UNLISTED_WITH_DATA = (_S.COPYING, _S.CATCHING_UP, _S.READY, _S.RETIRING, _S.FAILED)
"""The partition may hold documents of the shadow although the routing table does not list it."""
