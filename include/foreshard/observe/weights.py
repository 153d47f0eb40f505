"""Learns what an access of each request type costs from records that say what they cost.

A record has one type, so the regression of costs on types is a mean for each type. It is a robust one: costs above the 99th
percentile of their type count as that percentile, because the longest waits are those for others. A median would not do:
capacity is used by the mean, and costs are skewed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from foreshard.model import FloatArray

FEWEST_RECORDS = 100
"""Fewer records of a type than this teach nothing about it."""

CUT = 0.99
BATCHES = 50
_OF_95_PERCENT = 1.96


@dataclass(frozen=True, slots=True)
class LearnedWeight:
    """What a request type costs. ``cost`` ± ``error`` (95 %) is in the records' unit; ``weight`` ± ``weight_error`` in cost
    units, on the scale of the weights that are set.

    ``cut``: the share of the type's cost that lies above its 99th percentile, and was left out. ``current``: the weight that is
    set. ``weight`` is None for fewer than ``FEWEST_RECORDS`` records, or without any cost.
    """

    request_type: str
    records: int
    cost: float
    error: float
    cut: float
    current: float
    weight: float | None = None
    weight_error: float = math.nan


def learned_weights(costs: Mapping[str, FloatArray], current: Mapping[str, float]) -> tuple[LearnedWeight, ...]:
    """Return the weight of each type of ``current``, by name. ``costs``: those of its records (n,), in the order of the log.

    The scale leaves the total cost of these records as it is with the current weights, so capacities keep their meaning.
    """
    found = [_learned(name, costs.get(name, np.zeros(0)), weight) for name, weight in sorted(current.items())]
    known = [one for one in found if one.records >= FEWEST_RECORDS and one.cost > 0]
    measured = sum(one.records * one.cost for one in known)
    if not measured:
        return tuple(found)
    scale = sum(one.records * one.current for one in known) / measured
    return tuple(
        replace(one, weight=one.cost * scale, weight_error=one.error * scale) if one in known else one for one in found
    )


def _learned(name: str, costs: FloatArray, current: float) -> LearnedWeight:
    if not len(costs):
        return LearnedWeight(name, 0, 0.0, math.nan, 0.0, current)
    highest = float(np.quantile(costs, CUT, method="higher"))
    kept = np.minimum(costs, highest)
    total = float(costs.sum())
    cut = 1 - float(kept.sum()) / total if total > 0 else 0.0
    return LearnedWeight(name, len(costs), float(kept.mean()), _error(kept), cut, current)


def _error(costs: FloatArray) -> float:
    """Return half the 95 % interval of the mean, by the means of consecutive batches: neighbours wait for the same things."""
    batches = min(BATCHES, len(costs) // 10)
    if batches < 2:
        return math.nan
    means = np.array([part.mean() for part in np.array_split(costs, batches)])
    return _OF_95_PERCENT * float(means.std(ddof=1)) / math.sqrt(batches)
