"""A season as in STL: a daily pattern plus what each hour of the week differs from it, both from recent days first.

The two are fitted in turn, each to what the other leaves (backfitting, as in MSTL: Bandara, Hyndman and Bergmeir, 2021). The
smoother is an exponentially weighted mean instead of LOESS, so that all keys are solved at once. So a new timetable shows after
a few days in the daily part, and the weekly part keeps the weekdays apart.
"""

from __future__ import annotations

import numpy as np

from foreshard.forecast.similar_days import distinct_rows, weeks_of
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, FloatArray, IntArray

DAY_DECAY, WEEK_DECAY = 0.85, 0.6
"""The weight of a day, and of a week, relative to the one after it: windows of about 11 days and 4 weeks, near MSTL's."""
ROUNDS = 3
"""Rounds of backfitting. The fourth changes the forecast by less than 1%."""

_LEAST = 1e-9


def smoothed_season(costs: FloatArray, weights: FloatArray, numbers: IntArray, ahead: IntArray) -> FloatArray:
    """Return the season (K, H) at the hours ``ahead``, from ``costs`` (K, T) at contiguous hours, each with a weight (K, T)."""
    seen, values = weeks_of(distinct_rows(weights), numbers), weeks_of(costs, numbers)
    weeks = values.shape[1]
    by_week = seen * (WEEK_DECAY ** np.arange(weeks)[::-1])[:, None]
    by_day = seen * np.repeat(DAY_DECAY ** np.arange(7 * weeks)[::-1], HOURS_PER_DAY).reshape(weeks, HOURS_PER_WEEK)
    of_week = _week_mean(values, by_week)
    day_worth = _daily(by_day.sum(axis=1))
    of_days = _week_sum(values, by_day)
    week: FloatArray = np.zeros((len(costs), HOURS_PER_WEEK))
    for _ in range(ROUNDS):
        day = _daily(of_days - week * by_day.sum(axis=1)) / np.maximum(day_worth, _LEAST)
        week = np.where(by_week.sum(axis=1) > 0, of_week - np.tile(day, 7), 0.0)
        week -= week.mean(axis=1, keepdims=True)
    return np.asarray(np.maximum(day[:, ahead % HOURS_PER_DAY] + week[:, ahead % HOURS_PER_WEEK], 0.0))


def _week_sum(values: FloatArray, weights: FloatArray) -> FloatArray:
    rows = np.broadcast_to(weights, values.shape)
    return np.asarray(np.einsum("kwh,kwh->kh", values, rows))


def _week_mean(values: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray(_week_sum(values, weights) / np.maximum(weights.sum(axis=1), _LEAST))


def _daily(week: FloatArray) -> FloatArray:
    """Return the sums over the days of a week, (K, 24)."""
    return np.asarray(week.reshape(len(week), 7, HOURS_PER_DAY).sum(axis=1))
