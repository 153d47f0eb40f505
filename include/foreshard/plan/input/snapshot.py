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
from foreshard.plan.input.migration_rate import MigrationRate
from foreshard.plan.input.past_hours import PastHours

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


@dataclass(frozen=True, slots=True)
class IndexedShadow:
    """A shadow that exists or is being made: snapshot indices, its reason code, and whether it may be removed yet."""

    shadow_id: str
    key: int
    partition: int
    why: str = ""
    removable: bool = True


@dataclass(frozen=True)
class Snapshot:
    """The state from which the plan for ``hour`` is made: K keys (sorted), P partitions, L locations, H horizon hours.

    A *key* here is any unit, a slot too; ``keys`` holds its name.

    - ``primary`` (K): each key's partition index.
    - ``distance_km`` (L, P), ``partition_km`` (P, P): distances without NaN (:mod:`foreshard.measure.geography`).
    - ``key_bytes`` (K): estimated size of each key.
    - ``shadows``: existing shadows. ``leaving``: (key, partition) of shadows that are being removed.
    - ``movable`` (K): neither cooling down nor being moved. ``under_way`` (K): being moved.
    - ``rested`` (K): not moved for some weeks, so they may settle.
    - ``last_source`` (K): the partition that a key left recently, to which it does not return; −1 for none.
    - ``correlation``: of the keys' forecast errors. ``week_peak``: the highest hourly total of the last week (0: unknown).
    - ``access_cost``: mean cost of an access (0: unknown; co-accessed keys then count as independent).
    - ``past``: the cost of each key in a sample of past hours (None: unknown).
    - ``slot_row`` (K): the row of each key's slot; units without one have their own.
    - ``bounds``: where placement rules allow each key. ``migration``: the rate of moves.
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
    rested: BoolArray = field(default_factory=lambda: np.empty(0, bool))
    last_source: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    correlation: float = 0.0
    week_peak: float = 0.0
    access_cost: float = 0.0
    past: PastHours | None = None
    under_way: BoolArray = field(default_factory=lambda: np.empty(0, bool))
    bounds: Bounds | None = None
    slot_row: IntArray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        """Fill in defaults: every key movable and rested, none being moved. A past without hours counts as None."""
        if self.past is not None and not self.past.hours:
            object.__setattr__(self, "past", None)
        if not len(self.under_way):
            object.__setattr__(self, "under_way", np.zeros(len(self.keys), bool))
        if not len(self.movable):
            object.__setattr__(self, "movable", np.ones(len(self.keys), bool))
        if not len(self.rested):
            object.__setattr__(self, "rested", np.ones(len(self.keys), bool))
        if not len(self.slot_row):
            object.__setattr__(self, "slot_row", np.arange(len(self.keys)))
        if not len(self.last_source):
            object.__setattr__(self, "last_source", np.full(len(self.keys), -1, np.int64))

    @cached_property
    def coming_peak(self) -> float:
        """The highest total of a coming hour, in cost per hour."""
        return float(self.demand.mean.sum(axis=0).max(initial=0.0))

    @cached_property
    def busy_factor(self) -> float:
        """The ratio of the last week's busiest hour to the busiest hour ahead, at least 1."""
        return max(1.0, self.week_peak / self.coming_peak) if self.coming_peak > 0 else 1.0

    @cached_property
    def capacity(self) -> FloatArray:
        """Capacities (P) in cost/s."""
        return np.array([partition.capacity for partition in self.partitions], np.float64)

    @cached_property
    def rules(self) -> Bounds:
        """Where placement rules allow each key."""
        return Bounds.free(len(self.keys), len(self.partitions)) if self.bounds is None else self.bounds

    @cached_property
    def not_back_to(self) -> IntArray:
        """The partition that each key may not return to, −1 for none (K). Keys that violate a rule may return."""
        return np.where(self.rules.at_home(self.primary), self.last_source, -1)

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
    """The planner's settings, all given by the caller. The defaults are those of :class:`foreshard.settings.PlanSettings`.

    Gains and prices are in expected overload hours over the horizon (:mod:`foreshard.plan._risk`).

    - ``high_water``, ``low_water``: the LPS at which a partition is relieved, and the LPS at which relief stops.
    - ``overload_mark``: the share of capacity above which an hour counts as overloaded.
    - ``maximum_moves``, ``maximum_shadows``, ``maximum_bytes``: limits of one plan.
    - ``maximum_write_share``: keys with a larger share of writes are not shadowed.
    - ``minimum_gain``: the net gain that each moved key must bring. ``shadow_gain``: the same for each shadow.
    - ``gigabyte_price``: the price of copying one GiB.
    - ``crossing_cost``: extra cost units of an access that uses two keys on different partitions.
    - ``distance_weight``: the value of serving an access one span nearer, as a share of its cost. A span is the longest
      distance between two partitions.
    - ``settle_gain``: the price of moving a key closer to its readers and its co-accessed keys. The gain is counted over
      ``payback_days`` days like the coming one. ``maximum_settled`` limits such moves in one plan.
    - ``relief_closeness``: the weight of one day's closeness when moves against overload are ranked.
    - ``hot_share``: a key whose mean peak takes this share of its partition's capacity is hot. Moving it would only move
      the hot spot, so it is shadowed instead.
    - ``far_km``, ``far_share``, ``far_load``: a key is read from far away if at least ``far_share`` of its reads cross
      ``far_km`` and these reads take at least ``far_load`` of its partition's capacity.
    - ``reserve``: the share of each partition's capacity kept free for bursts. Reads that shadows can take may use it.
    - ``maximum_clump``: the largest number of keys moved as one clump.
    - ``parallel_moves``: the number of moves that run at once from one partition, and to one partition.
    """

    high_water: float
    low_water: float
    maximum_moves: int
    maximum_shadows: int
    maximum_bytes: float
    maximum_write_share: float
    minimum_gain: float
    relief_closeness: float
    settle_gain: float
    maximum_settled: int
    shadow_gain: float
    overload_mark: float
    gigabyte_price: float
    crossing_cost: float
    distance_weight: float
    payback_days: float
    hot_share: float
    far_km: float
    far_share: float
    far_load: float
    reserve: float
    maximum_clump: int
    parallel_moves: int
    serving: ServingRule

    @classmethod
    def of(cls, plan: PlanSettings, migrate: MigrateSettings, serving: ServingRule) -> PlanPolicy:
        """Take the policy from the settings, field by field, so that a renamed setting fails mypy."""
        return cls(
            high_water=plan.high_water,
            low_water=plan.low_water,
            maximum_moves=plan.maximum_moves,
            maximum_shadows=plan.maximum_shadows,
            maximum_bytes=plan.maximum_bytes,
            maximum_write_share=plan.maximum_write_share,
            minimum_gain=plan.minimum_gain,
            relief_closeness=plan.relief_closeness,
            settle_gain=plan.settle_gain,
            maximum_settled=plan.maximum_settled,
            shadow_gain=plan.shadow_gain,
            overload_mark=plan.overload_mark,
            gigabyte_price=plan.gigabyte_price,
            crossing_cost=plan.crossing_cost,
            distance_weight=plan.distance_weight,
            payback_days=plan.payback_days,
            hot_share=plan.hot_share,
            far_km=plan.far_km,
            far_share=plan.far_share,
            far_load=plan.far_load,
            reserve=plan.reserve,
            maximum_clump=plan.maximum_clump,
            parallel_moves=migrate.parallel_moves,
            serving=serving,
        )
