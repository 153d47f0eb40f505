"""The forecasts that a blend mixes, each made for all keys at once: seasonal means, Prophet, and the keys' total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.forecast._configuration import plain
from foreshard.forecast._map_batch import fit_batch
from foreshard.forecast.similar_days import same_hour_of_week, similar_days, weekly_profiles
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, BoolArray, FloatArray, IntArray

SIMILAR_DAYS = "similar_days"
RECENT_SIMILAR_DAYS = "recent_similar_days"
YESTERDAYS_LEVEL = "yesterdays_level"
PROPHET_LINEAR = "prophet_linear"
CANDIDATES = (SIMILAR_DAYS, RECENT_SIMILAR_DAYS, YESTERDAYS_LEVEL, PROPHET_LINEAR)
"""The candidates' names, in the order of their columns."""

RECENT_DECAY = 0.4
"""The weight of a week relative to the week after it, in candidates that follow a changing level."""

BLOCK = 1024
"""Keys worked on at once, so that their profiles stay in the processor's cache."""

LEVEL_PRIOR = 2.0
"""Strength of the prior that a day's ratio of actual to forecast is 1, in typical accesses."""

MINIMUM_FOR_PROPHET = 3 * HOURS_PER_DAY
LONG_ENOUGH_FOR_A_TREND = 2 * HOURS_PER_WEEK

LEVEL_HALF_LIFE = 6.0
"""Half-life in hours of the past errors that the total's level is estimated from."""
LEVEL_FADING = 24.0
"""Half-life in hours of that level over the horizon."""
MOST_LEVELLED = 3.0
"""The largest factor by which the level changes the total, either way."""
LEAST_BEFORE_LEVEL = 2 * HOURS_PER_DAY
"""Hours of history needed before the day that the level is estimated from."""


@dataclass(frozen=True)
class Origin:
    """A moment to forecast from: the first ``length`` hours of the history are known, the hours ``ahead`` are forecast."""

    length: int
    ahead: IntArray


@dataclass(frozen=True)
class SeasonalCandidate:
    """The seasonal forecasts of one origin (K, H), and the typical cost of one access (K,), which scales their noise."""

    plain: FloatArray
    steady: FloatArray
    recent: FloatArray
    unit: FloatArray


def seasonal_forecasts(costs: FloatArray, observed: BoolArray, numbers: IntArray, origin: Origin) -> SeasonalCandidate:
    """Forecast from weekly profiles."""
    known = slice(0, origin.length)
    starts = range(0, max(len(costs), 1), BLOCK)
    parts = [
        _of_block(costs[at : at + BLOCK, known], observed[at : at + BLOCK, known], numbers[known], origin) for at in starts
    ]
    return SeasonalCandidate(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _of_block(
    costs: FloatArray, observed: BoolArray, numbers: IntArray, origin: Origin
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    steady, recent = weekly_profiles(costs, observed, numbers, (1.0, RECENT_DECAY))
    unit = steady.noise.sum(axis=1) / np.maximum(steady.mean.mean(axis=1).sum(axis=1), 1e-12)
    ahead = origin.ahead
    return same_hour_of_week(steady, ahead), similar_days(steady, ahead), similar_days(recent, ahead), unit


def at_yesterdays_level(
    costs: FloatArray, observed: BoolArray, origin: Origin, seasonal: SeasonalCandidate, before: SeasonalCandidate | None
) -> FloatArray:
    """Return the recent seasonal forecast times yesterday's ratio of actual to forecast.

    ``before`` is the seasonal forecast made a day earlier. Without it the recent forecast is returned unchanged.
    """
    if before is None:
        return seasonal.recent
    day = slice(origin.length - HOURS_PER_DAY, origin.length)
    seen = observed[:, day]
    prior = LEVEL_PRIOR * seasonal.unit + 1e-12
    actual = np.where(seen, costs[:, day], 0.0).sum(axis=1)
    expected = np.where(seen, before.recent[:, :HOURS_PER_DAY], 0.0).sum(axis=1)
    ratio = np.clip((actual + prior) / (expected + prior), 0.1, 10.0)
    level: FloatArray = seasonal.recent * ratio[:, None]
    return level


def prophet_forecast(
    costs: FloatArray, observed: BoolArray, numbers: IntArray, origin: Origin, otherwise: FloatArray
) -> FloatArray:
    """Return the mean (K, H) of Prophet with its default arguments.

    Keys with too little history or variation get ``otherwise``.

    The trend is linear from two weeks of history on, and flat below that.
    """
    known = slice(0, origin.length)
    seen, values = observed[:, known], costs[:, known]
    low = values.min(axis=1, initial=np.inf, where=seen)
    high = values.max(axis=1, initial=-np.inf, where=seen)
    rows = np.flatnonzero((np.count_nonzero(seen, axis=1) >= MINIMUM_FOR_PROPHET) & (high > low))
    result = otherwise.copy()
    if not len(rows):
        return result
    if len(rows) < len(values):
        seen, values = seen[rows], values[rows]
    growth = "linear" if origin.length >= LONG_ENOUGH_FOR_A_TREND else "flat"
    batch = fit_batch(plain(growth), values, seen, numbers[known], origin.ahead)
    mean = batch.forecast()[0]
    good = ~batch.failed & np.isfinite(mean).all(axis=1)
    result[rows[good]] = np.maximum(mean[good], 0.0)
    return result


def total_forecasts(total: FloatArray, counted: BoolArray, numbers: IntArray, origins: Sequence[Origin]) -> FloatArray:
    """Forecast the keys' total at each origin: its recent seasonal mean, and that mean at the level of the last hours; (N, 2).

    Noise that hides a weekly shape in a single key averages out in the total.
    """
    made = []
    for origin in origins:
        seasonal = _seasonal_total(total, counted, numbers, origin)
        made.append(np.column_stack([seasonal, seasonal * _total_level(total, counted, numbers, origin)]))
    return np.concatenate(made)


def _seasonal_total(total: FloatArray, counted: BoolArray, numbers: IntArray, origin: Origin) -> FloatArray:
    known = slice(0, origin.length)
    (profile,) = weekly_profiles(total[None, known], counted[None, known], numbers[known], (RECENT_DECAY,))
    mean: FloatArray = similar_days(profile, origin.ahead)[0]
    return mean


def _total_level(total: FloatArray, counted: BoolArray, numbers: IntArray, origin: Origin) -> FloatArray:
    """Return actual ÷ expected of the last day, with its last hours weighted most, fading to 1 over the horizon (H,)."""
    start, length = origin.length - HOURS_PER_DAY, len(origin.ahead)
    if start < LEAST_BEFORE_LEVEL:
        return np.ones(length)
    expected = _seasonal_total(total, counted, numbers, Origin(start, numbers[start : origin.length]))
    weights = 0.5 ** (np.arange(HOURS_PER_DAY)[::-1] / LEVEL_HALF_LIFE) * counted[start : origin.length]
    wanted = float(weights @ expected)
    ratio = float(weights @ total[start : origin.length]) / wanted if wanted > 0 else 1.0
    clipped = np.clip(ratio, 1.0 / MOST_LEVELLED, MOST_LEVELLED)
    level: FloatArray = 1.0 + (clipped - 1.0) * 0.5 ** (np.arange(length) / LEVEL_FADING)
    return level
