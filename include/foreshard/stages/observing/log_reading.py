"""Reads a whole log for an import: cleans its records into a spool, and counts them by hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.model import ONE_HOUR, hour_floor
from foreshard.observe.batches import RawBatch, batch_times, clean_batch, rows_of
from foreshard.observe.clean import EARLIEST
from foreshard.observe.duplicates import SeenHashes, SeenRecords
from foreshard.observe.hiding import Pseudonyms
from foreshard.observe.values import as_times
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
    """What was found in the log: numbers of records by hour, and the first and the last readable time.

    ``counts``: the accepted records. ``reasons``: the quarantined ones by reason; those of the hour None have no readable time.
    ``keys``: their hashes. Memory holds 8 bytes for each key and each record id, and a few for each hour.
    """

    counts: Counter[datetime] = field(default_factory=Counter)
    reasons: dict[datetime | None, Counter[str]] = field(default_factory=dict)
    keys: SeenHashes = field(default_factory=SeenHashes)
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
            for table in spool.hours(far) if far else ():
                self.quarantine(spool, out_of_range(table))
        for hour in (*early, *late):
            del self.counts[hour]
        self.first = pd.Timestamp(min(self.counts)) if early else self.first
        self.last = pd.Timestamp(max(self.counts)) if late else self.last

    def quarantine(self, spool: RecordSpool, bad: pd.DataFrame) -> None:
        """Count quarantined records, and put them into the spool."""
        if not len(bad):
            return
        times = as_times(bad["timestamp"]).dt.floor("h")
        hours = [None if pd.isna(at) else at.to_pydatetime() for at in times]
        for hour, reason in zip(hours, bad["reason"], strict=True):
            self.reasons.setdefault(hour, Counter())[reason] += 1
        spool.add_quarantined(bad, hours)

    def reasons_of(self, hours: Iterable[datetime | None] | None = None) -> Counter[str]:
        """Return the numbers of quarantined records of ``hours`` by reason; None: of the whole log."""
        chosen = self.reasons.values() if hours is None else (self.reasons.get(hour, Counter()) for hour in hours)
        return sum(chosen, Counter())


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
        read.quarantine(spool, cleaned.quarantined)
        keys = cleaned.accepted.column("partitionable_key").unique().to_numpy(zero_copy_only=False)
        read.keys.add(pd.util.hash_array(keys, categorize=False))
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
