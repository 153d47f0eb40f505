"""Forecasts within the lab: from the past alone, for every key at once, cheap enough to be made anew each hour.

Each day the forecast room's seasonal mean of similar days is fitted; each hour it is scaled by how each key's last days, its
last hours, and all keys' last hours, compared with it: the level of the last hours is carried in, and decays. Keys that their
past doesn't explain are expected to go on as they do now (:mod:`foreshard.lab._recency`). How far off that has been gives the
spread: variance per unit of mean, key by key, and the part of it that all keys have in common; surprises beyond
``SURPRISE`` deviations count as that much. Hours farther ahead are less sure (:mod:`foreshard.lab._lead_spread`). Where the
clocks have changed, the history is put right by an hour.

It stands in for the forecast stage's engine, which is too slow to be asked 8,000 times over: that one blends several models,
Prophet's among them, and has no level of single keys' last hours.
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
from foreshard.model import FloatArray

HORIZON = 24
DAY = 24
WARM_UP_DAYS = 7
LONG, SHORT, TOGETHER = 0.5 ** (1 / 36), 0.5 ** (1 / 4), 0.5 ** (1 / 2)
"""Half-lives of a key's level (36 h), of that of its last hours (4 h) and of the level of all keys together (2 h)."""
PRIOR_ACCESSES = 24.0
"""Each of a key's levels is trusted as if that many of its usual accesses had confirmed the forecast."""
PERSISTENCE = 0.5 ** (1 / 8)
"""How the level of a key's last hours fades out of the hours ahead (half-life 8 h)."""
PRIOR_HOURS = 72.0
"""A key's own spread counts as much as that of all keys after so many hours."""
SURPRISE = 3.0
"""No error counts for more deviations than this: a key that bursts once is not that uncertain ever after."""
FADING = 0.5 ** (1 / (14 * 24))
"""How fast past errors are forgotten (half-life 14 days)."""


@dataclass(frozen=True)
class Outcome:
    """Mean and sigma (K, H) in cost per hour from the hour ``now`` on, and the errors' common part (0 to 1)."""

    mean: FloatArray
    sigma: FloatArray
    correlation: float


class LabForecaster(Protocol):
    """Says what the coming hours will bring."""

    def ahead(self, past: Past) -> Outcome:
        """For the hours from ``past.now`` on."""


class SeasonalShape:
    """The honest one: it is shown the past, hour after hour."""

    def __init__(self, training_hours: int, epoch_hour: int) -> None:
        """``epoch_hour``: the log's first hour, in hours since 1970."""
        self._window, self._epoch = training_hours, epoch_hour
        self._began = False
        self._fitted_at = self._next = 0
        self._clock = ClockWatch()
        self._changes: list[tuple[int, int]] = []

    def ahead(self, past: Past) -> Outcome:
        """Take in the hours since the last call, and forecast."""
        if not self._began:
            self._begin(past)
        while self._next < past.now:
            if not self._farther.awaits(self._next):
                self._expect(self._next)
            self._learn(past, past.before(self._next + 1, 1)[:, 0], self._next)
            self._next += 1
        if past.now - self._fitted_at >= DAY:
            self._fit(past, past.now)
        return self._expect(past.now)

    def _begin(self, past: Past) -> None:
        self._began = True
        keys, back = len(past.keys), min(WARM_UP_DAYS * DAY, max(0, past.now - DAY))
        self._next = past.now - back
        self._actual, self._expected = np.zeros(keys), np.zeros(keys)
        self._latest, self._awaited = np.zeros(keys), np.zeros(keys)
        self._all = np.ones(2)
        self._squares, self._means, self._hours = np.zeros(keys), np.zeros(keys), 0.0
        self._total = np.zeros(3)
        self._recency = Recency(keys)
        self._farther = LeadSpread(keys, HORIZON, FADING)
        self._fit(past, self._next)

    def _fit(self, past: Past, now: int) -> None:
        """Fit the seasonal mean of the hour before ``now`` and of the 49 from it on."""
        costs = past.before(now, self._window)
        for hour, by in self._changes:
            costs = moved_history(costs, hour - (now - costs.shape[1]), by)
        ahead = self._epoch + now - 1 + np.arange(2 * DAY + 2, dtype=np.int64)
        if not costs.shape[1]:
            self._base: FloatArray = np.zeros((len(costs), 2 * DAY + 2))
        else:
            numbers = self._epoch + now - costs.shape[1] + np.arange(costs.shape[1], dtype=np.int64)
            (profile,) = weekly_profiles(costs, np.ones(costs.shape, bool), numbers, (0.85,))
            self._base = np.maximum(similar_days(profile, ahead), 0.0)
        self._unit = self._usual_cost(costs)
        self._base += 0.02 * self._unit[:, None]
        together = self._base.sum(axis=0)
        self._shape = together / max(float(together.mean()), 1e-9)
        self._fitted_at = now

    def _usual_cost(self, costs: FloatArray) -> FloatArray:
        """What one access of each key costs, about: the smallest cost that an hour has had (all keys' median before)."""
        smallest = smallest_costs(costs)
        known = smallest[np.isfinite(smallest)]
        return np.where(np.isfinite(smallest), smallest, float(np.median(known)) if len(known) else 1.0)

    def _levels(self) -> tuple[FloatArray, FloatArray]:
        """How each key's last days compare with its seasonal mean, and its last hours with that."""
        prior = PRIOR_ACCESSES * self._unit
        return (self._actual + prior) / (self._expected + prior), (self._latest + prior) / (self._awaited + prior)

    def _learn(self, past: Past, came: FloatArray, hour: int) -> None:
        """Compare what came in ``hour`` with what was expected, before it is taken in."""
        if hour - self._fitted_at >= DAY:
            self._fit(past, hour)
        level, latest = self._levels()
        if self._clock_changed(past, came, hour, level):
            level = latest = np.ones_like(level)
        at = hour - self._fitted_at + 1
        base: FloatArray = self._base[:, at]
        usual = base * level
        experts = self._recency.expected(usual * (1.0 + (latest - 1.0) * PERSISTENCE), self._shape[at], self._unit)
        dispersion = self._dispersion()
        expected = self._recency.learn(came, experts, self._shape[at], self._unit, dispersion)
        self._learn_spread(came - expected, expected, dispersion)
        self._farther.learn(hour, came)
        self._actual, self._expected = LONG * self._actual + came, LONG * self._expected + base
        self._latest, self._awaited = SHORT * self._latest + came, SHORT * self._awaited + usual
        self._all = TOGETHER * self._all + np.array([came.sum(), expected.sum()]) + 1e-9

    def _learn_spread(self, error: FloatArray, expected: FloatArray, dispersion: FloatArray) -> None:
        """Take in by how much an hour was off (K)."""
        most = SURPRISE * np.sqrt(dispersion * expected + self._unit**2)
        error = np.clip(error, -most, most)
        self._squares = FADING * self._squares + error**2
        self._means = FADING * self._means + expected
        self._hours = FADING * self._hours + 1.0
        sigma = np.sqrt(dispersion * expected)
        self._total = FADING * self._total + np.array([error.sum() ** 2, (sigma**2).sum(), sigma.sum() ** 2])

    def _clock_changed(self, past: Past, came: FloatArray, hour: int, level: FloatArray) -> bool:
        """Put the history right and begin the levels anew, where the pattern has moved by an hour."""
        at = hour - self._fitted_at + 1
        earlier, now, later = (self._base[:, at + step] * level for step in (-1, 0, 1))
        moved = self._clock.see(came, earlier, now, later, self._unit)
        if not moved:
            return False
        self._changes.append((hour - LIKELY_SINCE, moved))
        self._fit(past, hour)
        for sums in (self._actual, self._expected, self._latest, self._awaited):
            sums[:] = 0.0
        self._all = np.ones(2)
        return True

    def _dispersion(self) -> FloatArray:
        """Variance ÷ mean of each key's errors (K), the keys' own shrunk towards that of all together, and Poisson at least."""
        pooled = float((self._squares / self._unit).sum() / max(self._means.sum(), 1e-9))
        weight = self._hours / (self._hours + PRIOR_HOURS)
        own = self._squares / np.maximum(self._means, 1e-9)
        mixed = weight * own + (1.0 - weight) * max(pooled, 1.0) * self._unit
        return np.asarray(np.clip(mixed, 0.8 * self._unit, 50.0 * self._unit))

    def _expect(self, now: int) -> Outcome:
        """The outcome from ``now`` on, less sure the farther ahead; it is remembered, to see how far off it will have been."""
        outcome = self._outcome(now)
        factors = self._farther.factors()
        self._farther.expect(now, outcome.mean, outcome.sigma, outcome.correlation)
        return replace(outcome, sigma=outcome.sigma * factors)

    def _outcome(self, now: int) -> Outcome:
        start, ahead = now - self._fitted_at + 1, np.arange(HORIZON)
        level, latest = self._levels()
        fading = 1.0 + (latest - 1.0)[:, None] * PERSISTENCE ** (ahead + 1)[None]
        together = float(np.clip(self._all[0] / self._all[1], 0.5, 2.0)) - 1.0
        seasonal = self._base[:, start : start + HORIZON] * level[:, None] * fading
        mean = self._recency.ahead(seasonal, self._shape[start : start + HORIZON], self._unit)
        mean *= (1.0 + together * TOGETHER**ahead)[None]
        sigma = np.sqrt(self._dispersion()[:, None] * mean)
        squared, apart, joined = self._total.tolist()
        common = (squared - apart) / (joined - apart) if joined > apart > 0 else 0.0
        return Outcome(mean, sigma, float(np.clip(common, 0.0, 1.0)))


class TrueFuture:
    """The oracle: it knows what each hour will cost, or, where they are known, the ``mean`` and ``sigma`` behind it."""

    def __init__(self, log: ReplayLog, mean: FloatArray | None = None, sigma: FloatArray | None = None) -> None:
        self._mean = log.costs if mean is None else mean
        self._sigma = sigma

    def ahead(self, past: Past) -> Outcome:
        """The next hours as they will be; after the log's end, as its last ones were."""
        hours = np.minimum(past.now + np.arange(HORIZON), self._mean.shape[1] - 1)
        mean = self._mean[:, hours].astype(np.float64)
        sigma = np.zeros_like(mean) if self._sigma is None else self._sigma[:, hours].astype(np.float64)
        return Outcome(mean, sigma, 0.0)
