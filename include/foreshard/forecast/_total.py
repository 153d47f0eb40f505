"""Forecasts of the keys' total itself: noise that drowns a weekly shape in a single key averages out in the total."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foreshard.forecast._candidates import RECENT, Origin
from foreshard.forecast.series import HOURS_PER_DAY, IntArray
from foreshard.forecast.similar_days import similar_days, weekly_profiles
from foreshard.model import BoolArray, FloatArray

LEVEL_HALF_LIFE, FADING = 6.0, 24.0
"""Half-lives in hours: of the errors that the level is taken from, and of the level on the way ahead."""
MOST_LEVELLED = 3.0
LEAST_BEFORE = 2 * HOURS_PER_DAY


def total_forecasts(total: FloatArray, counted: BoolArray, numbers: IntArray, origins: Sequence[Origin]) -> FloatArray:
    """The recent seasonal mean, and the same at the level of the last hours, for the origins one after another: (N, 2)."""
    made = []
    for origin in origins:
        seasonal = _seasonal(total, counted, numbers, origin)
        made.append(np.column_stack([seasonal, seasonal * _level(total, counted, numbers, origin)]))
    return np.concatenate(made)


def _seasonal(total: FloatArray, counted: BoolArray, numbers: IntArray, origin: Origin) -> FloatArray:
    known = slice(0, origin.length)
    (profile,) = weekly_profiles(total[None, known], counted[None, known], numbers[known], (RECENT,))
    mean: FloatArray = similar_days(profile, origin.ahead)[0]
    return mean


def _level(total: FloatArray, counted: BoolArray, numbers: IntArray, origin: Origin) -> FloatArray:
    """Actual ÷ expected of the last day, its last hours counting most, fading to one over the horizon (H,)."""
    start, length = origin.length - HOURS_PER_DAY, len(origin.ahead)
    if start < LEAST_BEFORE:
        return np.ones(length)
    expected = _seasonal(total, counted, numbers, Origin(start, numbers[start : origin.length]))
    weights = 0.5 ** (np.arange(HOURS_PER_DAY)[::-1] / LEVEL_HALF_LIFE) * counted[start : origin.length]
    wanted = float(weights @ expected)
    ratio = float(weights @ total[start : origin.length]) / wanted if wanted > 0 else 1.0
    level: FloatArray = 1.0 + (np.clip(ratio, 1.0 / MOST_LEVELLED, MOST_LEVELLED) - 1.0) * 0.5 ** (np.arange(length) / FADING)
    return level
