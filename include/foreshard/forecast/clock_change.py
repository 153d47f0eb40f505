"""Detects that the daily pattern has moved by an hour, as happens at a daylight-saving change in a log kept in UTC.

Each hour, the costs of all keys are compared with the costs expected for this hour, the hour before, and the hour after. All
three are scaled to the hour's total, so that the keys' shares count and not the level of the load. The log-likelihood ratios
are clipped per key, so that one key's burst decides nothing, and they decay with a half-life of 12 hours. The pattern has moved
when a neighbouring hour leads by ``DECISIVE``.
"""

from __future__ import annotations

import numpy as np

from foreshard.model import FloatArray

DECISIVE = 40.0
"""The log-likelihood ratio at which a moved pattern is accepted."""
MOST_PER_KEY = 1.0
"""The largest log-likelihood ratio that one key contributes in one hour."""
DECAY = 0.5 ** (1 / 12)
LIKELY_SINCE = 12
"""Hours before its detection at which a change is assumed to have happened."""

_LEAST = 1e-9


class ClockWatch:
    """Watches the hours one after another and reports the direction in which the pattern has moved."""

    def __init__(self) -> None:
        self._earlier = self._later = 0.0

    def see(self, actual: FloatArray, before: FloatArray, now: FloatArray, after: FloatArray, unit: FloatArray) -> int:
        """Add an hour: the ``actual`` costs (K), and the costs expected for the hour ``before``, for ``now``, and ``after``.

        ``unit`` (K) is the cost of one access. Return +1 if the pattern is an hour later than expected, −1 if it is an hour
        earlier, and 0 if neither is certain. A decision resets the watch.
        """
        usual = _log_likelihood(actual, now, unit)
        for name, other in (("_later", before), ("_earlier", after)):
            ratio = np.clip(_log_likelihood(actual, other, unit) - usual, -MOST_PER_KEY, MOST_PER_KEY)
            setattr(self, name, DECAY * getattr(self, name) + float(ratio.sum()))
        if max(self._later, self._earlier) <= DECISIVE:
            return 0
        moved = 1 if self._later > self._earlier else -1
        self._earlier = self._later = 0.0
        return moved


def moved_history(costs: FloatArray, until: int, by: int) -> FloatArray:
    """``costs`` (K, T) with the columns before ``until`` shifted ``by`` hours later, to match the current clock."""
    if until <= 0:
        return costs
    until = min(until, costs.shape[1])
    result = costs.copy()
    result[:, :until] = costs[:, np.clip(np.arange(until) - by, 0, costs.shape[1] - 1)]
    return result


def _log_likelihood(actual: FloatArray, expected: FloatArray, unit: FloatArray) -> FloatArray:
    """Poisson log-likelihood per key, up to a constant. ``expected`` is scaled to the actual total."""
    rate = np.maximum(expected * (actual.sum() + 1.0) / (expected.sum() + 1.0), _LEAST) / unit
    return np.asarray(actual / unit * np.log(rate) - rate)
