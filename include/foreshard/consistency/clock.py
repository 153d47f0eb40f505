"""Hybrid logical clocks: close to the wall clock, and consistent with causality.

Kulkarni, Demirbas, Madappa, Avva, Leone: *Logical Physical Clocks* (OPODIS 2014). A time is (physical ms, counter); its origin
makes the order total. A partition's times come from MongoDB's cluster time, which is a hybrid logical clock too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foreshard.errors import ClockDrift


@dataclass(frozen=True, slots=True, order=True)
class HybridTime:
    """Milliseconds since 1970, a counter, and the origin of the count; ordered in this sequence."""

    physical: int
    counter: int
    origin: str


class HybridClock:
    """The clock of one origin. Every time that it returns is later than all times that it returned or received before.

    ``wall`` returns milliseconds since 1970 and may stop or jump back. A received time more than ``maximum_drift`` ms ahead of
    ``wall`` raises :class:`ClockDrift`, so that one wrong clock does not advance all others.
    """

    def __init__(self, origin: str, wall: Callable[[], int], maximum_drift: int = 60_000) -> None:
        self._origin = origin
        self._wall = wall
        self._maximum_drift = maximum_drift
        self._last = HybridTime(0, 0, origin)

    @property
    def last(self) -> HybridTime:
        """The latest time returned."""
        return self._last

    def tick(self) -> HybridTime:
        """Return the time of a local event or a sent message."""
        physical = max(self._last.physical, self._wall())
        counter = self._last.counter + 1 if physical == self._last.physical else 0
        self._last = HybridTime(physical, counter, self._origin)
        return self._last

    def receive(self, remote: HybridTime) -> HybridTime:
        """Return the time of receiving a message sent at ``remote``."""
        wall = self._wall()
        if remote.physical - wall > self._maximum_drift:
            raise ClockDrift(remote.origin, remote.physical - wall, self._maximum_drift)
        physical = max(self._last.physical, remote.physical, wall)
        counters = [known.counter for known in (self._last, remote) if known.physical == physical]
        self._last = HybridTime(physical, max(counters) + 1 if counters else 0, self._origin)
        return self._last
