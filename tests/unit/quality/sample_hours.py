"""Hours of the bundled bike-share sample, as the gate sees them. The test changes them as bad logs would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

import foreshard.demo
from foreshard.model import ONE_HOUR, HourCounts
from foreshard.observe.batches import accepted_table, coded_texts
from foreshard.observe.clean import clean
from foreshard.observe.facts import facts_of
from foreshard.observe.tally import TALLIED
from foreshard.quality.before import Before
from foreshard.stages.judging.compared import WEEKS_COMPARED, before_of

SAMPLE = Path(foreshard.demo.__file__).parent / "data" / "bikeshare-2014.parquet"
WEIGHTS = {"checkout": 1.0, "return": 2.0}


def counted(hour: datetime, records: pd.DataFrame, source: str = "the sample") -> HourCounts:
    """Return what is known about an hour with these records."""
    coded = coded_texts(accepted_table(records).select(("timestamp", *TALLIED)))
    facts = facts_of([coded], hour, WEIGHTS, source)
    return HourCounts(hour, len(records), int(records["partitionable_key"].nunique()), facts=facts)


@dataclass(frozen=True)
class SampleHours:
    """The records and counts of each hour of some days."""

    records: Mapping[datetime, pd.DataFrame]
    counts: Mapping[datetime, HourCounts]

    @classmethod
    def read(cls, since: datetime, until: datetime) -> SampleHours:
        """Read the hours in [since, until), and what the gate compares them with."""
        first = since - timedelta(weeks=WEEKS_COMPARED)
        frame = pd.read_parquet(SAMPLE)
        times = pd.to_datetime(frame["timestamp"], utc=True)
        made = clean(frame[(times >= first) & (times < until)], first, until, list(WEIGHTS)).accepted.assign(cost=np.nan)
        by_hour = {at.to_pydatetime(): part for at, part in made.groupby(made["timestamp"].dt.floor("h"))}
        hours = [first + n * ONE_HOUR for n in range(int((until - first) / ONE_HOUR))]
        records = {hour: by_hour.get(hour, made[:0]).reset_index(drop=True) for hour in hours}
        return cls(records, {hour: counted(hour, part) for hour, part in records.items()})

    def before(self, hour: datetime) -> Before:
        """Return the hours that the gate compares this one with."""
        return before_of(hour, self.counts)


def at(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2014, month, day, hour, tzinfo=UTC)
