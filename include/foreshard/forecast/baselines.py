"""Simple baseline forecasts, each with a spread from its own past errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foreshard.forecast._quantiles import measured_spread
from foreshard.forecast.similar_days import same_hour_of_week, weekly_profiles
from foreshard.measure.access_cost import smallest_costs
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, BoolArray, FloatArray, IntArray

Baseline = Callable[[FloatArray, BoolArray, IntArray, IntArray], FloatArray]

ERROR_DAYS = 7
"""The number of past days whose errors give the spread."""


def seasonal_naive(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> FloatArray:
    """Repeat the last week, or the last day with less than a week of history; the four-week mean if missing."""
    period = HOURS_PER_WEEK if len(numbers) >= HOURS_PER_WEEK else HOURS_PER_DAY
    steps = (ahead - numbers[-1] + period - 1) // period
    place = ahead - steps * period - numbers[0]
    inside = (place >= 0) & (place < len(numbers))
    place = np.clip(place, 0, len(numbers) - 1)
    known = observed[:, place] & inside
    values: FloatArray = np.where(known, costs[:, place], four_week_mean(costs, observed, numbers, ahead))
    return values


def four_week_mean(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> FloatArray:
    """Return the mean of the same hour of the week in the last four weeks, or of the same hour of the day if there is none."""
    last = slice(max(0, len(numbers) - 4 * HOURS_PER_WEEK), None)
    (profile,) = weekly_profiles(costs[:, last], observed[:, last], numbers[last], (1.0,))
    return same_hour_of_week(profile, ahead)


def last_hour(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> FloatArray:
    """Return the last observed hour, repeated."""
    del numbers
    last = observed.shape[1] - 1 - observed[:, ::-1].argmax(axis=1)
    rows = np.arange(len(costs))
    values: FloatArray = np.repeat(np.where(observed[rows, last], costs[rows, last], 0.0)[:, None], len(ahead), axis=1)
    return values


BASELINES: dict[str, Baseline] = {
    "seasonal_naive": seasonal_naive,
    "four_week_mean": four_week_mean,
    "last_hour": last_hour,
}


def with_spread(
    baseline: Baseline, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, quantile: float
) -> tuple[FloatArray, FloatArray]:
    """Return the mean and upper quantile (K, H).

    The quantile comes from the baseline's errors on each of the last ``ERROR_DAYS`` days.
    """
    mean = baseline(costs, observed, numbers, ahead)
    before, spans = [], []
    for back in range(ERROR_DAYS, 0, -1):
        end = len(numbers) - back * HOURS_PER_DAY
        if end >= HOURS_PER_DAY:
            day = slice(end, end + HOURS_PER_DAY)
            before.append(baseline(costs[:, :end], observed[:, :end], numbers[:end], numbers[day]))
            spans.append(day)
    if not spans:
        return mean, mean
    actual = np.concatenate([costs[:, span] for span in spans], axis=1)
    known = np.concatenate([observed[:, span] for span in spans], axis=1)
    smallest = smallest_costs(np.where(observed, costs, 0.0))
    unit = np.where(np.isfinite(smallest), smallest, 1.0)
    return mean, measured_spread(mean, np.concatenate(before, axis=1), actual, known, unit, quantile).upper
