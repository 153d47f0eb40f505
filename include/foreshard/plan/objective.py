"""What the planner wants, as one number per placement. The search (:mod:`foreshard.plan._search`) lowers it.

    J = overload + nearness · work + copies + misplaced + churn          in expected overload hours

- **overload** = Σ over partitions and judged hours of
  w · [ P(X > h·C) + E(X − h·C)⁺/C + 0.02 · E(X − (h − 0.1)·C)⁺/C + 0.008 · (m/C)² ], where X ~ Normal(m, d) is the load of a
  partition in an hour, C its capacity, and h the high-water mark. The first term counts hours above the mark. It is flat where
  that is certain, so the second adds the excess; the third and fourth draw partitions apart long before
  (:func:`overload_risk`). d has the errors' correlation and the noise of co-accessed companions, which come together
  (:func:`with_companions`). The hours (:mod:`foreshard.plan.input.judged_hours`) are the coming ones (w = 0.9^hour, because
  later hours are planned again), the same under a burst (the *reserve*), and the mean week, for the ten days after.
- **work** is what the placement costs besides the accesses themselves: an access that needs two keys on two partitions, and an
  access served from afar, in shares of one partition's capacity (:data:`CROSSING`, :data:`DISTANCE`, :data:`NEARNESS`).
- **copies**: each shadow costs :data:`COPY` and its bytes. The load of its writes is in the overload already.
- **misplaced**: a unit that breaks a placement rule, or that is on a draining partition (:data:`MISPLACED`, :data:`DRAINING`).
- **churn**: what a unit costs to move or copy. It grows with the unit's load and bytes, and is many times higher just after its
  last move. That fades within days, and so replaces cool-downs, rests and rules against returning (:func:`churn_price`).

Forecasts can't tell placements apart that differ by less than their *resolution*: 0.1 overload hours for each 2% of capacity
that is moved. A smaller gain in overload is not believed; a loss always counts (:func:`believed`). Without it, plans follow
noise: three times as many moves for the same overload. Where a partition is above its mark and another is half empty, there is
nothing to doubt: their load is split evenly (the hours above the mark don't count, only the excess), and only units that were
moved lately keep their resolution.

The constants are those of one sketch of this objective, which was replayed on a bike-share log, a timetable, page views and
synthetic logs; nothing was fitted to a single log. The form follows Dicer's ``PlacementPhase`` (Databricks, 2026), Rebalancer
(Meta, OSDI 2024) and Cruise Control: say what is wanted, and let one search find how.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from foreshard.measure.demand import LoadProfile
from foreshard.model import SECONDS_PER_HOUR, FloatArray

HEADROOM, HEADROOM_WEIGHT = 0.1, 0.02
"""The slope begins this far below the high-water mark, with this weight."""
BALANCE = 0.008
"""The weight of (load ÷ capacity)²: enough to split many small units evenly, too little to move a large one."""
NEARNESS = 0.01
"""Overload hours per judged hour in which ``work`` takes all of a partition's capacity: room comes before nearness."""
CROSSING = 1.0
"""Accesses' worth of work when two co-accessed keys are on different partitions, per co-access."""
DISTANCE = 1.5
"""Work of an access served one span away (the longest distance of two partitions), as a share of its cost."""
COPY = 0.02
"""The price of keeping one shadow of a whole unit, unless it relieves a full partition beside a half empty one."""
MISPLACED, DRAINING = 1000.0, 1.0
"""The price of a unit that breaks a rule, and of one that is still on a draining partition."""
GIBIBYTE = 0.01
"""The price of copying one GiB."""
WHOLE = 0.02
"""A unit whose peak takes this share of a partition is one whole; smaller ones are a fraction of it."""
RESOLUTION = 0.1
"""Overload hours per whole that forecasts can't resolve."""
MOVED = 2e-6
"""The price of moving a whole, per judged hour and apart from its bytes: its writers wait for a moment."""
FADE_HOURS, AGAIN, AGAIN_RESOLUTION = 48.0, 50.0, 10.0
"""The price and the resolution of a unit just after its move are this many times higher, and halve every two days."""

_SMALLEST = 1e-9
"""Relative tolerance of a mark. Reads are shared up to exactly the mark."""
_CERTAIN = 8.0
"""A load more standard deviations than this below its mark has no risk (the error is below 1e-15)."""
_DENSITY = 1.0 / np.sqrt(2.0 * np.pi)


def overload_risk(
    mean: FloatArray, deviation: FloatArray, capacity: FloatArray, high_water: float, hours_count: bool = True
) -> FloatArray:
    """Return the term *overload* of each hour, without its weight. Loads are in cost/s; the arguments broadcast.

    Without ``hours_count`` P(X > h·C) is left out: only how much is too much counts, so that an even split is best.
    """
    probability, excess = _beyond(mean, deviation, high_water * capacity)
    _, headroom = _beyond(mean, deviation, max(high_water - HEADROOM, 0.1) * capacity)
    balance = BALANCE * (mean / capacity) ** 2
    return np.asarray(probability * hours_count + (excess + HEADROOM_WEIGHT * headroom) / capacity + balance)


def _beyond(mean: FloatArray, deviation: FloatArray, mark: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return P(X > mark) and E(X − mark)⁺ of normal loads, also without uncertainty."""
    over = np.asarray(mean - mark)
    deviation, least = np.broadcast_to(deviation, over.shape), _SMALLEST * mark
    probability, excess = np.array(over > least, np.float64), np.array(np.maximum(over, 0.0), np.float64)
    near = (deviation > least) & (np.abs(over) < _CERTAIN * deviation)
    spread, beyond = deviation[near], over[near]
    z = beyond / spread
    inside = ndtr(z)
    probability[near] = inside
    excess[near] = np.maximum(beyond * inside + spread * _DENSITY * np.exp(-0.5 * z * z), 0.0)
    return probability, excess


def with_companions(load: LoadProfile, co_accesses: FloatArray, access_cost: float) -> LoadProfile:
    """Add to ``load`` (…, T) the noise of ``co_accesses`` (…) per hour between keys of the same partition.

    The accesses of companions come together. For u Poisson co-accesses an hour at cost c, two loads covary by u·c² (compound
    Poisson), distributed over the hours like the mean. Without it, a partition that holds whole clumps looks calmer than it is.
    """
    if access_cost <= 0:
        return load
    typical = load.mean.mean(axis=-1, keepdims=True)
    shape = np.divide(load.mean, typical, out=np.zeros_like(load.mean), where=typical > 0)
    covariance = 2.0 * np.maximum(co_accesses, 0.0)[..., None] * (access_cost / SECONDS_PER_HOUR) ** 2 * shape
    return LoadProfile(load.mean, load.variance + covariance, load.spread)


def wholes(share: FloatArray) -> FloatArray:
    """Return which part of a whole each unit is (K), from its peak's share of a partition's capacity (K)."""
    return np.minimum(share / WHOLE, 1.0)


def churn_price(whole: FloatArray, size_bytes: FloatArray, idle_hours: FloatArray, hours: float) -> FloatArray:
    """Return the price of moving units (n), from their parts of a whole, bytes, and hours since their last move.

    ``hours``: the weight of all judged hours, with which what a move gains grows too.
    """
    return np.asarray(MOVED * hours * whole * (1.0 + AGAIN * fading(idle_hours)) + GIBIBYTE * size_bytes / 2**30)


def resolution(whole: FloatArray, idle_hours: FloatArray) -> FloatArray:
    """Return the gain in overload hours that forecasts can't resolve for each unit (n)."""
    return np.asarray(RESOLUTION * whole * (1.0 + AGAIN_RESOLUTION * fading(idle_hours)))


def fading(idle_hours: FloatArray) -> FloatArray:
    """Return 1 for units that have just been moved, 0.5 two days later, 0 for units that never were (n)."""
    return np.asarray(0.5 ** (idle_hours / FADE_HOURS))


def believed(change: FloatArray, unresolved: FloatArray) -> FloatArray:
    """Return the changes in overload that count: losses fully, gains as far as they exceed what is ``unresolved``."""
    return np.where(change < 0.0, np.minimum(change + unresolved, 0.0), change)
