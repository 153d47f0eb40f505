"""The noise of a log's counts, estimated from the log: the variance of a key's hourly cost around its expectation.

The expectation is not known, so differences that cancel it are taken: between an hour and its neighbours, the hours one day
or one week away, and mixtures of these. What does not cancel is noise, scaled by the differences' known gain. A difference that
leaves some of the expectation gives a larger estimate, never a smaller one, so the least one counts. Poisson accesses give the
cost of one access, a timetable that repeats every week gives 0, and accesses that come in bursts give more. (Rice, *Bandwidth
choice for nonparametric regression*, Annals of Statistics 1984; Hall, Kay and Titterington, Biometrika 1990.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, FloatArray

DIFFERENCES = (
    (1,),
    (HOURS_PER_DAY,),
    (HOURS_PER_WEEK,),
    (1, HOURS_PER_DAY),
    (1, HOURS_PER_WEEK),
    (HOURS_PER_DAY, HOURS_PER_WEEK),
)
"""The distances, in hours, between the hours that are compared. Two distances: differences of differences."""
FEWEST_HOURS = 24
"""A difference that exists for fewer hours is not used."""
CELLS_AT_ONCE = 4_000_000
"""The number of cells (keys × hours) that are differenced at once."""


def variance_per_cost(costs: npt.NDArray[np.number[Any]]) -> float:
    """Return the variance of the keys' hourly ``costs`` (K, T) around their expectation, per unit of cost.

    It is the median over days, so days on which everything differs (holidays, failures) do not count. With less than about two
    days of hours, or without cost, it is 0.
    """
    found = [ratio for distances in DIFFERENCES if (ratio := _ratio(costs, distances)) is not None]
    return min(found, default=0.0)


def _ratio(costs: npt.NDArray[np.number[Any]], distances: tuple[int, ...]) -> float | None:
    """Return the median over days of the squared differences ÷ their gain ÷ the cost; None if there are too few hours."""
    keys, hours = costs.shape
    probe, gain, first = _difference(np.zeros((1, hours)), distances)
    span = probe.shape[1]
    if span < FEWEST_HOURS:
        return None
    squares = np.zeros(span)
    for rows in _blocks(keys, hours):
        part, _, _ = _difference(costs[rows].astype(np.float64), distances)
        squares += (part**2).sum(axis=0)
    total = costs[:, first : first + span].sum(axis=0, dtype=np.float64)
    days = np.arange(0, span - FEWEST_HOURS + 1, HOURS_PER_DAY)
    noise, cost = (np.add.reduceat(values[: days[-1] + HOURS_PER_DAY], days) for values in (squares / gain, total))
    return float(np.median(noise[cost > 0] / cost[cost > 0])) if (cost > 0).any() else None


def _blocks(keys: int, hours: int) -> Iterator[slice]:
    step = max(1, CELLS_AT_ONCE // max(hours, 1))
    return (slice(first, first + step) for first in range(0, keys, step))


def _difference(costs: FloatArray, distances: tuple[int, ...]) -> tuple[FloatArray, float, int]:
    """Return the differences (K, ≤ T), their variance relative to that of ``costs``, and the hour of the first one.

    An hour is compared with the mean of the hours before and after it, or with the hour before it in a log that is too short.
    """
    gain, first = 1.0, 0
    for distance in distances:
        hours = costs.shape[1]
        if hours >= 3 * distance:
            middle = costs[:, distance : hours - distance]
            costs, gain, first = (
                middle - 0.5 * (costs[:, : hours - 2 * distance] + costs[:, 2 * distance :]),
                1.5 * gain,
                first + distance,
            )
        else:
            costs, gain, first = costs[:, distance:] - costs[:, : max(hours - distance, 0)], 2.0 * gain, first + distance
    return costs, gain, first
