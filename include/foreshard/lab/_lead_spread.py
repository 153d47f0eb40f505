"""How much less certain a forecast is the farther ahead it looks, learnt from forecasts whose hours have come.

The spread of single hours' errors says how sure the next hour is; a level that is carried into the hours ahead may not last, so
these are less sure. Loads of partitions are sums of many keys, so sums are compared: the keys are dealt into ``GROUPS``, and
what each brought is set against what had been expected of it, and how surely, so many hours before.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import FloatArray

GROUPS = 8
MOST = 3.0
"""No hour ahead is taken to be less certain than so many times the next one's spread."""
SURPRISE = 4.0
"""No error counts for more deviations than this, of as wide a spread as was believed then."""
PRIOR_HOURS = 24.0
"""Each lead is believed to be as certain as the next hour as if so many hours had confirmed it."""


class LeadSpread:
    """Standard deviation of sums of keys at each lead ÷ what the next hour's spread says (H)."""

    def __init__(self, keys: int, horizon: int, fading: float) -> None:
        """``fading``: how much of what has been seen is kept from one hour to the next."""
        self._dealt = (np.arange(keys) % GROUPS == np.arange(GROUPS)[:, None]).astype(np.float64)
        self._fading = fading
        self._open: deque[tuple[int, FloatArray, FloatArray]] = deque(maxlen=horizon)
        self._seen, self._said = np.full(horizon, PRIOR_HOURS), np.full(horizon, PRIOR_HOURS)

    def factors(self) -> FloatArray:
        """By how much the spread of each hour ahead is wider, at least 1, and never less than that of an hour before it."""
        ratio = np.sqrt(self._seen / self._said)
        return np.asarray(np.clip(np.maximum.accumulate(ratio / ratio[0]), 1.0, MOST))

    def awaits(self, now: int) -> bool:
        """Whether what is expected from ``now`` on has been noted last."""
        return bool(self._open) and self._open[-1][0] == now

    def expect(self, now: int, mean: FloatArray, sigma: FloatArray, correlation: float) -> None:
        """Note what is expected from ``now`` on: (K, H) each, ``sigma`` as sure as the next hour is."""
        load = LoadProfile(self._dealt @ mean, self._dealt @ sigma**2, self._dealt @ sigma)
        self._open.append((now, load.mean, load.deviation(correlation)))

    def learn(self, hour: int, came: FloatArray) -> None:
        """Compare what came in ``hour`` (K) with what had been expected of it."""
        brought, most = self._dealt @ came, (SURPRISE * self.factors()) ** 2
        self._seen *= self._fading
        self._said *= self._fading
        for now, mean, deviation in self._open:
            lead = hour - now
            if 0 <= lead < len(self._seen):
                off = ((brought - mean[:, lead]) / np.maximum(deviation[:, lead], 1e-6)) ** 2
                self._seen[lead] += np.minimum(off, most[lead]).mean()
                self._said[lead] += 1.0
