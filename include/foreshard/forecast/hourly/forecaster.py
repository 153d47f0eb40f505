"""The one forecaster: a daily shape, carried by the hour. The lab keeps it between hours; an engine builds it from a history.

Once a day a *shape* is fitted: each key's expected cost in the coming hours. Each hour, the shape is scaled by the levels of
the last days and hours (:mod:`._levels`), and keys that it does not explain are forecast at their current rate
(:mod:`._recency`). How far a key follows this depends on whether it has helped (:mod:`._carrying`).

Past errors give the spread and its common part (:mod:`._error_spread`); hours farther ahead have a wider one
(:mod:`._lead_spread`). If the clocks change, the history is shifted by an hour.

State is learnt from the last ``WARM_UP_DAYS`` before the first call, and from every hour since.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from foreshard.forecast._quantiles import measured_spread
from foreshard.forecast.clock_change import LIKELY_SINCE, ClockWatch, moved_history
from foreshard.forecast.hourly._carrying import Carrying
from foreshard.forecast.hourly._error_spread import ERROR_DECAY, ErrorSpread
from foreshard.forecast.hourly._lead_spread import LeadSpread
from foreshard.forecast.hourly._levels import Levels
from foreshard.forecast.hourly._recency import Recency
from foreshard.forecast.hourly.shapes import DailyShape
from foreshard.forecast.odd_hours import hour_weights, open_weights
from foreshard.forecast.spread import normal_upper
from foreshard.measure.access_cost import smallest_costs
from foreshard.model import HOURS_PER_DAY, FloatArray

HORIZON = 24
WARM_UP_DAYS = 7
SETTLING_HOURS = 48
"""Hours at the start whose errors are not counted: levels and weights are still unlearnt, and the errors larger than later."""


@dataclass(frozen=True)
class LoadForecast:
    """Mean and sigma (K, H) in cost per hour from the hour ``now`` on, and the correlation of the errors (0 to 1)."""

    mean: FloatArray
    sigma: FloatArray
    correlation: float


class KnownPast(Protocol):
    """The hours before ``now``."""

    @property
    def now(self) -> int:
        """The first unknown hour."""

    @property
    def keys(self) -> Sized:
        """The K keys."""

    def before(self, hour: int, hours: int) -> FloatArray:
        """Return the costs of at most ``hours`` hours before ``hour`` (K, ≤ hours); NaN where they are unknown."""


PastT = TypeVar("PastT", contravariant=True)


class Forecaster(Protocol[PastT]):
    """Forecasts the coming hours, from what it needs of the past."""

    def ahead(self, past: PastT) -> LoadForecast:
        """Return the forecast of the hours from ``past.now`` on."""


class HourlyForecaster:
    """Forecasts from the past alone."""

    def __init__(self, shape: DailyShape, window_hours: int, epoch_hour: int, horizon: int = HORIZON) -> None:
        """``shape`` is fitted to ``window_hours`` hours. ``epoch_hour``: the past's hour 0, in hours since 1970."""
        self._shape_fit, self._window, self._epoch, self._horizon = shape, window_hours, epoch_hour, horizon
        self._began = False
        self._fitted_at = self._next = 0
        self._clock = ClockWatch()
        self._changes: list[tuple[int, int]] = []

    def ahead(self, past: KnownPast) -> LoadForecast:
        """Learn from the hours since the last call, and forecast."""
        if not self._began:
            self._begin(past)
        while self._next < past.now:
            if not self._lead_spread.has_expected(self._next):
                self._expect(self._next)
            self._learn(past, past.before(self._next + 1, 1)[:, 0], self._next)
            self._next += 1
        if past.now - self._fitted_at >= HOURS_PER_DAY:
            self._fit(past, past.now)
        return self._expect(past.now)

    def upper(self, forecast: LoadForecast, quantile: float) -> FloatArray:
        """Return the upper quantile (K, H) of a forecast just made, from what was said about past days and what came."""
        fitted, actual, known = self._carrying.past(*self._history)
        if not known.any():
            return normal_upper(forecast.mean, forecast.sigma, quantile)
        return measured_spread(forecast.mean, fitted, actual, known, self._unit, quantile).upper

    def _begin(self, past: KnownPast) -> None:
        self._began = True
        keys, back = len(past.keys), min(WARM_UP_DAYS * HOURS_PER_DAY, max(0, past.now - HOURS_PER_DAY))
        self._next = past.now - back
        self._settled_at = self._next + min(SETTLING_HOURS, back // 2)
        self._levels, self._recency, self._spread = Levels(keys), Recency(keys), ErrorSpread(keys)
        self._lead_spread, self._carrying = LeadSpread(keys, self._horizon, ERROR_DECAY), Carrying(keys)
        self._fit(past, self._next)

    def _fit(self, past: KnownPast, now: int) -> None:
        """Fit the shape of the hour before ``now`` and of all hours that are forecast until the next fit."""
        costs = past.before(now, self._window)
        for hour, by in self._changes:
            costs = moved_history(costs, hour - (now - costs.shape[1]), by)
        observed = np.isfinite(costs)
        costs = np.where(observed, np.maximum(costs, 0.0), 0.0)
        ahead = self._epoch + now - 1 + np.arange(HOURS_PER_DAY + self._horizon + 2, dtype=np.int64)
        numbers = self._epoch + now - costs.shape[1] + np.arange(costs.shape[1], dtype=np.int64)
        self._base = np.zeros((len(costs), len(ahead)))
        if costs.shape[1]:
            self._base = np.maximum(self._shape_fit.fit(costs, observed, numbers, ahead), 0.0)
        self._unit = _cost_of_access(costs)
        together = self._base.sum(axis=0) + 0.02 * self._unit.sum()
        self._shape = together / max(float(together.mean()), 1e-9)
        self._fitted_at, self._history = now, (costs, observed, now - costs.shape[1])
        if costs.shape[1]:
            importance = hour_weights(costs, observed, numbers)
            self._levels.weigh(open_weights(importance, costs, observed, numbers))
            self._carrying.weigh(costs, observed, importance, now - costs.shape[1])
        self._carrying.say(now, self._base[:, 1 : self._horizon + 1], self._carried(now))

    def _learn(self, past: KnownPast, actual: FloatArray, hour: int) -> None:
        """Learn from the ``actual`` costs of ``hour``. An hour that is unknown for all keys teaches nothing."""
        if hour - self._fitted_at >= HOURS_PER_DAY:
            self._fit(past, hour)
        known = np.isfinite(actual)
        if not known.any():
            self._levels.skip()
            return
        at = hour - self._fitted_at + 1
        base = self._base[:, at]
        actual = np.where(known, np.maximum(actual, 0.0), base)
        if self._clock_changed(past, actual, hour):
            at = 1
            base = self._base[:, at]
        seasonal = base * self._levels.ahead(self._unit, 1)[:, 0]
        experts = self._recency.expected(seasonal, self._shape[at], self._unit)
        carried = self._recency.learn(actual, experts, self._shape[at], self._unit, self._spread.dispersion(self._unit))
        expected = self._carrying.mixed(base[:, None], carried[:, None])[:, 0]
        if hour >= self._settled_at:
            self._spread.learn(actual - expected, expected, self._unit)
            self._lead_spread.learn(hour, actual)
        self._levels.learn(actual, base, carried, self._unit)

    def _clock_changed(self, past: KnownPast, actual: FloatArray, hour: int) -> bool:
        """If the daily pattern has moved by an hour, shift the history and forget the levels."""
        at, level = hour - self._fitted_at + 1, self._levels.of_days(self._unit)
        earlier, now, later = (self._base[:, at + step] * level for step in (-1, 0, 1))
        moved = self._clock.see(actual, earlier, now, later, self._unit)
        if not moved:
            return False
        self._changes.append((hour - LIKELY_SINCE, moved))
        self._fit(past, hour)
        self._levels.reset()
        return True

    def _expect(self, now: int) -> LoadForecast:
        """Return the forecast from ``now`` on with the spread of its lead times. It is remembered, to learn from its errors."""
        forecast = self._forecast(now)
        factors = self._lead_spread.factors()
        self._lead_spread.expect(now, forecast.mean, forecast.sigma, forecast.correlation)
        return replace(forecast, sigma=forecast.sigma * factors)

    def _forecast(self, now: int) -> LoadForecast:
        start = now - self._fitted_at + 1
        mean = self._carrying.mixed(self._base[:, start : start + self._horizon], self._carried(now))
        sigma = np.sqrt(self._spread.dispersion(self._unit)[:, None] * mean)
        return LoadForecast(mean, sigma, self._spread.correlation())

    def _carried(self, now: int) -> FloatArray:
        """Return the shape carried by the levels and rates of the last hours (K, H)."""
        start = now - self._fitted_at + 1
        hours = slice(start, start + self._horizon)
        seasonal = self._base[:, hours] * self._levels.ahead(self._unit, self._horizon)
        mean = self._recency.ahead(seasonal, self._shape[hours], self._unit)
        return mean * self._levels.together(self._horizon)


def _cost_of_access(costs: FloatArray) -> FloatArray:
    """Return the approximate cost of one access of each key: its smallest hourly cost, or the median of all keys."""
    smallest = smallest_costs(costs)
    known = smallest[np.isfinite(smallest)]
    return np.where(np.isfinite(smallest), smallest, float(np.median(known)) if len(known) else 1.0)
