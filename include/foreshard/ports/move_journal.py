"""The journal of moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from foreshard.model import Move
from foreshard.model.move_state import OPEN, MoveState
from foreshard.ports.migration import Position


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One transition of a move: the new state, the event, the time, and the lease."""

    state: MoveState
    event: str
    at: datetime
    lease: int


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """A move's journal entry.

    The source's changes are applied up to ``position``. ``opened_from`` is a position on the target before its first app write.
    ``notes`` are for the next mover, ``counters`` for people (documents, bytes, …).
    """

    move: Move
    state: MoveState
    hour: datetime | None = None
    lease: int = 0
    lease_until: datetime | None = None
    stop_requested: bool = False
    position: Position | None = None
    opened_from: Position | None = None
    version: int | None = None
    error: str | None = None
    counters: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[HistoryEntry, ...] = ()

    @property
    def move_id(self) -> str:
        """The move's id."""
        return self.move.move_id

    def entered(self, state: MoveState) -> datetime | None:
        """Return when the move last entered ``state``."""
        return next((entry.at for entry in reversed(self.history) if entry.state == state), None)


class MoveJournal(Protocol):
    """``moves`` in the control database, one document per move. Every change is a compare-and-set on (state, lease)."""

    def plan(self, move: Move, hour: datetime | None) -> MoveRecord:
        """Journal a move, or return its entry if it is known.

        It is skipped at once if an open move excludes it: one with the same unit, or one of the two moves a slot that the
        other touches.
        """

    def get(self, move_id: str) -> MoveRecord:
        """Return a move. Raise :class:`foreshard.errors.UnknownMove`."""

    def find(self, states: Collection[MoveState] = (), hour: datetime | None = None) -> tuple[MoveRecord, ...]:
        """Return the moves in ``states`` (all if empty) and of ``hour`` (any if None), oldest first."""

    def take(self, move_id: str, states: Collection[MoveState] = OPEN, *, silent: bool = False) -> MoveRecord:
        """Take a move over: raise its lease by one and clear a requested stop.

        With ``silent``, take it only from a silent mover, and leave a requested stop.

        Raise :class:`foreshard.errors.MoveHasEnded` if the move is not in ``states``.
        """

    def renew(self, record: MoveRecord) -> None:
        """Renew the lease, unless another mover has it."""

    def release(self, record: MoveRecord, waiting: str | None) -> MoveRecord:
        """End the lease, so that anybody may take the move. ``waiting`` says for what it waits."""

    def undo(self, record: MoveRecord, reverse: Move, notes: Mapping[str, Any]) -> MoveRecord:
        """End a switched move as undone and enter the reverse move, which adopts the kept copy. Return the reverse move."""

    def advance(
        self, record: MoveRecord, to: MoveState, event: str, changes: Mapping[str, Any] | None = None, session: Any = None
    ) -> MoveRecord:
        """Enter ``to``. Raise :class:`foreshard.errors.MoveSuperseded` unless state and lease are still those of ``record``."""

    def beat(self, record: MoveRecord, changes: Mapping[str, Any]) -> MoveRecord:
        """Renew the lease and save progress. Raise :class:`foreshard.errors.MoveSuperseded` like ``advance``."""

    def claim_place(self, record: MoveRecord, most: int) -> MoveRecord | None:
        """Let the move run if fewer than ``most`` others run from its source, and to its target; otherwise return None.

        A place is free again once its move has switched or ended, or its mover is silent. Raise ``MoveSuperseded`` like
        ``advance``.
        """

    def narrow(self, record: MoveRecord, units: Sequence[str]) -> MoveRecord:
        """Leave only ``units`` in a planned move, and note the others. Raise ``MoveSuperseded`` like ``advance``."""

    def pause(self, record: MoveRecord) -> MoveRecord:
        """Release the lease. The move stays in its state until somebody takes it."""

    def request_stop(self, move_id: str) -> MoveRecord:
        """Ask the move's mover to pause."""

    def abandoned(self, states: Collection[MoveState], *, stopped: bool = False) -> tuple[MoveRecord, ...]:
        """Return moves in ``states`` whose lease has expired, by the control database's clock.

        ``stopped``: also moves that were asked to stop.
        """
