"""The history of a list of keys, gathered once per hour for scoring and planning."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.measure.correlation import CORRELATED_KEYS, error_correlation, seasonal_residuals
from foreshard.model import HOURS_PER_WEEK, FloatArray, SeriesMatrix
from foreshard.plan.input.past_hours import PastHours, at_current_level, past_stride


@dataclass(frozen=True)
class KeyHistory:
    """The last weeks of K keys.

    ``totals`` has one row per key × location × request type with its ``count`` and ``cost`` over the whole history, for all
    keys of the log. ``past`` samples every n-th past hour (:func:`past_stride`); None without any load.
    ``week_peak`` is the highest hourly total of the last week, in cost per hour. ``busiest`` holds the hourly costs of the
    ``CORRELATED_KEYS`` keys with the most load, NaN where an hour was not counted.
    """

    totals: pd.DataFrame
    past: PastHours | None
    week_peak: float
    busiest: FloatArray

    @property
    def error_correlation(self) -> float:
        """The average correlation of two keys' forecast errors, estimated from ``busiest``; 0 without any."""
        return error_correlation(seasonal_residuals(self.busiest)) if len(self.busiest) else 0.0


def gather_history(keys: Sequence[str], totals: pd.DataFrame, chunks: Iterable[SeriesMatrix]) -> KeyHistory:
    """Gather the history of ``keys`` from the hour's series. Holds one chunk in memory at a time."""
    rows, stride = pd.Index(list(keys)), past_stride(len(keys))
    sampled = np.zeros((len(keys), 0), np.float32)
    hourly = np.zeros(0)
    busiest: _Busiest = []
    for chunk in chunks:
        newest_first = chunk.costs[:, ::-1][:, ::stride]
        if not len(hourly):
            sampled = np.zeros((len(keys), newest_first.shape[1]), np.float32)
            hourly = np.zeros(chunk.costs.shape[1])
        hourly += chunk.costs.sum(axis=0, dtype=np.float64)
        row = rows.get_indexer(pd.Index(chunk.keys))
        sampled[row[row >= 0]] = newest_first[row >= 0]
        busiest = _with_busiest(busiest, chunk)
    return KeyHistory(
        totals, _past(sampled, hourly, stride), float(hourly[-HOURS_PER_WEEK:].max(initial=0.0)), _stacked(busiest)
    )


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


def _past(newest_first: npt.NDArray[np.float32], hourly: FloatArray, stride: int) -> PastHours | None:
    """Return the sampled hours in order, without the hours before the first that has any load."""
    loaded = np.flatnonzero(hourly)
    if not len(loaded):
        return None
    oldest = (len(hourly) - 1 - int(loaded[0])) // stride
    return PastHours(at_current_level(np.ascontiguousarray(newest_first[:, : oldest + 1][:, ::-1]), stride))
