"""Splits the counts of many hours into one tally per hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import HOURS_PER_DAY, ONE_HOUR, HourTally


def hours_between(since: datetime, until: datetime) -> tuple[datetime, ...]:
    """Return the hours that start in [since, until)."""
    return tuple(since + number * ONE_HOUR for number in range(max(0, -(-(until - since) // ONE_HOUR))))


def day_after(moment: datetime) -> datetime:
    """Return the start of the next UTC day."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + HOURS_PER_DAY * ONE_HOUR


def by_hour(frame: pd.DataFrame, moments: pd.Series[pd.Timestamp], hours: Sequence[datetime]) -> Iterator[pd.DataFrame]:
    """The rows of each of ``hours`` (ascending). ``frame`` is sorted by ``moments``."""
    times = moments.dt.tz_convert("UTC").to_numpy(dtype="datetime64[ns]")
    starts = np.searchsorted(times, _nanoseconds(hours))
    ends = np.searchsorted(times, _nanoseconds([hour + ONE_HOUR for hour in hours]))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield frame.iloc[start:end]


def split(key_load: pd.DataFrame, pairs: pd.DataFrame, hours: Sequence[datetime]) -> Iterator[HourTally]:
    """One tally for each of ``hours``, from counts sorted by hour."""
    loads, together = by_hour(key_load, key_load["hour"], hours), by_hour(pairs, pairs["hour"], hours)
    for hour, load, paired in zip(hours, loads, together, strict=True):
        yield HourTally(hour, load, paired)


def in_steps(hours: Sequence[datetime], counts: Mapping[datetime, int], records: int) -> Iterator[list[datetime]]:
    """Yield the hours in steps of at most 24 successive ones with about ``records`` in all. ``counts``: hour → its records."""
    step: list[datetime] = []
    found = 0
    for hour in hours:
        full = len(step) == HOURS_PER_DAY or found + counts.get(hour, 0) > records
        if step and (full or hour - step[-1] != ONE_HOUR):
            yield step
            step, found = [], 0
        step.append(hour)
        found += counts.get(hour, 0)
    if step:
        yield step


def _nanoseconds(moments: Sequence[datetime]) -> npt.NDArray[Any]:
    return pd.DatetimeIndex(list(moments)).tz_convert("UTC").to_numpy(dtype="datetime64[ns]")
