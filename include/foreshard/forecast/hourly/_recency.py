"""Combines three expectations of a key: its seasonal forecast, the rate of its last hours, and the rate of its last day.

Keys appear, burst, fade and vanish; last week says nothing about them then. Three experts forecast the next hour of each key:
``seasonal`` (given), ``hot`` (the rate of the last two hours) and ``warm`` (the rate of the last day). The rates follow the
daily shape of all keys together. The experts' weights follow their likelihood, with a half-life of six hours (Cesa-Bianchi and
Lugosi, *Prediction, Learning, and Games*, 2006, ch. 2 and 5). An hour that is nearly impossible without a change resets the hot
expert and gives it most of the weight at once (Bayesian online changepoint detection, Adams and MacKay, 2007, with the current
hour as the only candidate).
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from foreshard.model import FloatArray

SEASONAL, HOT, WARM = 0, 1, 2
PRIOR = np.array([0.0, -4.0, -2.0])[:, None]
"""The experts' prior log-weights."""
TEMPER = 2.0
"""Likelihoods are raised to 1 ÷ this power, because counts vary more than Poisson counts."""
WORST_RATIO = 6.0
"""The largest log-likelihood ratio against an expert in one hour, so that it can recover soon."""
BELIEF_DECAY = 0.5 ** (1 / 6)
LAST_HOURS, LAST_DAY = 0.5 ** (1 / 2), 0.5 ** (1 / 24)
CHANGE_RATE = 0.005
"""The prior probability that a key's rate changes in an hour."""
HOT_DECAY = 0.5 ** (1 / 12)
"""The decay of the hot expert's weight over the hours ahead (half-life 12 h)."""

_LEAST = 0.02
"""The least rate that an expert expects, in accesses per hour."""


class Recency:
    """The experts' state for K keys. ``unit`` (K) is the cost of one access of each key."""

    def __init__(self, keys: int) -> None:
        self._belief = np.repeat(PRIOR, keys, axis=1)
        self._sums = np.zeros((2, keys))
        self._hours = np.zeros((2, keys))

    def weights(self) -> FloatArray:
        """Return the experts' weights, shape (3, K), which sum to 1."""
        weight = np.exp(self._belief - self._belief.max(axis=0))
        return np.asarray(weight / weight.sum(axis=0))

    def rates(self, unit: FloatArray) -> FloatArray:
        """Return the cost per average hour that the hot and the warm expert expect, shape (2, K)."""
        return np.asarray((self._sums + 0.05 * unit) / (self._hours + np.array([[0.2], [0.5]])))

    def expected(self, seasonal: FloatArray, shape: float, unit: FloatArray) -> FloatArray:
        """Return each expert's forecast of one hour whose total is ``shape`` × that of the average hour, shape (3, K)."""
        return np.concatenate([seasonal[None], self.rates(unit) * shape])

    def ahead(self, seasonal: FloatArray, shape: FloatArray, unit: FloatArray) -> FloatArray:
        """Return the combined forecast of the coming hours (K, H), from ``seasonal`` (K, H) and ``shape`` (H)."""
        weight, rate = self.weights(), self.rates(unit)
        hot = weight[HOT][:, None] * HOT_DECAY ** np.arange(len(shape))
        seasons, day = (weight[which] / np.maximum(weight[SEASONAL] + weight[WARM], 1e-9) for which in (SEASONAL, WARM))
        slow = seasons[:, None] * seasonal + (day * rate[1])[:, None] * shape
        return np.asarray(hot * rate[0][:, None] * shape + (1.0 - hot) * slow)

    def learn(
        self, actual: FloatArray, experts: FloatArray, shape: float, unit: FloatArray, dispersion: FloatArray
    ) -> FloatArray:
        """Learn from the ``actual`` costs of an hour (K) and the ``experts``' forecasts of it (3, K).

        ``dispersion`` is variance ÷ mean. Return the combined forecast of the hour (K).
        """
        count, rate = actual / unit, np.maximum(experts / unit, _LEAST)
        likelihood = (count * np.log(rate) - rate) / TEMPER
        together = (self.weights() * experts).sum(axis=0)
        self._belief = (
            BELIEF_DECAY * (self._belief - PRIOR) + PRIOR + np.maximum(likelihood - likelihood.max(axis=0), -WORST_RATIO)
        )
        changed = _change(count, np.maximum(together / unit, _LEAST), np.maximum(dispersion / unit, 1.0))
        weight = (1.0 - changed) * self.weights()
        weight[HOT] += changed
        self._belief = np.log(weight + 1e-9)
        keep = np.stack([LAST_HOURS * (1.0 - changed), np.full(len(actual), LAST_DAY)])
        self._sums, self._hours = keep * self._sums + actual, keep * self._hours + shape
        return np.asarray(together)


def _change(count: FloatArray, expected: FloatArray, dispersion: FloatArray) -> FloatArray:
    """Return the probability that a key's rate has changed. A new rate may be anything up to the observed count."""
    stays = (count * np.log(expected) - expected - gammaln(count + 1.0)) / dispersion
    changes = -np.log1p(np.maximum(count, expected)) - 1.0
    odds = np.exp(np.clip(stays - changes, -30.0, 30.0)) * (1.0 - CHANGE_RATE) / CHANGE_RATE
    return np.asarray(1.0 / (1.0 + odds))
