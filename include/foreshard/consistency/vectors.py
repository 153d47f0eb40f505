"""Version vectors: a counter per origin, which distinguishes newer versions from concurrent ones.

Parker et al.: *Detection of Mutual Inconsistency in Distributed Systems* (IEEE TSE 1983).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Order(StrEnum):
    """The order of two versions."""

    BEFORE = "before"
    AFTER = "after"
    EQUAL = "equal"
    CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True)
class VersionVector:
    """Origin → counter as sorted pairs; unlisted origins have 0. An origin's counter increases with each of its writes."""

    entries: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, counters: Mapping[str, int]) -> VersionVector:
        """Return the vector of these counters. Zeros are dropped, so that equal vectors are equal values."""
        return cls(tuple(sorted((origin, counter) for origin, counter in counters.items() if counter)))

    def compare(self, other: VersionVector) -> Order:
        """Return the (partial) order of ``self`` relative to ``other``."""
        if self.entries == other.entries:
            return Order.EQUAL
        mine, theirs = dict(self.entries), dict(other.entries)
        behind = any(counter > mine.get(origin, 0) for origin, counter in theirs.items())
        ahead = any(counter > theirs.get(origin, 0) for origin, counter in mine.items())
        if behind and ahead:
            return Order.CONCURRENT
        return Order.BEFORE if behind else Order.AFTER

    def merge(self, other: VersionVector) -> VersionVector:
        """Return the least upper bound of both vectors."""
        merged = dict(self.entries)
        for origin, counter in other.entries:
            merged[origin] = max(counter, merged.get(origin, 0))
        return VersionVector.of(merged)

    def advance(self, origin: str, counter: int) -> VersionVector:
        """This vector with ``origin`` at ``counter`` or later."""
        return self.merge(VersionVector(((origin, counter),)))
