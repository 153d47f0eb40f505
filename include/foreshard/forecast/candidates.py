"""The forecasts that a blend is made of, for one origin: each candidate for all keys at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast.configuration import plain
from foreshard.forecast.map_batch import fit_batch
from foreshard.forecast.series import HOURS_PER_DAY, HOURS_PER_WEEK, IntArray
from foreshard.forecast.similar_days import same_hour_of_week, similar_days, weekly_profiles
from foreshard.model import BoolArray, FloatArray

SIMILAR_DAYS = "similar_days"
RECENT_SIMILAR_DAYS = "recent_similar_days"
YESTERDAYS_LEVEL = "yesterdays_level"
PROPHET_LINEAR = "prophet_linear"
CANDIDATES = (SIMILAR_DAYS, RECENT_SIMILAR_DAYS, YESTERDAYS_LEVEL, PROPHET_LINEAR)

RECENT = 0.4
"""What a week counts against the one after it, in the candidates that follow a changing level."""

LEVEL_PRIOR = 2.0
"""How many typical accesses a day's ratio of actual to forecast is held towards one by."""

MINIMUM_FOR_PROPHET = 3 * HOURS_PER_DAY


@dataclass(frozen=True)
class Origin:
    """What is known at an origin: the first ``length`` hours of the history; its forecast is for the hours ``ahead``."""

    length: int
    ahead: IntArray


@dataclass(frozen=True)
class Seasonal:
    """The seasonal forecasts of one origin (K, H), and the typical cost of one access (K,), which scales their noise."""

    plain: FloatArray
    steady: FloatArray
    recent: FloatArray
    unit: FloatArray


def seasonal_forecasts(costs: FloatArray, observed: BoolArray, numbers: IntArray, origin: Origin) -> Seasonal:
    """The forecasts that come from weekly profiles."""
    known = slice(0, origin.length)
    steady, recent = weekly_profiles(costs[:, known], observed[:, known], numbers[known], (1.0, RECENT))
    unit = steady.noise.sum(axis=1) / np.maximum(steady.mean.mean(axis=1).sum(axis=1), 1e-12)
    return Seasonal(
        same_hour_of_week(steady, origin.ahead), similar_days(steady, origin.ahead), similar_days(recent, origin.ahead), unit
    )


def at_yesterdays_level(
    costs: FloatArray, observed: BoolArray, origin: Origin, seasonal: Seasonal, before: Seasonal | None
) -> FloatArray:
    """The recent seasonal forecast times yesterday's ratio of actual to forecast (made the day ``before``)."""
    if before is None:
        return seasonal.recent
    day = slice(origin.length - HOURS_PER_DAY, origin.length)
    seen = observed[:, day]
    held = LEVEL_PRIOR * seasonal.unit + 1e-12
    actual = np.where(seen, costs[:, day], 0.0).sum(axis=1)
    expected = np.where(seen, before.recent[:, :HOURS_PER_DAY], 0.0).sum(axis=1)
    ratio = np.clip((actual + held) / (expected + held), 0.1, 10.0)
    level: FloatArray = seasonal.recent * ratio[:, None]
    return level


def prophet_forecasts(
    costs: FloatArray, observed: BoolArray, numbers: IntArray, origin: Origin, otherwise: FloatArray
) -> FloatArray:
    """Prophet's mean, fitted to all keys at once; ``otherwise`` where a key has too little history or varies too little."""
    known = slice(0, origin.length)
    seen, values = observed[:, known], costs[:, known]
    low = values.min(axis=1, initial=np.inf, where=seen)
    high = values.max(axis=1, initial=-np.inf, where=seen)
    rows = np.flatnonzero((np.count_nonzero(seen, axis=1) >= MINIMUM_FOR_PROPHET) & (high > low))
    result = otherwise.copy()
    if len(rows):
        growth = "linear" if origin.length >= 2 * HOURS_PER_WEEK else "flat"
        every = len(rows) == len(values)
        batch = fit_batch(
            plain(growth), values if every else values[rows], seen if every else seen[rows], numbers[known], origin.ahead
        )
        mean = batch.forecast()[0]
        good = ~batch.failed & np.isfinite(mean).all(axis=1)
        result[rows[good]] = np.maximum(mean[good], 0.0)
    return result
