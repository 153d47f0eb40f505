"""Forecasts for the lab: from the past alone, for all keys at once, and fast enough to be made each hour.

Once a day the seasonal mean of similar days is fitted. Each hour it is scaled by three ratios of actual to expected cost: each
key's last days, each key's last hours, and the last hours of all keys. The level of the last hours decays over the hours ahead.
Keys that their past does not explain are forecast at their current rate (:mod:`foreshard.lab._recency`). Past errors give the
spread, as variance per unit of mean for each key, and the part common to all keys; errors beyond ``SURPRISE`` standard
deviations are clipped. Hours farther ahead have a wider spread (:mod:`foreshard.lab._lead_spread`). If the clocks change, the
history is shifted by an hour.

This replaces the forecast stage's engine, which is too slow for thousands of hours. The engine blends several models, including
Prophet, and does not follow the last hours of single keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from foreshard.forecast.clock_change import LIKELY_SINCE, ClockWatch, moved_history
from foreshard.forecast.similar_days import similar_days, weekly_profiles
from foreshard.lab._lead_spread import LeadSpread
from foreshard.lab._recency import Recency
from foreshard.lab.log import ReplayLog, smallest_costs
from foreshard.lab.past import Past
from foreshard.model import HOURS_PER_DAY, FloatArray

HORIZON = 24
WARM_UP_DAYS = 7
LEVEL_DECAY, RECENT_DECAY, TOTAL_DECAY = 0.5 ** (1 / 36), 0.5 ** (1 / 4), 0.5 ** (1 / 2)
"""Half-lives of a key's level (36 h), of the level of its last hours (4 h), and of the level of all keys (2 h)."""
PRIOR_ACCESSES = 24.0
"""The weight of the prior that a key's level is 1, in accesses of the key."""
PERSISTENCE = 0.5 ** (1 / 8)
"""The decay of the level of a key's last hours over the hours ahead (half-life 8 h)."""
PRIOR_HOURS = 72.0
"""The number of hours after which a key's own spread has the same weight as that of all keys."""
SURPRISE = 3.0
"""Errors are clipped at this many standard deviations, so that one burst does not widen the spread for long."""
ERROR_DECAY = 0.5 ** (1 / (14 * 24))
"""The decay of past errors (half-life 14 days)."""


@dataclass(frozen=True)
class LabForecast:
    """Mean and sigma (K, H) in cost per hour from the hour ``now`` on, and the correlation of the errors (0 to 1)."""

    mean: FloatArray
    sigma: FloatArray
    correlation: float


class LabForecaster(Protocol):
    """Forecasts the coming hours."""

    def ahead(self, past: Past) -> LabForecast:
        """Return the forecast of the hours from ``past.now`` on."""


class SeasonalShape:
    """Forecasts from the past alone."""

    def __init__(self, training_hours: int, epoch_hour: int) -> None:
        """``epoch_hour``: the log's first hour, in hours since 1970."""
        self._window, self._epoch = training_hours, epoch_hour
        self._began = False
        self._fitted_at = self._next = 0
        self._clock = ClockWatch()
        self._changes: list[tuple[int, int]] = []

    def ahead(self, past: Past) -> LabForecast:
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

    def _begin(self, past: Past) -> None:
        self._began = True
        keys, back = len(past.keys), min(WARM_UP_DAYS * HOURS_PER_DAY, max(0, past.now - HOURS_PER_DAY))
        self._next = past.now - back
        self._level_actual, self._level_expected = np.zeros(keys), np.zeros(keys)
        self._recent_actual, self._recent_expected = np.zeros(keys), np.zeros(keys)
        self._total_level = np.ones(2)
        self._squares, self._means, self._hours = np.zeros(keys), np.zeros(keys), 0.0
        self._total = np.zeros(3)
        self._recency = Recency(keys)
        self._lead_spread = LeadSpread(keys, HORIZON, ERROR_DECAY)
        self._fit(past, self._next)

    def _fit(self, past: Past, now: int) -> None:
        """Fit the seasonal mean of the hour before ``now`` and of the 49 hours from ``now`` on."""
        costs = past.before(now, self._window)
        for hour, by in self._changes:
            costs = moved_history(costs, hour - (now - costs.shape[1]), by)
        ahead = self._epoch + now - 1 + np.arange(2 * HOURS_PER_DAY + 2, dtype=np.int64)
        if not costs.shape[1]:
            self._base: FloatArray = np.zeros((len(costs), 2 * HOURS_PER_DAY + 2))
        else:
            numbers = self._epoch + now - costs.shape[1] + np.arange(costs.shape[1], dtype=np.int64)
            (profile,) = weekly_profiles(costs, np.ones(costs.shape, bool), numbers, (0.85,))
            self._base = np.maximum(similar_days(profile, ahead), 0.0)
        self._access_cost = self._cost_of_access(costs)
        self._base += 0.02 * self._access_cost[:, None]
        together = self._base.sum(axis=0)
        self._shape = together / max(float(together.mean()), 1e-9)
        self._fitted_at = now

    def _cost_of_access(self, costs: FloatArray) -> FloatArray:
        """Return the approximate cost of one access of each key: its smallest hourly cost, or the median of all keys."""
        smallest = smallest_costs(costs)
        known = smallest[np.isfinite(smallest)]
        return np.where(np.isfinite(smallest), smallest, float(np.median(known)) if len(known) else 1.0)

    def _levels(self) -> tuple[FloatArray, FloatArray]:
        """Return the level of each key's last days relative to its seasonal mean, and of its last hours relative to that."""
        prior = PRIOR_ACCESSES * self._access_cost
        return (self._level_actual + prior) / (self._level_expected + prior), (self._recent_actual + prior) / (
            self._recent_expected + prior
        )

    def _learn(self, past: Past, actual: FloatArray, hour: int) -> None:
        """Learn from the ``actual`` costs of ``hour``."""
        if hour - self._fitted_at >= HOURS_PER_DAY:
            self._fit(past, hour)
        level, latest = self._levels()
        if self._clock_changed(past, actual, hour, level):
            level = latest = np.ones_like(level)
        at = hour - self._fitted_at + 1
        base: FloatArray = self._base[:, at]
        typical = base * level
        experts = self._recency.expected(typical * (1.0 + (latest - 1.0) * PERSISTENCE), self._shape[at], self._access_cost)
        dispersion = self._dispersion()
        expected = self._recency.learn(actual, experts, self._shape[at], self._access_cost, dispersion)
        self._learn_spread(actual - expected, expected, dispersion)
        self._lead_spread.learn(hour, actual)
        self._level_actual, self._level_expected = (
            LEVEL_DECAY * self._level_actual + actual,
            LEVEL_DECAY * self._level_expected + base,
        )
        self._recent_actual, self._recent_expected = (
            RECENT_DECAY * self._recent_actual + actual,
            RECENT_DECAY * self._recent_expected + typical,
        )
        self._total_level = TOTAL_DECAY * self._total_level + np.array([actual.sum(), expected.sum()]) + 1e-9

    def _learn_spread(self, error: FloatArray, expected: FloatArray, dispersion: FloatArray) -> None:
        """Update the spread with the errors of an hour (K)."""
        most = SURPRISE * np.sqrt(dispersion * expected + self._access_cost**2)
        error = np.clip(error, -most, most)
        self._squares = ERROR_DECAY * self._squares + error**2
        self._means = ERROR_DECAY * self._means + expected
        self._hours = ERROR_DECAY * self._hours + 1.0
        sigma = np.sqrt(dispersion * expected)
        self._total = ERROR_DECAY * self._total + np.array([error.sum() ** 2, (sigma**2).sum(), sigma.sum() ** 2])

    def _clock_changed(self, past: Past, actual: FloatArray, hour: int, level: FloatArray) -> bool:
        """If the daily pattern has moved by an hour, shift the history and reset the levels."""
        at = hour - self._fitted_at + 1
        earlier, now, later = (self._base[:, at + step] * level for step in (-1, 0, 1))
        moved = self._clock.see(actual, earlier, now, later, self._access_cost)
        if not moved:
            return False
        self._changes.append((hour - LIKELY_SINCE, moved))
        self._fit(past, hour)
        for sums in (self._level_actual, self._level_expected, self._recent_actual, self._recent_expected):
            sums[:] = 0.0
        self._total_level = np.ones(2)
        return True

    def _dispersion(self) -> FloatArray:
        """Return variance ÷ mean of each key's errors (K), shrunk towards that of all keys, and at least about Poisson."""
        pooled = float((self._squares / self._access_cost).sum() / max(self._means.sum(), 1e-9))
        weight = self._hours / (self._hours + PRIOR_HOURS)
        own = self._squares / np.maximum(self._means, 1e-9)
        mixed = weight * own + (1.0 - weight) * max(pooled, 1.0) * self._access_cost
        return np.asarray(np.clip(mixed, 0.8 * self._access_cost, 50.0 * self._access_cost))

    def _expect(self, now: int) -> LabForecast:
        """Return the forecast from ``now`` on with the spread of its lead times. It is remembered, to learn from its errors."""
        forecast = self._forecast(now)
        factors = self._lead_spread.factors()
        self._lead_spread.expect(now, forecast.mean, forecast.sigma, forecast.correlation)
        return replace(forecast, sigma=forecast.sigma * factors)

    def _forecast(self, now: int) -> LabForecast:
        start, ahead = now - self._fitted_at + 1, np.arange(HORIZON)
        level, latest = self._levels()
        fading = 1.0 + (latest - 1.0)[:, None] * PERSISTENCE ** (ahead + 1)[None]
        together = float(np.clip(self._total_level[0] / self._total_level[1], 0.5, 2.0)) - 1.0
        seasonal = self._base[:, start : start + HORIZON] * level[:, None] * fading
        mean = self._recency.ahead(seasonal, self._shape[start : start + HORIZON], self._access_cost)
        mean *= (1.0 + together * TOTAL_DECAY**ahead)[None]
        sigma = np.sqrt(self._dispersion()[:, None] * mean)
        squared, apart, joined = self._total.tolist()
        common = (squared - apart) / (joined - apart) if joined > apart > 0 else 0.0
        return LabForecast(mean, sigma, float(np.clip(common, 0.0, 1.0)))


class TrueFuture:
    """The oracle: it knows the cost of every hour, or the true ``mean`` and ``sigma`` behind it if they are given."""

    def __init__(self, log: ReplayLog, mean: FloatArray | None = None, sigma: FloatArray | None = None) -> None:
        self._mean = log.costs if mean is None else mean
        self._sigma = sigma

    def ahead(self, past: Past) -> LabForecast:
        """Return the true next hours; after the end of the log, its last hour."""
        hours = np.minimum(past.now + np.arange(HORIZON), self._mean.shape[1] - 1)
        mean = self._mean[:, hours].astype(np.float64)
        sigma = np.zeros_like(mean) if self._sigma is None else self._sigma[:, hours].astype(np.float64)
        return LabForecast(mean, sigma, 0.0)
