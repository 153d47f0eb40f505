"""The matrix keys × hours that forecasts are made from, built from key-load rows.

If an hour was counted and has no row for a key, that key's cost is 0. If an hour was not counted, it is missing for every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from foreshard.model import HOURS_PER_DAY, ONE_HOUR, IntArray, SeriesMatrix

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def first_hour(hour: datetime, history_hours: int) -> datetime:
    """Return the first hour of a history of ``history_hours`` hours that ends with ``hour``."""
    return hour - (history_hours - 1) * ONE_HOUR


def hour_number(moment: datetime) -> int:
    """Return whole hours since 1970-01-01T00Z."""
    return int((moment - _EPOCH) // ONE_HOUR)


def history_numbers(hour: datetime, history_hours: int) -> IntArray:
    """Return the hour numbers of the history that ends with ``hour``, shape (T,)."""
    last = hour_number(hour)
    return np.arange(last - history_hours + 1, last + 1, dtype=np.int64)


def stamps(numbers: IntArray) -> pd.DatetimeIndex:
    """Return hour numbers as naive UTC times, as Prophet expects them."""
    return pd.DatetimeIndex(numbers.astype("datetime64[h]").astype("datetime64[ns]"))


def horizon_numbers(hour: datetime, horizon_hours: int) -> IntArray:
    """Return the hour numbers of the horizon after ``hour``, shape (H,)."""
    return hour_number(hour) + 1 + np.arange(horizon_hours, dtype=np.int64)


class SeriesBuilder:
    """Builds the matrix from slices of key-load rows, so that all rows need not be in memory at once."""

    def __init__(self, hour: datetime, history_days: int, counted: Sequence[datetime]) -> None:
        self._hour = hour
        self._length = history_days * HOURS_PER_DAY
        self._first = hour_number(first_hour(hour, self._length))
        self._counted = np.zeros(self._length, dtype=np.bool_)
        places = np.array([hour_number(moment) for moment in counted], dtype=np.int64) - self._first
        self._counted[places[(places >= 0) & (places < self._length)]] = True
        self._codes: dict[str, int] = {}
        self._costs = np.zeros((0, self._length), dtype=np.float32)

    def add(self, key_load: pd.DataFrame) -> None:
        """Add rows with ``KEY_LOAD_COLUMNS``. Rows outside the history or of uncounted hours are ignored."""
        if key_load.empty:
            return
        cost = pd.to_numeric(key_load["cost"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        place = _hour_numbers(key_load["hour"]) - self._first
        inside = (place >= 0) & (place < self._length)
        inside[inside] = self._counted[place[inside]]
        inside &= cost != 0
        if not inside.any():
            return
        codes = self._encode(key_load.loc[inside, "partitionable_key"])
        cells = pd.Series(cost[inside]).groupby(codes * self._length + place[inside]).sum(min_count=1)
        self._costs.reshape(-1)[cells.index.to_numpy()] += cells.to_numpy(dtype=np.float32)

    def build(self) -> SeriesMatrix:
        """Return the matrix with sorted keys, without keys that had no access in the history."""
        keys = list(self._codes)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return SeriesMatrix(self._hour, tuple(keys[i] for i in order), self._costs[order], self._counted.copy())

    def _encode(self, column: pd.Series[str]) -> IntArray:
        local, names = pd.factorize(column)
        known = self._codes
        codes = np.fromiter((known.setdefault(str(name), len(known)) for name in names), dtype=np.int64, count=len(names))
        if len(known) > len(self._costs):
            grown = np.zeros((max(len(known), len(self._costs) * 3 // 2), self._length), dtype=np.float32)
            grown[: len(self._costs)] = self._costs
            self._costs = grown
        result: IntArray = codes[local]
        return result


def build_series(key_load: pd.DataFrame, counted: Sequence[datetime], hour: datetime, history_days: int) -> SeriesMatrix:
    """Return the matrix of the ``history_days`` × 24 hours up to and including ``hour``, from rows in memory."""
    builder = SeriesBuilder(hour, history_days, counted)
    builder.add(key_load)
    return builder.build()


def day_slices(hour: datetime, history_days: int) -> tuple[tuple[datetime, datetime], ...]:
    """Return the history as half-open slices [since, until) of one day each, oldest first."""
    start = first_hour(hour, history_days * HOURS_PER_DAY)
    return tuple((start + timedelta(days=day), start + timedelta(days=day + 1)) for day in range(history_days))


def _hour_numbers(column: pd.Series[pd.Timestamp]) -> IntArray:
    moments = pd.to_datetime(column, utc=True)
    numbers: IntArray = moments.to_numpy(dtype="datetime64[h]").astype(np.int64)
    return numbers
