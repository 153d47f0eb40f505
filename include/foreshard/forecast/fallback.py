"""Named fallbacks for keys that no model can serve: too little history, constant, or not finite.

``constant``           at least two observations, all equal: that value
``hour_of_week_mean``  every horizon hour was observed at least twice at the same hour of the week: their mean
``hour_of_day_mean``   the same for the hour of the day
``recent_mean``        at least one observation: the mean of the last observed day
``no_history``         no observation: zero

Each sigma is for a *new* observation: it includes the residuals' spread and the error of the mean. A single observation
says nothing about spread, so its sigma is the observation itself. A constant observed n times has sigma value/√(n+2): the next
observation differs with probability 1/(n+2), by about its own size. ``no_history`` has sigma 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast.spread import hourly_sigma
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, BoolArray, FloatArray, IntArray

HOUR_OF_WEEK_MEAN = "hour_of_week_mean"
HOUR_OF_DAY_MEAN = "hour_of_day_mean"
RECENT_MEAN = "recent_mean"
NO_HISTORY = "no_history"
CONSTANT = "constant"
FALLBACKS = (CONSTANT, HOUR_OF_WEEK_MEAN, HOUR_OF_DAY_MEAN, RECENT_MEAN, NO_HISTORY)

MINIMUM_SEEN = 2


@dataclass(frozen=True)
class FallbackForecast:
    """Means and standard deviations (keys, H), and the name of each key's fallback."""

    mean: FloatArray
    sigma: FloatArray
    names: tuple[str, ...]


def fallback_forecast(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> FallbackForecast:
    """Forecast each key by the first fallback, in the order above, that its history allows.

    ``costs`` and ``observed`` are (keys, T) at hour ``numbers`` (T,). ``ahead`` (H,) are the horizon's hour numbers.
    """
    costs = np.where(observed, costs, 0.0)
    count = len(costs)
    mean, sigma = np.zeros((count, len(ahead))), np.zeros((count, len(ahead)))
    names = np.full(count, NO_HISTORY, dtype=object)
    left: BoolArray = np.any(observed, axis=1)
    for row in np.flatnonzero(observed.sum(axis=1) >= MINIMUM_SEEN):
        known = costs[row][observed[row]]
        if (known == known[0]).all():
            mean[row], sigma[row] = known[0], abs(known[0]) / np.sqrt(len(known) + 2)
            names[row], left[row] = CONSTANT, False
    for name, period in ((HOUR_OF_WEEK_MEAN, HOURS_PER_WEEK), (HOUR_OF_DAY_MEAN, HOURS_PER_DAY)):
        seen = _slot_sums(observed.astype(np.float64), numbers, period)[:, ahead % period]
        rows = np.flatnonzero(left & (seen >= MINIMUM_SEEN).all(axis=1))
        if len(rows):
            mean[rows], sigma[rows] = _slot_mean(costs[rows], observed[rows], numbers, ahead, period)
            names[rows] = name
            left[rows] = False
    for row in np.flatnonzero(left):
        mean[row], sigma[row] = _recent_mean(costs[row], observed[row])
        names[row] = RECENT_MEAN
    return FallbackForecast(np.maximum(mean, 0.0), sigma, tuple(names))


def _slot_sums(values: FloatArray, numbers: IntArray, period: int) -> FloatArray:
    """Sum ``values`` (keys, T) by hour number modulo ``period``; (keys, period)."""
    sums = np.zeros((len(values), period))
    for slot in np.unique(numbers % period):
        sums[:, slot] = values[:, numbers % period == slot].sum(axis=1)
    return sums


def _slot_mean(
    costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, period: int
) -> tuple[FloatArray, FloatArray]:
    counts = _slot_sums(observed.astype(np.float64), numbers, period)
    means = _slot_sums(costs, numbers, period) / np.maximum(counts, 1.0)
    slots_used = (counts > 0).sum(axis=1)
    residuals = np.where(observed, costs - means[:, numbers % period], 0.0)
    freedom = np.maximum(observed.sum(axis=1) - slots_used, 1)[:, None]
    inflation = np.sqrt(np.maximum(observed.sum(axis=1), 1)[:, None] / freedom)
    spread = hourly_sigma(residuals * inflation, observed, numbers, ahead, 0.0)
    new = spread * np.sqrt(1.0 + 1.0 / np.maximum(counts[:, ahead % period], 1.0))
    return means[:, ahead % period], new


def _recent_mean(costs: FloatArray, observed: BoolArray) -> tuple[float, float]:
    """Return the mean and standard deviation of one key's last observed day."""
    recent = costs[observed][-HOURS_PER_DAY:]
    mean = float(recent.mean())
    if len(recent) == 1:
        return mean, abs(mean)
    return mean, float(recent.std(ddof=1) * np.sqrt(1.0 + 1.0 / len(recent)))
