"""The variance that co-access adds to the load of a partition.

If an access of one key comes with an access of another, their loads covary. For u Poisson co-accesses an hour at cost c per
access, the covariance is u·c² (compound Poisson). Adding only the keys' variances would underestimate the variance of a
partition that holds whole clumps.
"""

from __future__ import annotations

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import SECONDS_PER_HOUR, FloatArray, IntArray
from foreshard.plan.snapshot import CoAccessGraph


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
        own = 0.0
        for key in keys.tolist():
            neighbours, weights = self._graph.of(key)
            among = np.isin(neighbours, keys)
            own += float(weights[among].sum()) / 2.0
            where = primary[neighbours]
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
