"""How far a key follows its last hours: the mixture of its daily shape and of the shape carried by the hour.

Levels and rates of the last hours help where load wanders, and are noise where days repeat exactly or counts are small. Both
shapes of the last ``KEPT_DAYS`` days are compared with what came. The errors give each key's weights, as for the candidates
of a blend, apart for the next hours and for those farther ahead.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from foreshard.forecast._blend import blend_weights
from foreshard.model import HOURS_PER_DAY, BoolArray, FloatArray

KEPT_DAYS = 7
NEAR_HOURS = 6
"""Hours ahead with weights of their own."""


class Carrying:
    """The weights of K keys, and what was said about past days."""

    def __init__(self, keys: int) -> None:
        self._said: deque[tuple[int, FloatArray]] = deque(maxlen=KEPT_DAYS)
        self._weights: FloatArray = np.full((2, keys, 2), 0.5)

    def say(self, now: int, shape: FloatArray, carried: FloatArray) -> None:
        """Remember what both say at ``now`` about the hours ahead (K, H)."""
        if shape.shape[1] >= HOURS_PER_DAY:
            both = np.stack([shape[:, :HOURS_PER_DAY], carried[:, :HOURS_PER_DAY]], axis=2)
            self._said.append((now, both.astype(np.float32)))

    def weigh(self, costs: FloatArray, observed: BoolArray, importance: FloatArray, first: int) -> None:
        """Choose the weights, from the history ``costs`` (K, T) that begins with the hour ``first``."""
        said = self._passed(first, first + costs.shape[1])
        if not said:
            return
        for part, leads in enumerate((slice(0, NEAR_HOURS), slice(NEAR_HOURS, HOURS_PER_DAY))):
            days = [(slice(at + leads.start, at + leads.stop), both[:, leads]) for at, both in said]
            errors = [(both - costs[:, day, None]) * importance[None, day, None] for day, both in days]
            known = np.concatenate([observed[:, day] for day, _ in days], axis=1)
            self._weights[part] = blend_weights(np.concatenate(errors, axis=1), known)

    def past(self, costs: FloatArray, observed: BoolArray, first: int) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return what the mixture would have said about the days that have passed, what came, and where it is known; (K, N)."""
        said = self._passed(first, first + costs.shape[1])
        days = [slice(at, at + HOURS_PER_DAY) for at, _ in said]
        none = np.zeros((len(costs), 0))
        before = [self.mixed(both[:, :, 0], both[:, :, 1]) for _, both in said]
        known = [observed[:, day] for day in days]
        return (
            np.concatenate([none, *before], axis=1),
            np.concatenate([none, *(costs[:, day] for day in days)], axis=1),
            np.concatenate([none.astype(np.bool_), *known], axis=1),
        )

    def _passed(self, first: int, end: int) -> list[tuple[int, FloatArray]]:
        """Return (hours after ``first``, what both said) of the days that lie between the hours ``first`` and ``end``."""
        return [(now - first, both) for now, both in self._said if first <= now <= end - HOURS_PER_DAY]

    def mixed(self, shape: FloatArray, carried: FloatArray) -> FloatArray:
        """Return the mixture (K, H)."""
        far = np.arange(shape.shape[1]) >= NEAR_HOURS
        share = np.where(far, self._weights[1, :, 1:], self._weights[0, :, 1:])
        return np.asarray(shape + share * (carried - shape))
