"""The seasonal forecasts that a blend is made of, for one origin: each candidate for all keys at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast.series import HOURS_PER_DAY, IntArray
from foreshard.forecast.similar_days import same_hour_of_week, similar_days, weekly_profiles
from foreshard.model import BoolArray, FloatArray

SIMILAR_DAYS = "similar_days"
RECENT_SIMILAR_DAYS = "recent_similar_days"
YESTERDAYS_LEVEL = "yesterdays_level"
SEASONAL = (SIMILAR_DAYS, RECENT_SIMILAR_DAYS, YESTERDAYS_LEVEL)

RECENT = 0.4
"""What a week counts against the one after it, in the candidates that follow a changing level."""

BLOCK = 1024
"""Keys worked on at once: their profiles stay in the processor's cache."""

LEVEL_PRIOR = 2.0
"""How many typical accesses a day's ratio of actual to forecast is held towards one by."""


@dataclass(frozen=True)
class Origin:
    """What is known at an origin: the first ``length`` hours of the history; its forecast is for the hours ``ahead``."""

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
    """The forecasts that come from weekly profiles."""
    known = slice(0, origin.length)
    starts = range(0, max(len(costs), 1), BLOCK)
    parts = [
        _of_block(costs[at : at + BLOCK, known], observed[at : at + BLOCK, known], numbers[known], origin) for at in starts
    ]
    return SeasonalCandidate(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _of_block(
    costs: FloatArray, observed: BoolArray, numbers: IntArray, origin: Origin
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    steady, recent = weekly_profiles(costs, observed, numbers, (1.0, RECENT))
    unit = steady.noise.sum(axis=1) / np.maximum(steady.mean.mean(axis=1).sum(axis=1), 1e-12)
    ahead = origin.ahead
    return same_hour_of_week(steady, ahead), similar_days(steady, ahead), similar_days(recent, ahead), unit


def at_yesterdays_level(
    costs: FloatArray, observed: BoolArray, origin: Origin, seasonal: SeasonalCandidate, before: SeasonalCandidate | None
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
