"""Reads a whole log for an import: cleans its records into a spool, and counts them by hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import pandas as pd
import pyarrow as pa

from foreshard.errors import CorruptLog
from foreshard.model import ONE_HOUR, hour_floor
from foreshard.observe.batches import RawBatch, batch_times, clean_batch, rows_of
from foreshard.observe.clean import EARLIEST
from foreshard.observe.duplicates import SeenRecords
from foreshard.observe.hiding import Pseudonyms
from foreshard.stages._ports import WithKeyType, WithObserveSettings, WithUserKey
from foreshard.stages.observing.far_hours import far_hours, out_of_range

if TYPE_CHECKING:
    from foreshard.ports.access_logs import RecordSpool

BATCH_RECORDS = 500_000
"""Records of a frame that are cleaned at once."""


class LogReadPorts(WithObserveSettings, WithKeyType, WithUserKey, Protocol):
    """What a record's types, keys and pseudonyms depend on."""


Hours = tuple[datetime | None, datetime | None]
"""The hours to import; None: from the first record on, or up to the last."""


@dataclass
class LogRead:
    """What was found in the log: the accepted records by hour, the bad ones, and the first and the last readable time."""

    counts: Counter[datetime] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    bad: list[pd.DataFrame] = field(default_factory=list)
    records: int = 0
    outside: int = 0
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None
    seen: SeenRecords = field(default_factory=SeenRecords)
    notes: list[str] = field(default_factory=list)

    def leave_out_far_hours(self, spool: RecordSpool, since: datetime | None, until: datetime | None) -> None:
        """Quarantine the few records that lie far from all others, where no range of hours is asked for."""
        early, late = far_hours(self.counts)
        early, late = early if since is None else [], late if until is None else []
        for far in (early, late):
            if far:
                self.bad.append(out_of_range(pa.concat_tables(spool.hours(far))))
        for hour in (*early, *late):
            del self.counts[hour]
        self.first = pd.Timestamp(min(self.counts)) if early else self.first
        self.last = pd.Timestamp(max(self.counts)) if late else self.last


def slices(log: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield a frame in parts of ``BATCH_RECORDS`` rows."""
    for start in range(0, len(log), BATCH_RECORDS):
        yield log.iloc[start : start + BATCH_RECORDS].reset_index(drop=True)


def read_log(ports: LogReadPorts, batches: Iterator[RawBatch], spool: RecordSpool, read: LogRead, span: Hours) -> None:
    """Clean every batch into the spool. Records with a readable time outside ``span`` are only counted."""
    low, high = span[0] or EARLIEST, span[1] or hour_floor(datetime.now(UTC))
    types = ports.observe_settings.request_types.keys()
    pseudonyms = Pseudonyms(ports.require_user_key, types)
    for raw in batches:
        batch = read.seen.without_duplicates(raw)
        times = batch_times(batch)
        read.records += len(times)
        plausible = times[(times >= EARLIEST).to_numpy()]
        if len(plausible):
            read.first = min(plausible.min(), read.first or plausible.min())
            read.last = max(plausible.max(), read.last or plausible.max())
        chosen = (times.isna() | (times < EARLIEST) | ((times >= low) & (times < high))).to_numpy()
        read.outside += len(times) - int(chosen.sum())
        cleaned = pseudonyms.of(clean_batch(rows_of(batch, chosen), low, high, types, ports.key_type))
        spool.add(cleaned.accepted)
        if len(cleaned.quarantined):
            read.bad.append(cleaned.quarantined)
        read.keys.update(cleaned.accepted.column("partitionable_key").unique().to_pylist())
        hours = cleaned.accepted.column("timestamp").to_pandas().dt.floor("h").value_counts()
        read.counts.update({moment.to_pydatetime(): int(count) for moment, count in hours.items()})


def span_of(read: LogRead, since: datetime | None, until: datetime | None, label: str) -> tuple[datetime, datetime]:
    """Return the whole hours to import. Hours that are not over are left out."""
    if read.first is not None and read.last is not None:
        since = since or read.first.to_pydatetime()
        until = until or min(hour_floor(read.last.to_pydatetime()) + ONE_HOUR, hour_floor(datetime.now(UTC)))
    if since is None or until is None:
        raise CorruptLog(label, f"none of its {read.records:,} records has a readable time")
    since, until = hour_floor(since), hour_floor(until)
    if since >= until:
        raise CorruptLog(label, f"it has no closed hour from {since:%Y-%m-%dT%HZ} to {until:%Y-%m-%dT%HZ}")
    return since, until
