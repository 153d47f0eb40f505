"""The planner's input as arrays, one row per key or partition. It does not change while a plan is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array

from foreshard.measure.demand import KeyDemand, ServingRule
from foreshard.measure.placement_rules import Bounds
from foreshard.model import BoolArray, FloatArray, IntArray, Partition, PartitionState
from foreshard.model.key_space import SLOT_MARK, unit_label
from foreshard.plan.input.mean_week import MeanWeek
from foreshard.plan.input.migration_rate import MigrationRate

if TYPE_CHECKING:
    from foreshard.settings import MigrateSettings, PlanSettings


@dataclass(frozen=True)
class CoAccessGraph:
    """The co-access of keys as compressed sparse rows. Every pair is in both rows.

    The neighbours of key ``k`` are ``neighbour[indptr[k]:indptr[k+1]]``. ``weight`` is in co-accesses per hour.
    """

    indptr: IntArray
    neighbour: IntArray
    weight: FloatArray

    @classmethod
    def build(cls, key_a: npt.ArrayLike, key_b: npt.ArrayLike, weight: npt.ArrayLike, keys: int) -> CoAccessGraph:
        """Build from unordered pairs of key indices. Repeated pairs are summed; loops and weights ≤ 0 are dropped."""
        a, b, w = np.asarray(key_a, np.int64), np.asarray(key_b, np.int64), np.asarray(weight, np.float64)
        kept = (a != b) & (w > 0)
        one_way = coo_array((w[kept], (a[kept], b[kept])), shape=(keys, keys)).tocsr()
        both = (one_way + one_way.T.tocsr()).tocsr()
        both.sort_indices()
        return cls(both.indptr.astype(np.int64), both.indices.astype(np.int64), both.data.astype(np.float64))

    @classmethod
    def empty(cls, keys: int) -> CoAccessGraph:
        """Return a graph without co-access."""
        return cls(np.zeros(keys + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))

    def of(self, key: int) -> tuple[IntArray, FloatArray]:
        """Return (neighbours, weights) of one key."""
        row = slice(int(self.indptr[key]), int(self.indptr[key + 1]))
        return self.neighbour[row], self.weight[row]


def certain_uses(counts: FloatArray) -> FloatArray:
    """Return the part of each count that chance does not explain: two standard deviations of a Poisson count less.

    A pair that was co-accessed a few times says nothing yet about next week. Without this, a short log of page views led to
    two thousand moves that brought nothing.
    """
    return np.asarray(np.maximum(counts - 2.0 * np.sqrt(counts), 0.0))


@dataclass(frozen=True, slots=True)
class IndexedShadow:
    """A shadow that exists or is being made: snapshot indices, its reason code, and the hours since it was planned."""

    shadow_id: str
    key: int
    partition: int
    why: str = ""
    idle_hours: float = np.inf


@dataclass(frozen=True)
class Snapshot:
    """The state from which the plan for ``hour`` is made: K keys (sorted), P partitions, L locations, H horizon hours.

    A *key* here is any unit, a slot too; ``keys`` holds its name.

    - ``primary`` (K): each key's partition index.
    - ``distance_km`` (L, P), ``partition_km`` (P, P): distances without NaN (:mod:`foreshard.measure.geography`).
    - ``key_bytes`` (K): estimated size of each key.
    - ``shadows``: existing shadows. ``leaving``: (key, partition) of shadows that are being removed.
    - ``movable`` (K): not being moved, nor its slot. ``under_way`` (K): being moved.
    - ``idle_hours`` (K): the hours since each unit's last move; infinity if it never moved.
    - ``last_source`` (K): the partition that a key left recently, where its old copy may still be; −1 for none.
    - ``access_cost``: mean cost of an access (0: unknown; co-accessed keys then count as independent).
    - ``week``: the mean week of each key (None: less than a week is known).
    - ``slot_row`` (K): the row of each key's slot; units without one have their own.
    - ``bounds``: where placement rules allow each key. ``migration``: the rate of moves.
    - ``unsettled``: the partitions whose load is not that of the routing table, because moves or shadows are under way.
    """

    hour: datetime
    table_version: int
    keys: tuple[str, ...]
    partitions: tuple[Partition, ...]
    demand: KeyDemand
    primary: IntArray
    distance_km: FloatArray
    partition_km: FloatArray
    key_bytes: FloatArray
    co_access: CoAccessGraph
    migration: MigrationRate
    shadows: tuple[IndexedShadow, ...] = ()
    leaving: frozenset[tuple[int, int]] = frozenset()
    movable: BoolArray = field(default_factory=lambda: np.empty(0, bool))
    idle_hours: FloatArray = field(default_factory=lambda: np.empty(0, np.float64))
    last_source: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    access_cost: float = 0.0
    week: MeanWeek | None = None
    under_way: BoolArray = field(default_factory=lambda: np.empty(0, bool))
    bounds: Bounds | None = None
    slot_row: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    unsettled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in defaults: every key movable, never moved and none being moved."""
        if not len(self.under_way):
            object.__setattr__(self, "under_way", np.zeros(len(self.keys), bool))
        if not len(self.movable):
            object.__setattr__(self, "movable", np.ones(len(self.keys), bool))
        if not len(self.idle_hours):
            object.__setattr__(self, "idle_hours", np.full(len(self.keys), np.inf))
        if not len(self.slot_row):
            object.__setattr__(self, "slot_row", np.arange(len(self.keys)))
        if not len(self.last_source):
            object.__setattr__(self, "last_source", np.full(len(self.keys), -1, np.int64))

    @cached_property
    def capacity(self) -> FloatArray:
        """Capacities (P) in cost/s."""
        return np.array([partition.capacity for partition in self.partitions], np.float64)

    @cached_property
    def rules(self) -> Bounds:
        """Where placement rules allow each key."""
        return Bounds.free(len(self.keys), len(self.partitions)) if self.bounds is None else self.bounds

    @cached_property
    def active(self) -> BoolArray:
        """Which partitions may receive keys (P)."""
        return np.array([partition.state is PartitionState.ACTIVE for partition in self.partitions], bool)

    @cached_property
    def slots(self) -> BoolArray:
        """Which units are slots (K). They have no co-access, no shadows and no name of their own."""
        return np.fromiter((key.startswith(SLOT_MARK) for key in self.keys), bool, count=len(self.keys))

    def shown(self, key: int) -> str:
        """Return a unit's name for people: the key itself, or ``slot 811``."""
        return unit_label(self.keys[key]) if self.slots[key] else self.keys[key]

    @cached_property
    def leaving_of(self) -> dict[int, list[int]]:
        """Key → the partitions where a shadow of it is being removed."""
        grouped: dict[int, list[int]] = {}
        for key, partition in self.leaving:
            grouped.setdefault(key, []).append(partition)
        return grouped

    @cached_property
    def span_km(self) -> float:
        """The longest distance between two partitions, at least 1 km: the unit of distance in prices."""
        return max(1.0, float(self.partition_km.max(initial=0.0)))


@dataclass(frozen=True, slots=True)
class PlanPolicy:
    """The planner's settings. The defaults are those of :class:`foreshard.settings.PlanSettings`; see
    :mod:`foreshard.plan.objective`.

    - ``high_water``: the LPS above which a partition is relieved, and which no target may pass.
    - ``maximum_moves``, ``maximum_shadows``, ``maximum_bytes``: limits of one plan.
    - ``maximum_write_share``: keys with a larger share of writes are not shadowed.
    - ``reserve``: the share of each partition's capacity that bursts may need.
    - ``nearness``, ``churn``: the weights of these terms; 0 leaves one out.
    - ``parallel_moves``: the number of moves that run at once from one partition, and to one partition.
    """

    high_water: float
    maximum_moves: int
    maximum_shadows: int
    maximum_bytes: float
    maximum_write_share: float
    reserve: float
    nearness: float
    churn: float
    parallel_moves: int
    serving: ServingRule

    @classmethod
    def of(cls, plan: PlanSettings, migrate: MigrateSettings, serving: ServingRule) -> PlanPolicy:
        """Take the policy from the settings, field by field, so that a renamed setting fails mypy."""
        return cls(
            high_water=plan.high_water,
            maximum_moves=plan.maximum_moves,
            maximum_shadows=plan.maximum_shadows,
            maximum_bytes=plan.maximum_bytes,
            maximum_write_share=plan.maximum_write_share,
            reserve=plan.reserve,
            nearness=plan.nearness,
            churn=plan.churn,
            parallel_moves=migrate.parallel_moves,
            serving=serving,
        )
