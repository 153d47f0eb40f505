"""The blended shape: a weighted mixture per key of seasonal means, last week, and Prophet, with weights from past days.

1. Every candidate (:mod:`foreshard.forecast._candidates`) is fitted once a day.
2. What the candidates said about each of the last ``BACKTEST_DAYS`` days is compared with what came. The errors give each key's
   weights (:mod:`foreshard.forecast._blend`).
3. The keys' total is blended in the same way, from their sum and from the candidates of the total itself. All keys are scaled
   to it: weights that suit single keys favour their medians, whose sum is too low.

Hours of odd days (:mod:`foreshard.forecast.odd_hours`) count less in the fits and in the errors.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from foreshard.forecast._blend import blend_weights
from foreshard.forecast._candidates import CANDIDATES, candidates
from foreshard.forecast.odd_hours import hour_weights
from foreshard.model import HOURS_PER_DAY, BoolArray, FloatArray, IntArray

BACKTEST_DAYS = 7
MOST_RECONCILED = 2.0
"""The largest factor by which an hour of the keys is scaled to agree with their total, either way."""


@dataclass(frozen=True)
class _History:
    """Costs (K, T), where they are observed, the weight of each hour, and the number of the first."""

    costs: FloatArray
    observed: BoolArray
    importance: FloatArray
    first: int

    def errors(self, said: FloatArray, day: slice) -> FloatArray:
        """Return the weighted errors (K, 24, C) of what was ``said`` about a day."""
        return np.asarray((said - self.costs[:, day, None]) * self.importance[None, day, None])

    def total(self) -> _History:
        """Return the keys' total as one series. It is known in hours in which most keys are."""
        known = self.observed.mean(axis=0) > 0.5
        return _History(self.costs.sum(axis=0)[None], known[None], self.importance, self.first)


class BlendedDays:
    """The blend, and what its candidates said about past days, of each key (K, 24, C) and of the total (1, 24, C)."""

    def __init__(self) -> None:
        self._said: deque[tuple[int, FloatArray, FloatArray]] = deque(maxlen=BACKTEST_DAYS)
        self._weight: FloatArray = np.zeros((0, len(CANDIDATES)))

    def fit(self, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> FloatArray:
        """Return the blend."""
        history = _History(costs, observed, hour_weights(costs, observed, numbers), int(numbers[0]))
        total = history.total()
        yesterday = self._said[-1][1:] if self._said and self._said[-1][0] == int(ahead[1]) - HOURS_PER_DAY else (None, None)
        made, together = (
            candidates(part.costs, part.observed, part.importance, numbers, ahead, before)
            for part, before in zip((history, total), yesterday, strict=True)
        )
        past = [
            (slice(at - history.first, at - history.first + HOURS_PER_DAY), keys, sums)
            for at, keys, sums in self._said
            if history.first <= at <= int(numbers[-1]) + 1 - HOURS_PER_DAY
        ]
        day = slice(1, HOURS_PER_DAY + 1)
        self._said.append((int(ahead[1]), made[:, day].astype(np.float32), together[:, day]))
        errors = [history.errors(keys, span) for span, keys, _ in past]
        self._weight = _weights(errors, [observed[:, span] for span, _, _ in past], len(costs), made.shape[2])
        blend = _mixed(made, self._weight)
        said = [np.dstack([_mixed(keys, self._weight).sum(axis=0)[None], sums]) for _, keys, sums in past]
        errors = [total.errors(one, span) for one, (span, _, _) in zip(said, past, strict=True)]
        if not errors:
            return blend
        weights = blend_weights(
            np.concatenate(errors, axis=1), np.concatenate([total.observed[:, span] for span, _, _ in past], axis=1), pool=0.0
        )
        sums = blend.sum(axis=0)
        wanted = _mixed(np.dstack([sums[None], together]), weights)[0]
        factor = np.where(sums > 0, wanted / np.where(sums > 0, sums, 1.0), 1.0)
        return np.asarray(blend * np.clip(factor, 1.0 / MOST_RECONCILED, MOST_RECONCILED))

    def leading(self, keys: int) -> tuple[str, ...]:
        """Name the candidate with the largest weight for each key."""
        return tuple(CANDIDATES[int(place)] for place in self._weight.argmax(axis=1))[:keys]


def _weights(errors: list[FloatArray], known: list[BoolArray], keys: int, count: int) -> FloatArray:
    """Return each key's weights (K, C) from its errors (K, 24, C) on past days; equal ones without any."""
    if not errors:
        return np.full((keys, count), 1.0 / count)
    return blend_weights(np.concatenate(errors, axis=1), np.concatenate(known, axis=1))


def _mixed(said: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("khc,kc->kh", said, weights))
