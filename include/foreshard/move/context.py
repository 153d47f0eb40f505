"""What one mover holds: the journal, both copies of the key, the routing table, and its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from foreshard.model import Placement
from foreshard.ports.migration import KeyCopy, MoveJournal, MoveRecord, ShadowAbsorber
from foreshard.ports.routing import RoutingStore


@dataclass(frozen=True, slots=True)
class MoveLimits:
    """Sizes and times; ``catch_up_lag`` is how far behind the target may be when the key is fenced."""

    batch_documents: int = 500
    catch_up_lag: timedelta = timedelta(milliseconds=500)
    catch_up_timeout: timedelta = timedelta(minutes=10)
    fence_timeout: timedelta = timedelta(seconds=5)
    grace_period: timedelta = timedelta(seconds=30)
    beat_every: timedelta = timedelta(milliseconds=250)


@dataclass(frozen=True, slots=True)
class MoveContext:
    """The world of one move; ``owner`` says where a key lives by the current table."""

    journal: MoveJournal
    source: KeyCopy
    target: KeyCopy
    routing: RoutingStore
    owner: Callable[[str], Placement]
    shadows: ShadowAbsorber
    limits: MoveLimits = MoveLimits()
    notify: Callable[[MoveRecord], None] = lambda _record: None

    def close(self) -> None:
        """Give both copies' resources back."""
        self.source.close()
        self.target.close()


@dataclass(frozen=True, slots=True)
class MoveSummary:
    """What became of a move, for XCom, logs and the command line; times in milliseconds and seconds."""

    move_id: str
    key: str
    source: str
    target: str
    state: str
    documents: int
    bytes: int
    pause_ms: float | None
    seconds: float
    version: int | None
    error: str | None

    @classmethod
    def of(cls, record: MoveRecord) -> MoveSummary:
        """Summarise a journal entry."""
        history = record.history
        return cls(
            record.move_id,
            record.move.key,
            record.move.source,
            record.move.target,
            str(record.state),
            int(record.counters.get("documents", 0)),
            int(record.counters.get("bytes", 0)),
            record.counters.get("pause_ms"),
            round((history[-1].at - history[0].at).total_seconds(), 3) if history else 0.0,
            record.version,
            record.error,
        )
