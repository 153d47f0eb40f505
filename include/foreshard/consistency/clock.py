"""Hybrid logical time: close to the wall clock, and in the order of cause and effect.

Kulkarni, Demirbas, Madappa, Avva, Leone: *Logical Physical Clocks* (OPODIS 2014). A time is (physical ms, counter), made a
total order by its origin. A partition's own times are derived from MongoDB's cluster time, which is such a clock itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foreshard.errors import ClockDrift


@dataclass(frozen=True, slots=True, order=True)
class HybridTime:
    """Milliseconds since 1970, a counter within them, and who counted: totally ordered in that sequence."""

    physical: int
    counter: int
    origin: str


class HybridClock:
    """One origin's clock: every time that it gives is later than all that it gave or received before.

    ``wall`` returns milliseconds since 1970 and may jump back or stand still. A received time that is more than
    ``maximum_drift`` ms ahead of ``wall`` is refused with :class:`ClockDrift`, so that one wrong clock cannot pull all along.
    """

    def __init__(self, origin: str, wall: Callable[[], int], maximum_drift: int = 60_000) -> None:
        self._origin = origin
        self._wall = wall
        self._maximum_drift = maximum_drift
        self._last = HybridTime(0, 0, origin)

    @property
    def last(self) -> HybridTime:
        """The latest time given."""
        return self._last

    def tick(self) -> HybridTime:
        """The time of a local event or of a message sent."""
        physical = max(self._last.physical, self._wall())
        counter = self._last.counter + 1 if physical == self._last.physical else 0
        self._last = HybridTime(physical, counter, self._origin)
        return self._last

    def receive(self, remote: HybridTime) -> HybridTime:
        """The time of receiving a message sent at ``remote``."""
        wall = self._wall()
        if remote.physical - wall > self._maximum_drift:
            raise ClockDrift(remote.origin, remote.physical - wall, self._maximum_drift)
        physical = max(self._last.physical, remote.physical, wall)
        counters = [known.counter for known in (self._last, remote) if known.physical == physical]
        self._last = HybridTime(physical, max(counters) + 1 if counters else 0, self._origin)
        return self._last
