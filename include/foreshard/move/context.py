"""The ports and limits that one mover works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from foreshard.model.unit_set import UnitSet
from foreshard.move.pacer import Pacer, unpaced
from foreshard.ports.migration import ShadowAbsorber, UnitCopy
from foreshard.ports.move_journal import MoveJournal, MoveRecord
from foreshard.ports.routing import RoutingStore
from foreshard.settings import MigrateSettings

BEAT_EVERY = timedelta(milliseconds=250)
"""A mover renews its lease and reports progress this often. It is far below the shortest sensible lease."""

Together = Callable[[Callable[[], Any], Callable[[], Any]], tuple[Any, Any]]


def one_after_the_other(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Call both. Return both results."""
    return first(), second()


@dataclass(frozen=True, slots=True)
class MoveContext:
    """The ports of one move of ``units``.

    ``together(first, second)`` runs two calls, at the same time if it can, and returns both results. ``trouble`` is told about
    errors beside the work. ``renew_every``: how often a thread renews the lease (None: never).
    """

    journal: MoveJournal
    units: UnitSet
    source: UnitCopy
    target: UnitCopy
    routing: RoutingStore
    shadows: ShadowAbsorber
    limits: MigrateSettings
    notify: Callable[[MoveRecord], None] = lambda _record: None
    trouble: Callable[[MoveRecord, Exception], None] = lambda _record, _error: None
    together: Together = one_after_the_other
    beat_every: timedelta = BEAT_EVERY
    renew_every: timedelta | None = None
    pacer: Pacer = field(default_factory=unpaced)

    def close(self) -> None:
        """Close both copies."""
        self.source.close()
        self.target.close()


@dataclass(frozen=True, slots=True)
class MoveSummary:
    """The result of a move for XCom, logs and the command line. ``pause_ms`` is the cutover's write pause."""

    move_id: str
    label: str
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
            record.move.label,
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
