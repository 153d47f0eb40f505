"""The history that score and plan stand on, read once, a day at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from foreshard.model import ONE_HOUR, SECONDS_PER_HOUR
from foreshard.plan.past_hours import PastHours, as_if_grown, past_every

if TYPE_CHECKING:
    from foreshard.wiring import Wiring

ONE_DAY = timedelta(days=1)
DAYS_PER_WEEK = 7


class HistoryDays:
    """Iterates over the days of key load that end with ``hour``; what it has gathered is whole once that is done.

    ``week_peak``: the highest hourly total of the last week. ``past`` (K, S): what each of ``keys`` cost in every
    so manieth hour (``past_every``), from the last one backwards, as if at the last week's level (``as_if_grown``); hours
    before the first that has any load are left out (None: there is none).
    """

    def __init__(self, wiring: Wiring, hour: datetime, keys: Sequence[str]) -> None:
        self._wiring, self._until, self._row = wiring, hour + ONE_HOUR, pd.Index(list(keys))
        self._days = wiring.settings.forecast.history_days
        self._every = past_every(len(keys))
        self._past = np.zeros((len(keys), -(-self._days * 24 // self._every)), np.float32)
        self._oldest = -1
        self.week_peak = 0.0

    @property
    def past(self) -> PastHours | None:
        """See above."""
        if self._oldest < 0:
            return None
        return PastHours(as_if_grown(np.ascontiguousarray(self._past[:, : self._oldest + 1][:, ::-1]), self._every))

    def __iter__(self) -> Iterator[pd.DataFrame]:
        for day in range(self._days, 0, -1):
            loads = self._wiring.tallies.key_load(self._until - day * ONE_DAY, self._until - (day - 1) * ONE_DAY)
            if len(loads):
                self._gather(loads)
                if day <= DAYS_PER_WEEK:
                    self.week_peak = max(self.week_peak, float(loads.groupby("hour")["cost"].sum().max()))
            yield loads

    def _gather(self, loads: pd.DataFrame) -> None:
        """Column n of the past is the hour that began n × ``past_every`` + 1 hours before the end."""
        seconds = (pd.DatetimeIndex(loads["hour"]) - pd.Timestamp(self._until)).total_seconds().to_numpy(np.float64)
        age = (-seconds // SECONDS_PER_HOUR).astype(np.int64) - 1
        row = self._row.get_indexer(pd.Index(loads["partitionable_key"].tolist())).astype(np.int64)
        self._oldest = max(self._oldest, int(age.max()) // self._every)
        kept = (age % self._every == 0) & (row >= 0)
        np.add.at(self._past, (row[kept], age[kept] // self._every), loads["cost"].to_numpy(np.float32)[kept])
