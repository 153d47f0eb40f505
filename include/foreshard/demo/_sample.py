"""The sample log: a year of Bay Area Bike Share trips (CC0), shifted by whole weeks so that it ends with the closing hour.

The shift keeps weekdays and hours, and puts the end into the last full week of 2014 without a public holiday before it (14 to
21 November). The original log has check-outs and returns only. The example app also looks stations up before each of them, so
the log has simulated ``read`` records (``lookups`` per access) and the trip's ``insert``. Every second lookup of a San
Francisco railway station comes from a traveller further down the line; these are simulated too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files

import numpy as np
import pandas as pd

LATEST_END = datetime(2014, 11, 21, tzinfo=UTC)
ONE_WEEK = timedelta(weeks=1)
SEED = 20141121
RAILWAY_STATIONS = frozenset({"San Francisco Caltrain (Townsend at 4th)", "San Francisco Caltrain 2 (330 Townsend)"})
DOWN_THE_LINE = ("Redwood City", "San Jose")


@dataclass(frozen=True)
class Sample:
    """The shifted sample: ``accesses`` (check-outs and returns), ``trips`` and ``stations``, ending at ``end``."""

    accesses: pd.DataFrame
    trips: pd.DataFrame
    stations: pd.DataFrame
    end: datetime


def whole_weeks(end: datetime) -> timedelta:
    """Return the shift by whole weeks that brings ``end`` into the week before ``LATEST_END``."""
    return -((LATEST_END - end) // ONE_WEEK) * ONE_WEEK


def load_sample(end: datetime, riders: int = 1, ahead: timedelta = timedelta(0)) -> Sample:
    """Return the sample as if it ended at ``end``. Each rider counts ``riders`` times, under different names.

    ``ahead`` also includes that much of the time after ``end``. Accesses have the standard columns. The original log gives
    minutes, so the times are spread over the minute.
    """
    folder = files("foreshard.demo") / "data"
    original = pd.read_parquet(str(folder / "bikeshare-2014.parquet"))
    shift = whole_weeks(end)
    original["timestamp"] = original["timestamp"] + shift
    original = original[original["timestamp"] < end + ahead]
    accesses = _multiply(original, riders)
    random = np.random.default_rng(SEED)
    accesses["timestamp"] += pd.to_timedelta(random.integers(0, 59_000, len(accesses)), unit="ms")
    accesses = accesses.sort_values("timestamp", kind="stable", ignore_index=True)
    stations = pd.read_csv(str(folder / "bikeshare-2014-stations.csv"))
    return Sample(accesses, _trips(accesses), stations, end)


def with_lookups(accesses: pd.DataFrame, lookups: int) -> pd.DataFrame:
    """Return the example app's access log: ``lookups`` reads of the station before each access, an insert after a check-out.

    A lookup is in the same hour as its access, so the hours stay the same.
    """
    hour = accesses["timestamp"].dt.floor("h")
    travelled_to = accesses["partitionable_key"].isin(RAILWAY_STATIONS)
    reads = [
        accesses.assign(
            timestamp=np.maximum(accesses["timestamp"] - pd.Timedelta(seconds=5 * (n + 1)), hour),
            request_type="read",
            location=accesses["location"].mask(travelled_to, accesses["location"].map(partial(_from, number=n))),
        )
        for n in range(lookups)
    ]
    inserts = accesses[accesses["request_type"] == "checkout"].assign(request_type="insert")
    return pd.concat([*reads, accesses, inserts]).sort_values("timestamp", kind="stable", ignore_index=True)


def lookup_city(station: str, city: str, number: int) -> str:
    """Return where lookup ``number`` of ``station`` comes from: the ride's own city, or one down the line."""
    return _from(city, number) if station in RAILWAY_STATIONS else city


def _from(city: str, number: int) -> str:
    return DOWN_THE_LINE[number // 2 % len(DOWN_THE_LINE)] if number % 2 else city


def _multiply(original: pd.DataFrame, riders: int) -> pd.DataFrame:
    copies = [
        original.assign(
            user_id=original["user_id"].astype(str) + (f"/{n}" if n else ""),
            session_id=original["session_id"].astype(str) + (f"/{n}" if n else ""),
        )
        for n in range(riders)
    ]
    return pd.concat(copies, ignore_index=True)


def _trips(accesses: pd.DataFrame) -> pd.DataFrame:
    """Return one row per trip whose check-out is in the log: session, and station and time of start and end."""
    starts = accesses[accesses["request_type"] == "checkout"].drop_duplicates("session_id").set_index("session_id")
    ends = accesses[accesses["request_type"] == "return"].drop_duplicates("session_id").set_index("session_id")
    return pd.DataFrame(
        {
            "station": starts["partitionable_key"],
            "started_at": starts["timestamp"],
            "end_station": ends["partitionable_key"].reindex(starts.index),
            "ended_at": ends["timestamp"].reindex(starts.index),
        }
    )
