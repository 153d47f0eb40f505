"""Keys that are used together are noisier together: what common uses add to the variance of the partition that holds both.

Where a use of one key brings an access of another, their loads covary: for Poisson uses, u of them an hour at c per access,
by u·c² (compound Poisson). Adding the keys' variances alone would take a partition of whole clumps for calmer than it is.
"""

from __future__ import annotations

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import SECONDS_PER_HOUR, FloatArray, IntArray
from foreshard.plan.snapshot import CoAccessGraph


class CommonUses:
    """``inside`` (P): common uses per hour of keys that are on the same partition; none where their cost is unknown."""

    def __init__(self, graph: CoAccessGraph, access_cost: float, primary: IntArray, partitions: int) -> None:
        self._graph, self._counted = graph, access_cost > 0
        self.inside: FloatArray = np.zeros(partitions)
        if self._counted:
            here = np.repeat(primary, np.diff(graph.indptr))
            together = here == primary[graph.neighbour]
            self.inside += np.bincount(here[together], weights=graph.weight[together], minlength=partitions) / 2.0

    def move(self, keys: IntArray, source: int, target: int, primary: IntArray) -> None:
        """Count as it is once ``keys`` have gone from ``source`` to ``target``; ``primary`` says where all were before."""
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


def noisier(profile: LoadProfile, uses: FloatArray, access_cost: float) -> LoadProfile:
    """``profile`` (…, H) with what ``uses`` (…) common uses per hour add to its variance, in the shape of its mean."""
    if access_cost <= 0:
        return profile
    usual = profile.mean.mean(axis=-1, keepdims=True)
    shape = np.divide(profile.mean, usual, out=np.zeros_like(profile.mean), where=usual > 0)
    covariance = 2.0 * np.maximum(uses, 0.0)[..., None] * (access_cost / SECONDS_PER_HOUR) ** 2 * shape
    return LoadProfile(profile.mean, profile.variance + covariance, profile.spread)
