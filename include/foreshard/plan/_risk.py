"""The cost of a load distribution in expected overload hours, with a gradient wherever moving load away helps.

For a load X ~ Normal in one hour, capacity C, overload mark h·C and low-water mark l·C:

    risk = P(X > h·C) + E(X − h·C)⁺ / C + 0.02 · E(X − l·C)⁺ / C

The first term counts expected overload hours. It is flat if overload is certain, so the second term adds the expected excess.
A partition that is far too full is thus emptied key by key, although no single key ends its overload. The small third term
draws a partition from the high-water towards the low-water mark, so that it need not be relieved again in the next hour.

Later hours have less weight (``hour_weights``), because they will be planned again with better forecasts.

Co-access adds variance. If an access of one key comes with an access of another, their loads covary. For u Poisson co-accesses
an hour at cost c per access, the covariance is u·c² (compound Poisson). Adding only the keys' variances would underestimate the
variance of a partition that holds whole clumps.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from foreshard.measure.demand import LoadProfile, row_entries
from foreshard.model import SECONDS_PER_HOUR, FloatArray, IntArray
from foreshard.plan.input.snapshot import CoAccessGraph

EXCESS_WEIGHT = 1.0
HEADROOM_WEIGHT = 0.02
LATER = 0.9
"""The weight of an hour relative to the hour before it."""

_SMALLEST = 1e-9
"""Relative tolerance of a mark: a smaller excess or deviation counts as 0. Reads are shared up to exactly the mark."""
_CERTAIN = 8.0
"""A load more standard deviations than this below its mark has no risk (the error is below 1e-15)."""
_DENSITY = 1.0 / np.sqrt(2.0 * np.pi)


def overload_risk(mean: FloatArray, deviation: FloatArray, capacity: FloatArray, high: float, low: float) -> FloatArray:
    """Return the risk of each hour in overload hours. Loads are in cost/s; the arguments broadcast."""
    probability, excess = _beyond(mean, deviation, high * capacity)
    _, headroom = _beyond(mean, deviation, low * capacity)
    return np.asarray(probability + (EXCESS_WEIGHT * excess + HEADROOM_WEIGHT * headroom) / capacity)


def hour_weights(hours: int) -> FloatArray:
    """Return the weight of each hour of a horizon, starting with 1, shape (hours,)."""
    return np.asarray(LATER ** np.arange(hours), np.float64)


def _beyond(mean: FloatArray, deviation: FloatArray, mark: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return P(X > mark) and E(X − mark)⁺ of normal loads, also without uncertainty."""
    over = np.asarray(mean - mark)
    deviation, least = np.broadcast_to(deviation, over.shape), _SMALLEST * mark
    probability, excess = np.array(over > least, np.float64), np.array(np.maximum(over, 0.0), np.float64)
    near = (deviation > least) & (over > -_CERTAIN * deviation)
    spread, beyond = deviation[near], over[near]
    z = beyond / spread
    inside = ndtr(z)
    probability[near] = inside
    excess[near] = np.maximum(beyond * inside + spread * _DENSITY * np.exp(-0.5 * z * z), 0.0)
    return probability, excess


class CoAccessCounts:
    """``inside`` (P): co-accesses per hour between keys on the same partition; 0 if the cost of an access is unknown."""

    def __init__(self, graph: CoAccessGraph, access_cost: float, primary: IntArray, partitions: int) -> None:
        self._graph, self._counted = graph, access_cost > 0
        self.inside: FloatArray = np.zeros(partitions)
        if self._counted:
            here = np.repeat(primary, np.diff(graph.indptr))
            together = here == primary[graph.neighbour]
            self.inside += np.bincount(here[together], weights=graph.weight[together], minlength=partitions) / 2.0

    def move(self, keys: IntArray, source: int, target: int, primary: IntArray) -> None:
        """Update the counts for a move of ``keys`` from ``source`` to ``target``. ``primary`` (K): the placement before it."""
        if not self._counted:
            return
        _, at = row_entries(self._graph.indptr, keys)
        neighbours, weights = self._graph.neighbour[at], self._graph.weight[at]
        among, where = np.isin(neighbours, keys), primary[neighbours]
        own = float(weights[among].sum()) / 2.0
        self.inside[source] -= float(weights[~among & (where == source)].sum())
        self.inside[target] += float(weights[~among & (where == target)].sum())
        self.inside[source] -= own
        self.inside[target] += own


def with_co_access_noise(profile: LoadProfile, co_accesses: FloatArray, access_cost: float) -> LoadProfile:
    """Add to ``profile`` (…, H) the variance of ``co_accesses`` (…) per hour, distributed over the hours like the mean."""
    if access_cost <= 0:
        return profile
    typical = profile.mean.mean(axis=-1, keepdims=True)
    shape = np.divide(profile.mean, typical, out=np.zeros_like(profile.mean), where=typical > 0)
    covariance = 2.0 * np.maximum(co_accesses, 0.0)[..., None] * (access_cost / SECONDS_PER_HOUR) ** 2 * shape
    return LoadProfile(profile.mean, profile.variance + covariance, profile.spread)
