"""Daily shapes: each key's expected cost in the coming hours, fitted once a day."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from foreshard.forecast._engine_result import EngineForecast
from foreshard.forecast.odd_hours import hour_weights
from foreshard.forecast.similar_days import similar_days, weekly_profiles
from foreshard.model import BoolArray, FloatArray, IntArray

WEEK_DECAY = 0.85
"""The weight of a week relative to the week after it."""
_MEDIAN = 0.5


class DailyShape(Protocol):
    """Fits the costs (K, T) at hour ``numbers`` (T,), and returns the mean (K, H) of the hours ``ahead``."""

    def fit(self, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> FloatArray:
        """Fit. The first of the hours ``ahead`` is the history's last hour."""

    def leading(self, keys: int) -> tuple[str, ...]:
        """Name the method that counts most for each of the keys."""


class SimilarDays:
    """The mean of similar days, in which hours of odd days count less."""

    def fit(self, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> FloatArray:
        """Return the mean of similar days."""
        counted = observed * hour_weights(costs, observed, numbers)
        (profile,) = weekly_profiles(costs, counted, numbers, (WEEK_DECAY,))
        return similar_days(profile, ahead)

    def leading(self, keys: int) -> tuple[str, ...]:
        """Name the only method."""
        return ("similar_days",) * keys


class FittedDay:
    """The mean of an engine that fits a history. A key that it cannot serve gets the mean of similar days."""

    def __init__(self, name: str, fit: Callable[[FloatArray, BoolArray, IntArray, IntArray, float], EngineForecast]) -> None:
        self._name, self._fit, self._other = name, fit, SimilarDays()

    def fit(self, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> FloatArray:
        """Return the engine's mean."""
        mean = self._other.fit(costs, observed, numbers, ahead)
        rows = np.flatnonzero(observed.any(axis=1) & (costs.min(axis=1, initial=np.inf) < costs.max(axis=1, initial=0.0)))
        if len(rows):
            made = self._fit(costs[rows], observed[rows], numbers, ahead, _MEDIAN)
            mean[rows[made.done]] = made.mean[made.done]
        return mean

    def leading(self, keys: int) -> tuple[str, ...]:
        """Name the engine."""
        return (self._name,) * keys
