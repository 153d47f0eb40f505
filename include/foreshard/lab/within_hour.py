"""Costs within the hour: in steps of five minutes, or of the log's own resolution if that is coarser.

Only the cells with a cost are kept: at most one row of 9 bytes for each record, however many keys and hours there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np
import numpy.typing as npt

from foreshard.model import FloatArray, IntArray

STEPS_PER_HOUR = 12
RARE = 0.001
"""Times within the hour that fewer records than this share have do not count for a log's resolution."""

_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True)
class StepRows:
    """Rows of key and cost by step; those of step ``s`` (counted from the log's start) are ``start[s]:start[s + 1]``."""

    per_hour: int
    start: IntArray
    key: npt.NDArray[np.int32]
    step: npt.NDArray[np.uint8]
    cost: npt.NDArray[np.float32]

    def rows(self, first: int, last: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Return rows (key, steps after ``first``, cost) of the steps [first, last), at most an hour."""
        rows = slice(int(self.start[max(first, 0)]), int(self.start[max(last, 0)]))
        after = (self.step[rows].astype(np.int64) - first) % self.per_hour
        return self.key[rows].astype(np.int64), after, self.cost[rows].astype(np.float64)

    def totals(self) -> FloatArray:
        """Return the cost of all keys in each step."""
        steps = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        return np.bincount(steps, weights=self.cost, minlength=len(self.start) - 1).astype(np.float64)

    def squares(self, first: int) -> float:
        """Return the sum of the squares of all rows from the step ``first`` on."""
        return float(np.square(self.cost[self.start[first] :]).sum(dtype=np.float64))


def steps_per_hour(time: IntArray) -> int:
    """Return the number of steps in an hour that records with these times (ns) have; 1: all are at the same one.

    Records only at full hours are an hourly table, records at every quarter of an hour one of quarters, and so on.
    """
    count = np.bincount(_step(time, STEPS_PER_HOUR), minlength=STEPS_PER_HOUR)
    used = np.flatnonzero(count > RARE * len(time)).tolist()
    return STEPS_PER_HOUR // reduce(gcd, used, STEPS_PER_HOUR)


def rows_by_step(time: IntArray, key: IntArray, cost: FloatArray, since: int, hours: int, keys: int) -> StepRows | None:
    """Sum records by step and key. ``since``: the first hour since 1970. None if the log has no times within the hour."""
    per_hour = steps_per_hour(time)
    if per_hour == 1:
        return None
    step = (time // _HOUR_NS - since) * per_hour + _step(time, per_hour)
    cells, at = np.unique(step * keys + key, return_inverse=True)
    summed = np.bincount(at, weights=cost, minlength=len(cells)).astype(np.float32)
    step, key = np.divmod(cells, keys)
    start = np.searchsorted(step, np.arange(hours * per_hour + 1)).astype(np.int64)
    return StepRows(per_hour, start, key.astype(np.int32), (step % per_hour).astype(np.uint8), summed)


def _step(time: IntArray, per_hour: int) -> IntArray:
    return np.asarray(time % _HOUR_NS // (_HOUR_NS // per_hour))
