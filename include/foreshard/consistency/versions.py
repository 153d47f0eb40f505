"""The version of a replicated write: the epoch of its key, its hybrid time, and its version vector."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.consistency.clock import HybridTime
from foreshard.consistency.vectors import Order, VersionVector

COUNTER_EPOCH = 1_577_836_800
"""Counters start in 2020 (seconds since 1970), so that 31 bits of seconds and 32 of increments last until 2088."""


@dataclass(frozen=True, slots=True)
class Version:
    """When and where a document was written, and which versions the writer had seen.

    ``epoch`` is the key's epoch, which each move raises. A move fences and drains the old primary copy before the new one
    accepts writes, so every version of a later epoch is newer than all versions of earlier epochs. Within an epoch the vector
    decides. ``time`` breaks ties between concurrent versions.
    """

    epoch: int
    time: HybridTime
    vector: VersionVector

    @property
    def stamp(self) -> tuple[int, HybridTime]:
        """The total order that last-write-wins uses."""
        return (self.epoch, self.time)

    def compare(self, other: Version) -> Order:
        """Return the (partial) order of ``self`` relative to ``other``: by epoch, then by vector."""
        if self.epoch != other.epoch:
            return Order.AFTER if self.epoch > other.epoch else Order.BEFORE
        return self.vector.compare(other.vector)

    def covers(self, other: Version) -> bool:
        """Return whether the writer of this version had seen ``other``."""
        return self.compare(other) in (Order.AFTER, Order.EQUAL)


def version_of_write(origin: str, epoch: int, seconds: int, increment: int, seen: VersionVector | None = None) -> Version:
    """Return the version of a write by ``origin`` at cluster time (seconds, increment), after ``seen``.

    It depends only on the event, so an event that is captured twice has the same version.
    """
    own = VersionVector(((origin, max(1, (seconds - COUNTER_EPOCH << 32) + increment)),))
    return Version(epoch, HybridTime(seconds * 1000, increment, origin), own.merge(seen) if seen else own)
