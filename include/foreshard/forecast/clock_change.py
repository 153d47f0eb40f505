"""Has the day's pattern moved by an hour, as it does where clocks change (daylight saving) while the log counts in UTC?

Every hour each key's cost is compared with what was expected of this hour, of the one before and of the one after, all three
scaled to the hour's total: the keys' shares tell, not the load's level. The log-likelihood ratios are clipped key by key, so
that one key's burst decides nothing, and fade with a half-life of 12 hours. Once one of the neighbours has won by ``DECISIVE``,
the pattern has moved.
"""

from __future__ import annotations

import numpy as np

from foreshard.model import FloatArray

DECISIVE = 40.0
"""Log-likelihood by which a moved pattern must win."""
KEYS_SAY = 1.0
"""The most that one key says in one hour."""
FADING = 0.5 ** (1 / 12)
LIKELY_SINCE = 12
"""A change is taken to have come so many hours before it was found."""

_LEAST = 1e-9


class ClockWatch:
    """Watches hour by hour; tells in which direction the pattern has moved."""

    def __init__(self) -> None:
        self._earlier = self._later = 0.0

    def see(self, came: FloatArray, before: FloatArray, now: FloatArray, after: FloatArray, unit: FloatArray) -> int:
        """Take in an hour: what ``came`` per key (K) and what was expected of the hour ``before``, of this one, and ``after``.

        ``unit`` (K) is the cost of one access. Returns +1 where the pattern comes an hour later than expected, −1
        where it comes an hour earlier, 0 where nothing is decided; after a decision it starts anew.
        """
        usual = _log_likelihood(came, now, unit)
        for name, other in (("_later", before), ("_earlier", after)):
            said = np.clip(_log_likelihood(came, other, unit) - usual, -KEYS_SAY, KEYS_SAY)
            setattr(self, name, FADING * getattr(self, name) + float(said.sum()))
        if max(self._later, self._earlier) <= DECISIVE:
            return 0
        moved = 1 if self._later > self._earlier else -1
        self._earlier = self._later = 0.0
        return moved


def moved_history(costs: FloatArray, until: int, by: int) -> FloatArray:
    """``costs`` (K, T) with the columns before ``until`` put ``by`` hours later: as if the clock had always been today's."""
    if until <= 0:
        return costs
    until = min(until, costs.shape[1])
    result = costs.copy()
    result[:, :until] = costs[:, np.clip(np.arange(until) - by, 0, costs.shape[1] - 1)]
    return result


def _log_likelihood(came: FloatArray, expected: FloatArray, unit: FloatArray) -> FloatArray:
    """Poisson, per key, up to what does not depend on ``expected``, which is scaled to the total that came."""
    share = np.maximum(expected * (came.sum() + 1.0) / (expected.sum() + 1.0), _LEAST) / unit
    return np.asarray(came / unit * np.log(share) - share)
