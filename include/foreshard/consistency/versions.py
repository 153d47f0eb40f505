"""The version of a replicated write: the epoch of its key, its hybrid time, and its version vector."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.consistency.clock import HybridTime
from foreshard.consistency.vectors import Order, VersionVector

COUNTER_EPOCH = 1_577_836_800
"""Counters count from 2020 (seconds since 1970), so that 31 bits of seconds and 32 of increments last until 2088."""


@dataclass(frozen=True, slots=True)
class Version:
    """When, where and on top of what a document was written.

    ``epoch`` is the key's epoch (raised by each of its moves). A move fences and drains the old primary before the new one
    takes writes, so every version of a later epoch comes after every version of an earlier one; within an epoch the vector
    decides. ``time`` breaks ties between concurrent versions and is ordered by cause within one origin and epoch.
    """

    epoch: int
    time: HybridTime
    vector: VersionVector

    @property
    def stamp(self) -> tuple[int, HybridTime]:
        """What the last write is the last by: a total order."""
        return (self.epoch, self.time)

    def compare(self, other: Version) -> Order:
        """Where ``self`` stands to ``other``: by epoch, then by vector (a partial order)."""
        if self.epoch != other.epoch:
            return Order.AFTER if self.epoch > other.epoch else Order.BEFORE
        return self.vector.compare(other.vector)

    def covers(self, other: Version) -> bool:
        """Whether who wrote this had seen ``other``."""
        return self.compare(other) in (Order.AFTER, Order.EQUAL)


def version_of_write(origin: str, epoch: int, seconds: int, increment: int, seen: VersionVector | None = None) -> Version:
    """The version of the write that ``origin`` made at cluster time (seconds, increment), on top of ``seen``.

    The same event has the same version however often it is captured: nothing but the event itself goes into it.
    """
    own = VersionVector(((origin, max(1, (seconds - COUNTER_EPOCH << 32) + increment)),))
    return Version(epoch, HybridTime(seconds * 1000, increment, origin), own.merge(seen) if seen else own)
