"""Paces one move by the limits and gauges that it is given (:mod:`foreshard.move._pacing` has the formulas)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from foreshard.move._pacing import Pace, looked, pause_after
from foreshard.ports.pacing import MigrationLimits, MigrationLimitStore, StrainGauge

LIMITS_EVERY, LOOK_EVERY = 1.0, 0.25
"""Seconds between two readings of the limits, and between two looks at the gauges."""
HELD = "an operator holds all moves (`foreshard moves throttle --go-on`)"


class Pacer:
    """Tells a move how long to pause, and why. Not thread-safe."""

    def __init__(
        self, limits: MigrationLimitStore, gauges: Sequence[StrainGauge], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._gauges, self._clock = limits, tuple(gauges), clock
        self._limits, self._read_at = MigrationLimits(), float("-inf")
        self._looked_at = float("-inf")
        self._strain: str | None = None
        self._pace: Pace | None = None

    def pause_after(self, documents: int, size: int) -> float:
        """Return the seconds to pause after a batch of ``documents`` and ``size`` bytes."""
        self._read()
        now = self._clock()
        if self._pace is None:
            self._pace, self._looked_at = Pace(now, now), now
        pace = self._pace
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self._strain = next(filter(None, (gauge.strain() for gauge in self._gauges)), None)
            pace, now = looked(pace, suffers=self._strain is not None), self._clock()
        self._pace, pause = pause_after(pace, now, documents, size, self._limits)
        return pause

    def is_held(self) -> bool:
        """Return whether an operator holds all moves."""
        self._read()
        return self._limits.hold

    @property
    def reason(self) -> str:
        """Why the move pauses, as the end of "waiting because …"."""
        if self._limits.hold:
            return HELD
        if self._strain is not None:
            return self._strain
        return "it has reached its limit of bytes or documents per second"

    def _read(self) -> None:
        if self._clock() - self._read_at >= LIMITS_EVERY:
            self._limits, self._read_at = self._store.read(), self._clock()


class NoLimits:
    """Limits of moves that nothing limits."""

    def read(self) -> MigrationLimits:
        """Return no limits."""
        return MigrationLimits()

    def change(self, **_changes: object) -> MigrationLimits:
        """Change nothing."""
        return MigrationLimits()


def unpaced() -> Pacer:
    """Return a pacer that never pauses."""
    return Pacer(NoLimits(), ())
