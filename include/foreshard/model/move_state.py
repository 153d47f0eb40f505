"""The states of a move and the groups of states that stages and stores ask for.

:mod:`foreshard.move.states` has the transitions between them.
"""

from __future__ import annotations

from enum import StrEnum

OF_EARLIER_VERSIONS = ("drained", "verified")
"""States between fence and switch that older journals name."""


class MoveState(StrEnum):
    """The state of a move in its journal entry."""

    PLANNED = "planned"
    COPYING = "copying"
    CATCHING_UP = "catching_up"
    FENCED = "fenced"
    SWITCHED = "switched"
    CLEANING = "cleaning"
    DONE = "done"
    UNDONE = "undone"
    REVERTING = "reverting"
    REVERTED = "reverted"

    @classmethod
    def _missing_(cls, value: object) -> MoveState | None:
        return cls.FENCED if value in OF_EARLIER_VERSIONS else None


_S = MoveState

BEFORE_SWITCH = (_S.PLANNED, _S.COPYING, _S.CATCHING_UP, _S.FENCED)
"""The source owns the units. A move can be reverted from these states only."""

AFTER_SWITCH = (_S.SWITCHED, _S.CLEANING, _S.DONE)
"""The target owns the units. A reverse move undoes a move in these states."""

PENDING = (*BEFORE_SWITCH, _S.REVERTING)
"""The source owns the units and the move has not ended."""

RUNNING = tuple(state for state in PENDING if state is not _S.PLANNED)
"""A mover has begun the move and must end it before another move of its units may start."""

CLEANABLE = (_S.SWITCHED, _S.CLEANING)
"""The source still holds the documents that it no longer owns."""

STOPPABLE = (_S.PLANNED, _S.COPYING, _S.CATCHING_UP, *CLEANABLE)
"""A mover may pause here. It may not pause between fence and switch, because apps are waiting."""

ENDED = (_S.DONE, _S.UNDONE, _S.REVERTED)
"""Final states."""

OPEN = tuple(state for state in _S if state not in ENDED)
"""Every state except the final ones. The units may have documents on both partitions."""
