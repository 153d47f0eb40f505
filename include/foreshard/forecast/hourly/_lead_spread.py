"""How uncertainty grows with the lead time, learnt from past forecasts.

The spread of one-hour errors describes the next hour. Later hours are less certain, because a level that is carried into them
may not last. Partition loads are sums over many keys, so sums are compared: the keys are divided into ``GROUPS``, and the
actual sum of each group is compared with the sum expected at each lead time.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import FloatArray

GROUPS = 8
MOST = 3.0
"""The largest factor between the spread of an hour ahead and that of the next hour."""
SURPRISE = 4.0
"""Errors are clipped at this many standard deviations."""
PRIOR_HOURS = 24.0
"""The weight, in hours, of the prior that every lead time is as certain as the next hour."""


class LeadSpread:
    """The ratio of the standard deviation of sums of keys at each lead time to that of the next hour (H)."""

    def __init__(self, keys: int, horizon: int, decay: float) -> None:
        """``decay``: the weight of past errors relative to those one hour later."""
        self._groups = (np.arange(keys) % GROUPS == np.arange(GROUPS)[:, None]).astype(np.float64)
        self._decay = decay
        self._pending: deque[tuple[int, FloatArray, FloatArray]] = deque(maxlen=horizon)
        self._observed, self._predicted = np.full(horizon, PRIOR_HOURS), np.full(horizon, PRIOR_HOURS)

    def factors(self) -> FloatArray:
        """Return the factor for the spread of each hour ahead, at least 1 and non-decreasing."""
        ratio = np.sqrt(self._observed / self._predicted)
        return np.asarray(np.clip(np.maximum.accumulate(ratio), 1.0, MOST))

    def has_expected(self, now: int) -> bool:
        """Return whether :meth:`expect` was last called for ``now``."""
        return bool(self._pending) and self._pending[-1][0] == now

    def expect(self, now: int, mean: FloatArray, sigma: FloatArray, correlation: float) -> None:
        """Remember the forecast made at ``now``: (K, H) each, with the spread of the next hour as ``sigma``."""
        load = LoadProfile(self._groups @ mean, self._groups @ sigma**2, self._groups @ sigma)
        self._pending.append((now, load.mean, load.deviation(correlation)))

    def learn(self, hour: int, actual: FloatArray) -> None:
        """Compare the ``actual`` costs of ``hour`` (K) with the forecasts for it."""
        sums, limit = self._groups @ actual, (SURPRISE * self.factors()) ** 2
        self._observed *= self._decay
        self._predicted *= self._decay
        for now, mean, deviation in self._pending:
            lead = hour - now
            if 0 <= lead < len(self._observed):
                ratio = ((sums - mean[:, lead]) / np.maximum(deviation[:, lead], 1e-6)) ** 2
                self._observed[lead] += np.minimum(ratio, limit[lead]).mean()
                self._predicted[lead] += 1.0
