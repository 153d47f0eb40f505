"""The mean week of each key over the last four: how loaded a placement is on any day, besides what the forecast says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.measure.access_cost import smallest_costs
from foreshard.model import HOURS_PER_WEEK, BoolArray, FloatArray

WEEKS = 4
DISPERSION = 1.5
"""Variance ÷ mean of hourly counts of accesses: somewhat more than Poisson's 1."""
MOST_GROWTH = 3.0


@dataclass(frozen=True)
class MeanWeek:
    """The mean cost of K keys in the 168 hours that follow a snapshot's, one week on average: ``mean`` (K, 168) in cost/hour.

    ``noise`` (K): the variance of an hour's cost ÷ its mean, in cost. ``weeks``: the number of weeks in the mean.
    """

    mean: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    weeks: float


def mean_week(costs: npt.NDArray[np.floating[Any]], counted: BoolArray | None = None) -> MeanWeek | None:
    """Average the last four weeks of a history (K, T) by the hour of the week; None without a whole week.

    ``counted`` (T): hours that were counted (None: all). An hour of the week that never was counts as 0.
    """
    weeks = min(costs.shape[1] // HOURS_PER_WEEK, WEEKS)
    if not weeks:
        return None
    span = weeks * HOURS_PER_WEEK
    recent, known = costs[:, -span:], np.ones(span, bool) if counted is None else counted[-span:]
    samples = known.reshape(weeks, HOURS_PER_WEEK).sum(axis=0)
    total = recent.reshape(len(recent), weeks, HOURS_PER_WEEK).sum(axis=1, dtype=np.float32)
    smallest = smallest_costs(recent)
    noise = np.where(np.isfinite(smallest), DISPERSION * smallest, 0.0).astype(np.float32)
    return MeanWeek(total / np.maximum(samples, 1).astype(np.float32), noise, float(known.sum() / HOURS_PER_WEEK))


def at_current_level(week: MeanWeek, hourly: FloatArray) -> MeanWeek:
    """Scale to the total of the last week if load has grown, by ``hourly``, the total cost per hour of the history (T).

    Weeks with less load would show room that no longer exists. A decrease is not scaled; growth is limited.
    """
    span = hourly[-WEEKS * HOURS_PER_WEEK :]
    level = span.mean() if len(span) else 0.0
    growth = float(np.clip(hourly[-HOURS_PER_WEEK:].mean() / level, 1.0, MOST_GROWTH)) if level > 0 else 1.0
    return MeanWeek(week.mean * np.float32(growth), week.noise, week.weeks)
