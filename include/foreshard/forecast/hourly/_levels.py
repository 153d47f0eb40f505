"""How far the load is from its daily shape: each key's level of the last days and hours, and the level of all keys."""

from __future__ import annotations

from collections import deque

import numpy as np

from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, FloatArray

LEVEL_DECAY, RECENT_DECAY, TOTAL_DECAY = 0.5 ** (1 / 36), 0.5 ** (1 / 4), 0.5 ** (1 / 2)
"""Half-lives of a key's level (36 h), of the level of its last hours (4 h), and of the level of all keys (2 h)."""
PRIOR_ACCESSES = 24.0
"""The weight of the prior that a key's level is 1, in accesses of the key."""
PRIOR_HOURS = 0.25
"""The weight of the prior that the level of all keys is 1, in average hours of all keys. It wins in hours without load."""
PERSISTENCE = 0.5 ** (1 / 8)
"""The decay of the level of a key's last hours over the hours ahead (half-life 8 h)."""
MOST_TOGETHER = 2.0
"""The largest factor of the level of all keys, either way."""


class Levels:
    """Decaying sums of actual and expected costs of K keys. ``unit`` (K) is the cost of one access."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self.reset()

    def reset(self) -> None:
        """Forget all levels."""
        self._days, self._hours, self._total = np.zeros((2, self._keys)), np.zeros((2, self._keys)), np.ones(2)
        self._past: deque[FloatArray] = deque(maxlen=HOURS_PER_WEEK)
        self._usual = 1e-9

    def of_days(self, unit: FloatArray) -> FloatArray:
        """Return each key's level of the last days (K): actual ÷ shape."""
        return _ratio(self._days, unit)

    def of_hours(self, unit: FloatArray) -> FloatArray:
        """Return each key's level of the last hours (K), relative to that of the last days."""
        return _ratio(self._hours, unit)

    def ahead(self, unit: FloatArray, hours: int) -> FloatArray:
        """Return the factor of the shape for each key and hour ahead (K, hours)."""
        fading = np.power(PERSISTENCE, np.arange(1, hours + 1))
        factor: FloatArray = self.of_days(unit)[:, None] * (1.0 + (self.of_hours(unit) - 1.0)[:, None] * fading)
        return factor

    def together(self, hours: int) -> FloatArray:
        """Return the factor of all keys for each hour ahead (hours,)."""
        prior = PRIOR_HOURS * self._usual
        level = float(np.clip((self._total[0] + prior) / (self._total[1] + prior), 1.0 / MOST_TOGETHER, MOST_TOGETHER))
        factor: FloatArray = 1.0 + (level - 1.0) * np.power(TOTAL_DECAY, np.arange(hours))
        return factor

    def skip(self) -> None:
        """Pass an hour that is unknown."""
        self._past.append(np.zeros((2, self._keys)))

    def weigh(self, importance: FloatArray) -> None:
        """Take the level of the last days from past hours of the given importance (T,), the last learnt last."""
        self._days = np.zeros((2, self._keys))
        for hour, weight in zip(self._past, importance[len(importance) - len(self._past) :], strict=True):
            self._days = LEVEL_DECAY * self._days + weight * hour

    def learn(self, actual: FloatArray, base: FloatArray, expected: FloatArray, unit: FloatArray) -> None:
        """Learn from an hour (K): its ``actual`` cost, the shape's ``base``, and what was ``expected``."""
        typical = base * self.of_days(unit)
        self._usual += (float(expected.sum()) - self._usual) / HOURS_PER_DAY
        self._past.append(np.stack([actual, base]))
        self._days = LEVEL_DECAY * self._days + self._past[-1]
        self._hours = RECENT_DECAY * self._hours + np.stack([actual, typical])
        self._total = TOTAL_DECAY * self._total + np.array([actual.sum(), expected.sum()]) + 1e-9


def _ratio(sums: FloatArray, unit: FloatArray) -> FloatArray:
    ratio: FloatArray = (sums[0] + PRIOR_ACCESSES * unit) / (sums[1] + PRIOR_ACCESSES * unit)
    return ratio
