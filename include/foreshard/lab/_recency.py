"""Which expectation of a key to believe: its seasonal one, the rate of its last hours, or that of its last day.

Keys appear, burst, fade and vanish; what they did a week ago says nothing then. Three experts expect the next hour of each key:
``seasonal`` (given), ``hot`` (the rate of its last two hours) and ``warm`` (of its last day), the latter two in the daily shape
of all keys together. Their weights follow the likelihood of what came, forgotten with a half-life of six hours (as in
Cesa-Bianchi & Lugosi, *Prediction, Learning, and Games*, 2006, ch. 2 and 5). An hour that would be next to impossible without a
change (Adams & MacKay, 2007: Bayesian online changepoint detection, here with one candidate, the hour itself) makes the hot
expert forget what was before, and be believed at once.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from foreshard.model import FloatArray

SEASONAL, HOT, WARM = 0, 1, 2
PRIOR = np.array([0.0, -4.0, -2.0])[:, None]
"""Logarithms of how much each expert is believed before anything came."""
TEMPER = 2.0
"""Counts are more spread than Poisson's: likelihoods are taken to the power of 1 ÷ this."""
WORST = 6.0
"""The most that one hour says against an expert: who was wrong once can be right again soon."""
FORGOTTEN = 0.5 ** (1 / 6)
LAST_HOURS, LAST_DAY = 0.5 ** (1 / 2), 0.5 ** (1 / 24)
CHANGES = 0.005
"""How often a key's rate changes from one hour to the next."""
FADES = 0.5 ** (1 / 12)
"""How the belief in the last hours' rate fades out of the hours ahead (half-life 12 h)."""

_LEAST = 0.02
"""The rate, in accesses per hour, below which no expert expects."""


class Recency:
    """The experts' state for K keys; costs are divided by ``unit`` (K), the cost of one access of each."""

    def __init__(self, keys: int) -> None:
        self._belief = np.repeat(PRIOR, keys, axis=1)
        self._sums = np.zeros((2, keys))
        self._hours = np.zeros((2, keys))

    def weights(self) -> FloatArray:
        """How much each expert is believed, shape (3, K); sums to one."""
        weight = np.exp(self._belief - self._belief.max(axis=0))
        return np.asarray(weight / weight.sum(axis=0))

    def rates(self, unit: FloatArray) -> FloatArray:
        """Cost per hour of average shape that the hot and the warm expert expect, shape (2, K)."""
        return np.asarray((self._sums + 0.05 * unit) / (self._hours + np.array([[0.2], [0.5]])))

    def expected(self, seasonal: FloatArray, shape: float, unit: FloatArray) -> FloatArray:
        """What each expert expects of one hour whose total is ``shape`` × the average hour's, shape (3, K)."""
        return np.concatenate([seasonal[None], self.rates(unit) * shape])

    def ahead(self, seasonal: FloatArray, shape: FloatArray, unit: FloatArray) -> FloatArray:
        """What all of them expect together of the coming hours; ``seasonal`` (K, H), ``shape`` (H)."""
        weight, rate = self.weights(), self.rates(unit)
        hot = weight[HOT][:, None] * FADES ** np.arange(len(shape))
        seasons, day = (weight[which] / np.maximum(weight[SEASONAL] + weight[WARM], 1e-9) for which in (SEASONAL, WARM))
        slow = seasons[:, None] * seasonal + (day * rate[1])[:, None] * shape
        return np.asarray(hot * rate[0][:, None] * shape + (1.0 - hot) * slow)

    def learn(
        self, came: FloatArray, experts: FloatArray, shape: float, unit: FloatArray, dispersion: FloatArray
    ) -> FloatArray:
        """Take in what an hour brought (K), of which ``experts`` (3, K) had been expected; ``dispersion``: variance ÷ mean.

        Returns what they had expected together (K).
        """
        count, rate = came / unit, np.maximum(experts / unit, _LEAST)
        said = (count * np.log(rate) - rate) / TEMPER
        together = (self.weights() * experts).sum(axis=0)
        self._belief = FORGOTTEN * (self._belief - PRIOR) + PRIOR + np.maximum(said - said.max(axis=0), -WORST)
        changed = _change(count, np.maximum(together / unit, _LEAST), np.maximum(dispersion / unit, 1.0))
        weight = (1.0 - changed) * self.weights()
        weight[HOT] += changed
        self._belief = np.log(weight + 1e-9)
        keep = np.stack([LAST_HOURS * (1.0 - changed), np.full(len(came), LAST_DAY)])
        self._sums, self._hours = keep * self._sums + came, keep * self._hours + shape
        return np.asarray(together)


def _change(count: FloatArray, expected: FloatArray, dispersion: FloatArray) -> FloatArray:
    """The probability that a key's rate has changed, given what came; a new rate may be anything up to what is seen now."""
    stays = (count * np.log(expected) - expected - gammaln(count + 1.0)) / dispersion
    changes = -np.log1p(np.maximum(count, expected)) - 1.0
    odds = np.exp(np.clip(stays - changes, -30.0, 30.0)) * (1.0 - CHANGES) / CHANGES
    return np.asarray(1.0 / (1.0 + odds))
