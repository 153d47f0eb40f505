"""How much overload chance alone brings: what no policy that knows only rates can avoid by moving keys.

Were every hour's load spread over the partitions in proportion to their capacity, each would still be above it now and then,
because accesses come at random. With M(t) the hour's cost and v its variance per unit of cost (one access's cost where accesses
are Poisson: Σ cost² ÷ Σ cost), partition p of share s(p) has load ~ Normal(s·M, s·M·v); the floor is Σ P(load > capacity).
A policy can be below it by luck, by knowing the counts, or by letting one partition overflow for the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from foreshard.lab.log import ReplayLog, smallest_costs
from foreshard.model import SECONDS_PER_HOUR, FloatArray


def noise_floor(
    log: ReplayLog, start: int, capacity: FloatArray, mean: FloatArray | None = None, sigma: FloatArray | None = None
) -> float:
    """Expected overload hours from ``start`` on; of the rates ``mean`` and ``sigma`` (K, T) where they are known."""
    total = (log.costs if mean is None else mean)[:, start:].sum(axis=0, dtype=np.float64)
    if sigma is None:
        variance = total * cost_of_one_access(log.costs[:, start:])
    else:
        variance = (sigma[:, start:].astype(np.float64) ** 2).sum(axis=0)
    hourly = capacity * SECONDS_PER_HOUR
    share = (hourly / hourly.sum())[:, None]
    deviation = np.sqrt(np.maximum(share * variance, 1e-12))
    return float(ndtr((share * total - hourly[:, None]) / deviation).sum())


def cost_of_one_access(costs: npt.NDArray[np.floating[Any]]) -> float:
    """Variance ÷ mean of Poisson accesses: each key's smallest cost of an hour (K, T), weighed by its cost."""
    smallest = smallest_costs(costs).astype(np.float64)
    weight = costs.sum(axis=1, dtype=np.float64)
    seen = weight > 0
    return float((smallest[seen] * weight[seen]).sum() / weight[seen].sum()) if seen.any() else 1.0
