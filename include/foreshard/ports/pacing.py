"""The ports that keep moves from slowing apps down: limits that a person can change, and gauges of what suffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class MigrationLimits:
    """How fast one move copies (0: no limit). While ``hold`` is set, moves copy nothing."""

    bytes_per_second: float = 0.0
    documents_per_second: float = 0.0
    hold: bool = False


class MigrationLimitStore(Protocol):
    """The limits of running moves (``migration_limits`` in the control database)."""

    def read(self) -> MigrationLimits:
        """Return the limits now: the settings', except the ones that were changed since."""

    def change(
        self, *, bytes_per_second: float | None = None, documents_per_second: float | None = None, hold: bool | None = None
    ) -> MigrationLimits:
        """Change the limits that are given. Running moves follow within a second. Return all limits."""


class StrainGauge(Protocol):
    """Measures what a move does to others."""

    def strain(self) -> str | None:
        """Return what suffers now, as the end of "waiting because …"; None if nothing does."""
