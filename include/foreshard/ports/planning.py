"""What the planner must know of the world besides loads: what was moved lately, which copies stand, and how big keys are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from foreshard.model import Partition, ShardedCollection
from foreshard.model.recent import CurrentShadow, RecentMove


@dataclass(frozen=True, slots=True)
class KeySizes:
    """Bytes per key on the partitions; ``typical`` is the mean, for keys that a sample has missed (0 without samples)."""

    sizes: Mapping[str, float]
    typical: float

    def of(self, key: str) -> float:
        """The estimate for one key."""
        return self.sizes.get(key, self.typical)


class PlanningStore(Protocol):
    """The planner's view of ``moves`` and ``shadows``; it never writes there."""

    def recent_moves(self, since: datetime) -> tuple[RecentMove, ...]:
        """Moves that are pending, or were switched at or after ``since``, oldest first."""

    def move_times(self, since: datetime) -> tuple[tuple[float, float], ...]:
        """(bytes, seconds from the start of copying to the switch) of moves switched at or after ``since``, the newest first.

        Moves that were stopped, taken over or turned back in between are left out.
        """

    def standing_copies(self) -> tuple[CurrentShadow, ...]: ...

    def copies_in_transit(self) -> frozenset[tuple[str, str]]:
        """(key, partition) of every copy that a move (up to its cleaning) or a shadow that isn't live explains."""

    def started(self, hour: datetime) -> bool:
        """Whether any move or shadow of the plan for ``hour`` has been taken up."""

    def key_sizes(self, partitions: Sequence[Partition], collections: Sequence[ShardedCollection]) -> KeySizes:
        """Measure the keys; raise :class:`foreshard.errors.Unreachable` where a partition does not answer."""
