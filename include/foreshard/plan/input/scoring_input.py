"""The input of scoring: demand and placement of the same keys and partitions, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from foreshard.measure.demand import KeyDemand, ServingRule
from foreshard.model import FloatArray, ForecastBatch, IntArray, Partition, RoutingTable
from foreshard.plan.input.mean_week import MeanWeek
from foreshard.plan.input.profile import KeyProfiles


@dataclass(frozen=True)
class ScoringInput:
    """K keys (sorted) with their demand, on P partitions.

    ``primary`` (K) holds partition indices. ``distance_km`` (L, P) has a row per location of the profiles. ``week``: the mean
    week of each key.
    """

    hour: datetime
    keys: tuple[str, ...]
    partitions: tuple[Partition, ...]
    table: RoutingTable
    demand: KeyDemand
    profiles: KeyProfiles
    primary: IntArray
    distance_km: FloatArray
    rule: ServingRule
    week: MeanWeek | None

    @property
    def partition_index(self) -> dict[str, int]:
        """Partition id → index."""
        return {partition.partition_id: index for index, partition in enumerate(self.partitions)}

    @property
    def access_cost(self) -> float:
        """The average cost of one forecast access; 0 without any."""
        cost, work = self.profiles.access_cost, self.demand.mean.sum(axis=1)
        accesses = np.divide(work, cost, out=np.zeros_like(work), where=cost > 0)
        return float(work[cost > 0].sum() / accesses.sum()) if accesses.any() else 0.0

    def published_shadows(self) -> list[tuple[int, int]]:
        """Return (key, partition) indices of the shadows in the routing table."""
        partitions = self.partition_index
        return [
            (index, partitions[shadow])
            for index, key in enumerate(self.keys)
            if (placement := self.table.placements.get(key))
            for shadow in placement.shadows
            if shadow in partitions
        ]


def align_forecasts(forecasts: ForecastBatch, keys: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Return mean and sigma (K, H) in the order of ``keys``. A key without a forecast has no load; negative values become 0."""
    mean = np.zeros((len(keys), forecasts.mean.shape[1]))
    sigma = np.zeros_like(mean)
    row = {key: index for index, key in enumerate(keys)}
    order = np.array([row[key] for key in forecasts.keys], np.int64)
    mean[order], sigma[order] = np.maximum(forecasts.mean, 0.0), np.maximum(forecasts.sigma, 0.0)
    return mean, sigma
