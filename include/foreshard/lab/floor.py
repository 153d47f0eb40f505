"""The overload that chance alone causes, which no policy that knows only rates can avoid by moving keys.

If every hour's load were spread over the partitions in proportion to their capacity, partitions would still exceed it at times,
because accesses arrive at random. Let M(t) be the cost of the hour and v its variance per unit of cost, which is estimated from
the log (:mod:`foreshard.lab._noise`): accesses may be far more regular than Poisson, or less. A partition with share s of the
capacity has a load ~ Normal(s·M, s·M·v). The floor is Σ P(load > capacity). A policy can be below it by luck, by knowing the
counts, or by overloading one partition instead of many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from foreshard.lab.log import ReplayLog
from foreshard.measure.access_cost import smallest_costs
from foreshard.model import SECONDS_PER_HOUR, FloatArray


def noise_floor(
    log: ReplayLog, start: int, capacity: FloatArray, mean: FloatArray | None = None, sigma: FloatArray | None = None
) -> float:
    """Return the expected overload hours from ``start`` on, by the true ``mean`` and ``sigma`` (K, T) if known.

    In a log with times within the hour they are counted by step. Known rates are then taken as even within each hour.
    """
    per_hour = log.steps_per_hour
    if mean is not None:
        total = np.repeat(mean[:, start:].sum(axis=0, dtype=np.float64), per_hour) / per_hour
    elif log.steps:
        total = log.steps.totals()[start * per_hour :]
    else:
        total = log.costs[:, start:].sum(axis=0, dtype=np.float64)
    known = None if sigma is None else (sigma[:, start:].astype(np.float64) ** 2).sum(axis=0)
    variance = total * log.noise if known is None else np.repeat(known, per_hour) / per_hour
    room = capacity * SECONDS_PER_HOUR / per_hour
    share = (room / room.sum())[:, None]
    deviation = np.sqrt(np.maximum(share * variance, 1e-12))
    return float(ndtr((share * total - room[:, None]) / deviation).sum()) / per_hour


def cost_of_one_access(costs: npt.NDArray[np.floating[Any]]) -> float:
    """Return the cost of one access: each key's smallest hourly cost in ``costs`` (K, T), averaged by the keys' costs."""
    smallest = smallest_costs(costs).astype(np.float64)
    weight = costs.sum(axis=1, dtype=np.float64)
    seen = weight > 0
    return float((smallest[seen] * weight[seen]).sum() / weight[seen].sum()) if seen.any() else 1.0
