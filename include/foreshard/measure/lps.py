"""LPS, the Load Prediction Score of a partition: the peak of its forecast at the upper quantile ÷ its capacity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from foreshard.errors import UnusableCapacity
from foreshard.measure.demand import KeyDemand, LoadProfile, ServingRule, sum_by_partition
from foreshard.measure.serving import CopyShares
from foreshard.model import ONE_HOUR, SECONDS_PER_HOUR, FloatArray, IntArray, Partition, PartitionScore


def load_prediction_scores(upper_load: npt.ArrayLike, capacity: npt.ArrayLike) -> FloatArray:
    """Return the LPS of partitions (…), from their loads at the upper quantile (…, hours) and capacities (…), in cost/s."""
    return np.asarray(np.max(upper_load, axis=-1, initial=0.0) / np.asarray(capacity))


def require_capacities(partitions: Sequence[Partition]) -> FloatArray:
    """Return the capacities in cost/s. Raise :class:`UnusableCapacity` for the first that is not a positive number."""
    for partition in partitions:
        if not (np.isfinite(partition.capacity) and partition.capacity > 0):
            raise UnusableCapacity(partition.partition_id, partition.capacity)
    return np.array([partition.capacity for partition in partitions], dtype=np.float64)


def access_volume(
    demand: KeyDemand, access_cost: FloatArray, primary: IntArray, shares: CopyShares, partitions: int
) -> FloatArray:
    """Return predicted accesses/s (partitions, hours), from each key's cost per access, ``access_cost`` (keys,).

    A write also counts at each shadow that applies it. An access cost ≤ 0 is unknown and counts as 1.
    """
    rate = demand.mean / np.where(access_cost > 0, access_cost, 1.0)[:, None] / SECONDS_PER_HOUR
    unshadowed = np.ones(len(primary), bool)
    unshadowed[shares.key] = False
    volume = sum_by_partition(rate[unshadowed], primary[unshadowed], partitions)
    np.add.at(volume, shares.partition, shares.share * rate[shares.key])
    return volume


def score_profile(
    hour: datetime,
    partitions: Sequence[Partition],
    profile: LoadProfile,
    volume: FloatArray,
    keys: Sequence[int],
    rule: ServingRule,
) -> tuple[PartitionScore, ...]:
    """Score each partition for the horizon after ``hour``.

    ``profile`` and ``volume`` have a row per partition; ``keys`` is the number of its primary keys. The peak is the first hour
    with the highest utilisation. ``predicted_load`` is the upper-quantile load in that hour, ``volume`` × ``complexity`` the
    mean load.
    """
    capacity = require_capacities(partitions)
    upper = profile.upper(rule)
    utilisation, lps = upper / capacity[:, None], load_prediction_scores(upper, capacity)
    scores = []
    for row, partition in enumerate(partitions):
        peak = int(utilisation[row].argmax())
        accesses, mean = float(volume[row, peak]), float(profile.mean[row, peak])
        scores.append(
            PartitionScore(
                hour=hour,
                partition_id=partition.partition_id,
                lps=float(lps[row]),
                peak_hour=hour + (peak + 1) * ONE_HOUR,
                predicted_load=float(upper[row, peak]),
                capacity=partition.capacity,
                volume=accesses,
                complexity=mean / accesses if accesses > 0 else 0.0,
                keys=int(keys[row]),
                utilisation=tuple(float(value) for value in utilisation[row]),
            )
        )
    return tuple(scores)
