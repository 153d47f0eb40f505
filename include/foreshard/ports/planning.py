"""The planner's input besides loads: recent moves, current shadows, and the sizes of keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from foreshard.model import Partition, ShardedCollection
from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.model.recent import CurrentShadow, RecentMove


@dataclass(frozen=True, slots=True)
class KeySizes:
    """Bytes per key or unit. ``typical`` is the mean of keys, used for keys that the sample has missed; 0 without a sample."""

    sizes: Mapping[str, float]
    typical: float

    def of(self, key: str) -> float:
        """Return the estimated bytes of a key."""
        return self.sizes.get(key, self.typical)

    def by_unit(self, units: Collection[str], space: KeySpace) -> KeySizes:
        """Return the sizes of units: keys that are none are summed into their slots."""
        sizes: dict[str, float] = {}
        for key, size in self.sizes.items():
            unit = key if key in units else slot_unit(space.slot_of(key))
            sizes[unit] = sizes.get(unit, 0.0) + size
        return KeySizes(sizes, self.typical)


class PlanningStore(Protocol):
    """The planner's view of ``moves`` and ``shadows``. It writes neither."""

    def recent_moves(self, since: datetime) -> tuple[RecentMove, ...]:
        """Return moves that are pending, or have switched at or after ``since``, oldest first."""

    def move_times(self, since: datetime) -> tuple[tuple[float, float], ...]:
        """Return (bytes, seconds from the start of copying to the switch) of moves that have switched since ``since``, newest
        first.

        Moves that were paused, taken over or reverted meanwhile are left out.
        """

    def current_shadows(self) -> tuple[CurrentShadow, ...]: ...

    def copies_in_transit(self) -> frozenset[tuple[str, str]]:
        """Return the (key, partition) of every copy that belongs to an open move or to a shadow that is not live."""

    def started(self, hour: datetime) -> bool:
        """Whether a move or shadow of the plan for ``hour`` has started."""

    def key_sizes(self, partitions: Sequence[Partition], collections: Sequence[ShardedCollection]) -> KeySizes:
        """Estimate the sizes of keys. Raise :class:`foreshard.errors.Unreachable` if a partition does not answer."""
