"""The spread of one-hour errors: variance per unit of mean for each key, and the part that is common to all keys."""

from __future__ import annotations

import numpy as np

from foreshard.model import FloatArray

PRIOR_HOURS = 72.0
"""The number of hours after which a key's own spread has the same weight as that of all keys."""
SURPRISE = 3.0
"""Errors are clipped at this many standard deviations, so that one burst does not widen the spread for long."""
ERROR_DECAY = 0.5 ** (1 / (14 * 24))
"""The decay of past errors (half-life 14 days)."""
DISPERSIONS = (0.1, 50.0)
"""The least and most variance ÷ mean, in costs of one access. Independent counts have 1, work by a timetable less."""
PRIOR_ACCESSES = 24.0
"""The weight of the prior that counts come independently, in accesses of all keys together."""


class ErrorSpread:
    """Decaying sums of the squared errors of K keys and of their total. ``unit`` (K) is the cost of one access."""

    def __init__(self, keys: int) -> None:
        self._squares, self._means, self._hours = np.zeros(keys), np.zeros(keys), 0.0
        self._total = np.zeros(3)

    def dispersion(self, unit: FloatArray) -> FloatArray:
        """Return variance ÷ mean of each key's errors (K), shrunk towards that of all keys."""
        accesses = float((self._means / unit).sum())
        pooled = (float((self._squares / unit**2).sum()) + PRIOR_ACCESSES) / (accesses + PRIOR_ACCESSES)
        weight = self._hours / (self._hours + PRIOR_HOURS)
        own = self._squares / np.maximum(self._means, 1e-9)
        mixed = weight * own + (1.0 - weight) * pooled * unit
        return np.asarray(np.clip(mixed, DISPERSIONS[0] * unit, DISPERSIONS[1] * unit))

    def correlation(self) -> float:
        """Return the correlation of two keys' errors (0 to 1), from the squared errors of the total (method of moments)."""
        squared, apart, joined = self._total.tolist()
        common = (squared - apart) / (joined - apart) if joined > apart > 0 else 0.0
        return float(np.clip(common, 0.0, 1.0))

    def learn(self, error: FloatArray, expected: FloatArray, unit: FloatArray) -> None:
        """Learn from the errors of an hour (K) and its expected costs."""
        dispersion = self.dispersion(unit)
        most = SURPRISE * np.sqrt(dispersion * expected + unit**2)
        error = np.clip(error, -most, most)
        self._squares = ERROR_DECAY * self._squares + error**2
        self._means = ERROR_DECAY * self._means + expected
        self._hours = ERROR_DECAY * self._hours + 1.0
        sigma = np.sqrt(dispersion * expected)
        self._total = ERROR_DECAY * self._total + np.array([error.sum() ** 2, (sigma**2).sum(), sigma.sum() ** 2])
