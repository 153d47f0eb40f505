"""Some hours of the last weeks, as they were: what a placement is like whatever the day."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.model import HOURS_PER_WEEK, FloatArray

MANY_KEYS = 200_000
FEWEST_LATELY = 24
"""Of so many hours at least a level is measured: ``past_every`` takes that many to come by each time of day."""
MOST_GROWTH = 4.0


def past_every(keys: int) -> int:
    """Of the last weeks every so manieth hour is looked at; in turn these come from all times of day.

    Of very many keys fewer hours are: their sums vary less by chance, and memory is bounded.
    """
    return 5 if keys <= MANY_KEYS else 25


def past_hours(costs: npt.NDArray[np.floating[Any]]) -> PastHours:
    """Those hours of a history (K, T) that a plan looks at, from the last one backwards, in their order."""
    every = past_every(len(costs))
    return PastHours(as_if_grown(np.ascontiguousarray(costs[:, ::-1][:, ::every][:, ::-1], np.float32), every))


def as_if_grown(past: npt.NDArray[np.float32], every: int) -> npt.NDArray[np.float32]:
    """Past hours, each ``every`` hours behind the one before (K, S), as they would be at the last week's level of all load.

    Where load grows, weeks that had room say nothing about today. What has become less is left as it was, and nothing grows
    more than ``MOST_GROWTH`` times.
    """
    total = past.sum(axis=0, dtype=np.float64)
    lately = total[-max(HOURS_PER_WEEK // every, FEWEST_LATELY) :]
    growth = float(lately.mean() / total.mean()) if total.any() else 1.0
    return past * np.float32(min(growth, MOST_GROWTH)) if growth > 1.0 else past


@dataclass(frozen=True)
class PastHours:
    """What each key cost in some hours, in cost per hour (K, S)."""

    cost: npt.NDArray[np.float32]

    @property
    def hours(self) -> int:
        """S."""
        return int(self.cost.shape[1])

    @cached_property
    def mean(self) -> FloatArray:
        """The same in the precision in which it is summed up."""
        return self.cost.astype(np.float64)

    @cached_property
    def root(self) -> FloatArray:
        """Its square root: the deviation of accesses that cost 1 each."""
        return np.sqrt(self.mean)
