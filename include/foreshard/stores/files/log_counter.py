"""Counts an access log in one file (Parquet, CSV or JSON lines) by hour, key and location, without a database."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.model import hour_floor
from foreshard.ports.stages import CountedLog

_NEEDED = ("timestamp", "partitionable_key", "request_type")
_WANTED = (*_NEEDED, "location", "cost")
_TEXT: dict[Hashable, type[str]] = {"partitionable_key": str, "location": str}
_ASSUMED_COST = 1.0
"""The cost of an access whose request type has no weight and whose record has no cost. The lab uses it too."""


class LogFileCounter:
    """Implements :class:`foreshard.ports.stages.LogCounter`. ``weights`` are the costs of the request types."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)

    def count(self, path: Path) -> CountedLog:
        return count_log(path, self._weights)


def count_log(path: Path, weights: Mapping[str, float], now: datetime | None = None) -> CountedLog:
    """Count a log. A record costs its own ``cost`` if it has one, else the weight of its request type, else 1.

    Records without a key or a readable time, from the future, or with a negative cost are left out and counted. Raise
    :class:`foreshard.errors.CorruptLog` if the file cannot be read or contains nothing to count.
    """
    frame = _read(path)
    moments = pd.to_datetime(frame["timestamp"], utc=True, errors="coerce", format=_time_format(frame["timestamp"]))
    weight = frame["request_type"].map(dict(weights)).astype("float64")
    unweighed = weight.isna()
    given = pd.to_numeric(frame["cost"], errors="coerce") if "cost" in frame else pd.Series(np.nan, index=frame.index)
    cost = given.fillna(weight).fillna(_ASSUMED_COST)
    keyless = frame["partitionable_key"].isna() | (frame["partitionable_key"] == "")
    future = moments > pd.Timestamp((now or datetime.now(UTC)) + timedelta(hours=1))
    costless = ~np.isfinite(cost) | (cost < 0)
    good = ~(keyless | moments.isna() | future | costless)
    if not good.any():
        raise CorruptLog(str(path), f"none of its {len(frame)} records can be counted")
    location = frame["location"] if "location" in frame else pd.Series(None, index=frame.index, dtype=object)
    rows = pd.DataFrame(
        {
            "hour": moments[good].dt.floor("h"),
            "partitionable_key": frame.loc[good, "partitionable_key"].astype(str),
            "location": location[good].fillna("").astype(str),
            "cost": cost[good],
        }
    )
    load = rows.groupby(["hour", "partitionable_key", "location"], sort=True, observed=True)["cost"].sum().reset_index()
    reasons = {"no key": keyless, "no readable time": moments.isna(), "in the future": future, "no cost": costless}
    left_out = {reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()}
    assumed = frame.loc[good & unweighed & given.isna(), "request_type"].astype(str).value_counts()
    first, last = hour_floor(load["hour"].iloc[0]), hour_floor(load["hour"].iloc[-1])
    return CountedLog(load, first, last, left_out, {str(name): int(count) for name, count in assumed.items()})


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise CorruptLog(str(path), "no such file")
    try:
        if path.name.endswith((".jsonl", ".ndjson", ".jsonl.gz")):
            frame = pd.read_json(path, lines=True, dtype=_TEXT, convert_dates=False)
        elif path.name.endswith((".csv", ".csv.gz")):
            frame = pd.read_csv(path, usecols=lambda name: name in _WANTED, dtype=_TEXT)
        else:
            import pyarrow.parquet as pq

            names = set(pq.read_schema(path).names)
            frame = pd.read_parquet(path, columns=[name for name in _WANTED if name in names])
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise CorruptLog(str(path), f"not readable as {path.suffix or 'Parquet'} ({type(error).__name__})") from error
    absent = [name for name in _NEEDED if name not in frame]
    if absent:
        raise CorruptLog(str(path), f"lacks the column{'s' * (len(absent) > 1)} {', '.join(absent)}")
    return frame


def _time_format(column: pd.Series[str]) -> str | None:
    """Text may mix ISO formats. Numbers and timestamps need no format."""
    return "ISO8601" if column.dtype == object else None
