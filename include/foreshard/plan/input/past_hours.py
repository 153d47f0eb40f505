"""A sample of hours of the last weeks, on which placements are evaluated besides the forecast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.model import HOURS_PER_WEEK, FloatArray

MANY_KEYS = 200_000
FEWEST_RECENT = 24
"""The current level is measured over at least this many sampled hours, which cover every hour of the day."""
MOST_GROWTH = 4.0


def past_stride(keys: int) -> int:
    """Sample every n-th past hour; return n. It is coprime to 24, so the samples cover every hour of the day.

    For very many keys n is larger, because their sums vary less, and to bound memory.
    """
    return 5 if keys <= MANY_KEYS else 25


def past_hours(costs: npt.NDArray[np.floating[Any]]) -> PastHours:
    """Sample the hours of a history (K, T) backwards from the last one, and return them in order."""
    stride = past_stride(len(costs))
    return PastHours(at_current_level(np.ascontiguousarray(costs[:, ::-1][:, ::stride][:, ::-1], np.float32), stride))


def at_current_level(past: npt.NDArray[np.float32], stride: int) -> npt.NDArray[np.float32]:
    """Scale past hours (K, S), ``stride`` hours apart, to the total load of the last week if load has grown.

    Weeks with less load would show room that no longer exists. A decrease is not scaled; growth is limited to ``MOST_GROWTH``.
    """
    total = past.sum(axis=0, dtype=np.float64)
    recent = total[-max(HOURS_PER_WEEK // stride, FEWEST_RECENT) :]
    growth = float(recent.mean() / total.mean()) if total.any() else 1.0
    return past * np.float32(min(growth, MOST_GROWTH)) if growth > 1.0 else past


@dataclass(frozen=True)
class PastHours:
    """The cost of each key in the sampled hours, in cost per hour (K, S)."""

    cost: npt.NDArray[np.float32]

    @property
    def hours(self) -> int:
        """The number of sampled hours, S."""
        return int(self.cost.shape[1])

    @cached_property
    def mean(self) -> FloatArray:
        """``cost`` in double precision, for sums."""
        return self.cost.astype(np.float64)

    @cached_property
    def root(self) -> FloatArray:
        """The square root of ``cost``: its standard deviation if accesses are Poisson and cost 1 each."""
        return np.sqrt(self.mean)
