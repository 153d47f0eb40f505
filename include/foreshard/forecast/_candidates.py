"""The forecasts that a blend mixes, each made for all keys at once: seasonal means, last week, and Prophet."""

from __future__ import annotations

import numpy as np

from foreshard.forecast._configuration import plain
from foreshard.forecast._map_batch import fit_batch
from foreshard.forecast.baselines import seasonal_naive
from foreshard.forecast.odd_hours import open_weights
from foreshard.forecast.similar_days import similar_days, weekly_profiles
from foreshard.forecast.smoothed_season import smoothed_season
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, BoolArray, FloatArray, IntArray

SIMILAR_DAYS = "similar_days"
RECENT_SIMILAR_DAYS = "recent_similar_days"
YESTERDAYS_LEVEL = "yesterdays_level"
LAST_WEEK = "last_week"
SMOOTHED_SEASON = "smoothed_season"
PROPHET_LINEAR = "prophet_linear"
CANDIDATES = (SIMILAR_DAYS, RECENT_SIMILAR_DAYS, YESTERDAYS_LEVEL, LAST_WEEK, SMOOTHED_SEASON, PROPHET_LINEAR)
"""The candidates' names, in the order of their columns."""

RECENT_DECAY = 0.4
"""The weight of a week relative to the week after it, in the candidate that follows a changing level."""

BLOCK = 1024
"""Keys worked on at once, so that their profiles stay in the processor's cache."""

LEVEL_PRIOR = 2.0
"""Strength of the prior that a day's ratio of actual to forecast is 1, in typical accesses."""
MOST_LEVELLED = 10.0
"""The largest factor of yesterday's level, either way."""

MINIMUM_FOR_PROPHET = 3 * HOURS_PER_DAY
LONG_ENOUGH_FOR_A_TREND = 2 * HOURS_PER_WEEK
COUNTED_FROM = 0.5
"""The weight from which an hour is part of Prophet's history, in which every hour counts the same."""


def candidates(
    costs: FloatArray,
    observed: BoolArray,
    importance: FloatArray,
    numbers: IntArray,
    ahead: IntArray,
    before: FloatArray | None,
) -> FloatArray:
    """Return the forecasts (K, H, C) of all candidates.

    ``importance`` (T,) is the weight of each hour of the history. ``before`` (K, 24, C) is what the candidates said a day ago.
    """
    made: FloatArray = np.empty((len(costs), len(ahead), len(CANDIDATES)))
    opened = open_weights(importance, costs, observed, numbers)
    for start in range(0, len(costs), BLOCK):
        rows = slice(start, start + BLOCK)
        counted = observed[rows] * importance
        steady, recent = weekly_profiles(costs[rows], counted, numbers, (1.0, RECENT_DECAY))
        made[rows, :, 0], made[rows, :, 1] = similar_days(steady, ahead), similar_days(recent, ahead)
        unit = steady.noise.sum(axis=1) / np.maximum(steady.mean.mean(axis=1).sum(axis=1), 1e-12)
        made[rows, :, 2] = made[rows, :, 1]
        if before is not None:
            made[rows, :, 2] *= _yesterdays_level(costs[rows], observed[rows], opened, before[rows, :, 1], unit)
        made[rows, :, 3] = seasonal_naive(costs[rows], observed[rows] & (opened > 0), numbers, ahead)
        made[rows, :, 4] = smoothed_season(costs[rows], counted, numbers, ahead)
    usual: BoolArray = observed & (importance >= COUNTED_FROM)
    made[:, :, 5] = prophet_forecast(costs, usual, numbers, ahead, made[:, :, 0])
    return np.maximum(made, 0.0, out=made)


def _yesterdays_level(
    costs: FloatArray, observed: BoolArray, opened: FloatArray, said: FloatArray, unit: FloatArray
) -> FloatArray:
    """Return the last day's ratio of actual to ``said`` (K, 24), as factors (K, 1). ``unit`` (K) is a typical access's cost.

    ``opened`` (T,) weighs the hours. Hours of weight 0 count as if they had come as said, so that a holiday does not move the
    level of the day after it.
    """
    weight = opened[-HOURS_PER_DAY:]
    seen = observed[:, -HOURS_PER_DAY:] * np.where(weight > 0, weight, 1.0)
    prior = LEVEL_PRIOR * unit + 1e-12
    actual = (seen * np.where(weight > 0, costs[:, -HOURS_PER_DAY:], said)).sum(axis=1)
    expected = (seen * said).sum(axis=1)
    ratio: FloatArray = np.clip((actual + prior) / (expected + prior), 1.0 / MOST_LEVELLED, MOST_LEVELLED)[:, None]
    return ratio


def prophet_forecast(
    costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, otherwise: FloatArray
) -> FloatArray:
    """Return the mean (K, H) of Prophet with its default arguments.

    Keys with too little history or variation get ``otherwise``.

    The trend is linear from two weeks of history on, and flat below that.
    """
    seen, values = observed, costs
    low = values.min(axis=1, initial=np.inf, where=seen)
    high = values.max(axis=1, initial=-np.inf, where=seen)
    rows = np.flatnonzero((np.count_nonzero(seen, axis=1) >= MINIMUM_FOR_PROPHET) & (high > low))
    result = otherwise.copy()
    if not len(rows):
        return result
    if len(rows) < len(values):
        seen, values = seen[rows], values[rows]
    growth = "linear" if costs.shape[1] >= LONG_ENOUGH_FOR_A_TREND else "flat"
    batch = fit_batch(plain(growth), values, seen, numbers, ahead)
    mean = batch.forecast()[0]
    good = ~batch.failed & np.isfinite(mean).all(axis=1)
    result[rows[good]] = np.maximum(mean[good], 0.0)
    return result
