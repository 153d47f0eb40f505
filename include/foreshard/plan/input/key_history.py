"""The history of a list of keys, gathered once per hour for scoring and planning."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foreshard.measure.correlation import CORRELATED_KEYS, error_correlation, seasonal_residuals
from foreshard.model import HOURS_PER_WEEK, FloatArray, SeriesMatrix
from foreshard.plan.input.mean_week import MeanWeek, at_current_level, mean_week


@dataclass(frozen=True)
class KeyHistory:
    """The last weeks of K keys.

    ``totals`` has one row per key × location × request type with its ``count`` and ``cost`` over the whole history, for all
    keys of the log. ``week`` is their mean week; None without a whole week. ``busiest`` holds the hourly costs of the
    ``CORRELATED_KEYS`` keys with the most load, NaN where an hour was not counted.
    """

    totals: pd.DataFrame
    week: MeanWeek | None
    busiest: FloatArray

    @property
    def error_correlation(self) -> float:
        """The average correlation of two keys' forecast errors, estimated from ``busiest``; 0 without any."""
        return error_correlation(seasonal_residuals(self.busiest)) if len(self.busiest) else 0.0


def gather_history(keys: Sequence[str], totals: pd.DataFrame, chunks: Iterable[SeriesMatrix]) -> KeyHistory:
    """Gather the history of ``keys`` from the hour's series. Holds one chunk in memory at a time."""
    rows = pd.Index(list(keys))
    week: MeanWeek | None = None
    hourly = np.zeros(0)
    busiest: _Busiest = []
    for chunk in chunks:
        part = mean_week(chunk.costs, chunk.counted)
        hourly = chunk.costs.sum(axis=0, dtype=np.float64) + (hourly if len(hourly) else 0.0)
        if part is not None:
            week = week or _empty_week(len(keys), part.weeks)
            row = rows.get_indexer(pd.Index(chunk.keys))
            week.mean[row[row >= 0]], week.noise[row[row >= 0]] = part.mean[row >= 0], part.noise[row >= 0]
        busiest = _with_busiest(busiest, chunk)
    return KeyHistory(totals, week and at_current_level(week, hourly), _stacked(busiest))


def _empty_week(keys: int, weeks: float) -> MeanWeek:
    return MeanWeek(np.zeros((keys, HOURS_PER_WEEK), np.float32), np.zeros(keys, np.float32), weeks)


def busiest_series(chunks: Iterable[SeriesMatrix]) -> FloatArray:
    """Return the hourly costs of the ``CORRELATED_KEYS`` keys with the most load, NaN where an hour was not counted."""
    busiest: _Busiest = []
    for chunk in chunks:
        busiest = _with_busiest(busiest, chunk)
    return _stacked(busiest)


_Busiest = list[tuple[float, str, FloatArray]]


def _with_busiest(busiest: _Busiest, chunk: SeriesMatrix) -> _Busiest:
    costs = np.where(chunk.missing, np.nan, chunk.costs)
    totals = np.nansum(costs, axis=1)
    found = [*busiest, *zip(totals.tolist(), chunk.keys, costs, strict=True)]
    return heapq.nlargest(CORRELATED_KEYS, found, key=lambda row: row[:2])


def _stacked(busiest: _Busiest) -> FloatArray:
    return np.stack([row[2] for row in busiest]) if busiest else np.zeros((0, 0))
