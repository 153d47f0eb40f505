"""Imports the whole history of a log file, as if each of its hours had been observed.

The log is read once, in batches. Its accepted records wait in a file until it is known that enough of them are good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pyarrow as pa

from foreshard.errors import CorruptLog, GateFailed
from foreshard.model import ONE_HOUR, HourTally, hour_floor
from foreshard.observe.batches import ACCEPTED, Pseudonyms, RawBatch, batch_times, clean_batch, rows_of
from foreshard.observe.hours import by_hour, hours_between
from foreshard.observe.values import as_times
from foreshard.stages._ports import WithKeyType, WithReadAccessLog, WithUserKey
from foreshard.stages.observe import TallyPorts, TallyRules, count_hour, saved_hour

if TYPE_CHECKING:
    from foreshard.ports.stages import RecordSpool

RECORDS_AT_ONCE = 2_000_000
"""The hours of about this many records are sorted and tallied at once."""
BATCH_RECORDS = 500_000


class ImportPorts(TallyPorts, WithReadAccessLog, WithKeyType, WithUserKey, Protocol):
    """Reads a log file. Writes raw hours and tallies."""


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """The result of importing the hours of [since, until) from a log.

    ``kept`` hours had been counted before and have no record in this log. ``outside`` is the number of records outside
    [since, until). ``reasons`` counts the quarantined records by reason.
    """

    since: datetime
    until: datetime
    hours: int
    kept: int
    accepted: int
    quarantined: int
    outside: int
    keys: int
    pairs: int
    reasons: dict[str, int]


def import_history(
    ports: ImportPorts,
    log: pd.DataFrame | Path,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Import the closed hours of [since, until), by default all hours of the log, as if each had been observed.

    ``progress(done, total)`` is called with numbers of hours. Raise :class:`CorruptLog` if no record can be counted, and
    :class:`GateFailed` if more than the allowed share is bad: then the quarantine is saved and nothing is imported.
    """
    label = "given as a frame" if isinstance(log, pd.DataFrame) else str(log)
    batches = _slices(log) if isinstance(log, pd.DataFrame) else ports.access_log_tables(log)
    with ports.raw_hours.spool() as spool:
        read = _Read()
        _read_all(ports, batches, spool, read, (since and hour_floor(since), until and hour_floor(until)))
        since, until = _span(read, since, until, label)
        bad = pd.concat(read.bad, ignore_index=True) if read.bad else None
        reasons = _require_good(ports, read, bad, (since, until), label)
        saved = set(ports.tallies.hours(since, until)) - set(read.counts)
        hours = [hour for hour in hours_between(since, until) if hour not in saved]
        pairs = _save_hours(ports, spool, hours, read.counts, _quarantined(ports, bad, hours, since, until), progress)
    accepted, quarantined = sum(read.counts.values()), 0 if bad is None else len(bad)
    return ImportSummary(
        since, until, len(hours), len(saved), accepted, quarantined, read.outside, len(read.keys), pairs, reasons
    )


_Hours = tuple[datetime | None, datetime | None]
"""The hours to import; None: from the first record on, or up to the last."""


@dataclass
class _Read:
    """What was found in the log: the accepted records by hour, the bad ones, and the first and the last readable time."""

    counts: Counter[datetime] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    bad: list[pd.DataFrame] = field(default_factory=list)
    records: int = 0
    outside: int = 0
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None


def _slices(log: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for start in range(0, len(log), BATCH_RECORDS):
        yield log.iloc[start : start + BATCH_RECORDS].reset_index(drop=True)


def _read_all(ports: ImportPorts, batches: Iterator[RawBatch], spool: RecordSpool, read: _Read, span: _Hours) -> None:
    """Clean every batch into the spool. Records with a readable time outside ``span`` are only counted."""
    low = span[0] or pd.Timestamp.min.ceil("h").tz_localize("UTC").to_pydatetime()
    high = span[1] or hour_floor(datetime.now(UTC))
    types, pseudonyms = ports.observe_settings.request_types.keys(), Pseudonyms(ports.require_user_key)
    for batch in batches:
        times = batch_times(batch)
        read.records += len(times)
        if times.notna().any():
            read.first = min(times.min(), read.first or times.min())
            read.last = max(times.max(), read.last or times.max())
        chosen = (times.isna() | ((times >= low) & (times < high))).to_numpy()
        read.outside += len(times) - int(chosen.sum())
        cleaned = pseudonyms.of(clean_batch(rows_of(batch, chosen), low, high, types, ports.key_type))
        spool.add(cleaned.accepted)
        if len(cleaned.quarantined):
            read.bad.append(cleaned.quarantined)
        read.keys.update(cleaned.accepted.column("partitionable_key").unique().to_pylist())
        hours = cleaned.accepted.column("timestamp").to_pandas().dt.floor("h").value_counts()
        read.counts.update({moment.to_pydatetime(): int(count) for moment, count in hours.items()})


def _span(read: _Read, since: datetime | None, until: datetime | None, label: str) -> tuple[datetime, datetime]:
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


def _require_good(
    ports: ImportPorts, read: _Read, bad: pd.DataFrame | None, hours: tuple[datetime, datetime], label: str
) -> dict[str, int]:
    """Return the numbers of bad records by reason.

    Raise an error if no record, or too small a share, can be counted. The bad records are kept in the quarantine.
    """
    since, until = hours
    reasons = {} if bad is None else dict(Counter(bad["reason"]))
    accepted, number = sum(read.counts.values()), 0 if bad is None else len(bad)
    limit = ports.observe_settings.maximum_quarantined_share
    if accepted and number <= limit * (accepted + number):
        return reasons
    name = f"refused-{since:%Y%m%dT%H}-{until:%Y%m%dT%H}"
    path = None if bad is None else ports.raw_hours.set_aside(name, bad)
    found = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items())) or "no records"
    if not accepted:
        raise CorruptLog(label, f"none of its {number:,} records from {since:%Y-%m-%dT%HZ} on can be counted ({found})")
    share = f"quarantined share {number / (accepted + number):.4g} > {limit:g}"
    line = f"{share} ({number:,} of {accepted + number:,} records: {found}); see {path}"
    raise GateFailed("access_log", f"{label}, {since:%Y-%m-%dT%HZ} to {until:%Y-%m-%dT%HZ}", (line,))


def _save_hours(
    ports: ImportPorts,
    spool: RecordSpool,
    hours: Sequence[datetime],
    counts: Counter[datetime],
    quarantined: Iterator[pd.DataFrame],
    progress: Callable[[int, int], None] | None,
) -> int:
    """Save raw hours and tallies, some hours at a time. Return the number of pairs."""
    if not hours:
        return 0
    rules = TallyRules.of(ports, hours[0])
    before: tuple[datetime, pa.Table] | None = None
    done = pairs = 0
    for step in _steps(hours, counts):
        tallies: list[HourTally] = []
        for hour, table in zip(step, spool.hours(step), strict=True):
            with ports.raw_hours.writer(hour) as writer:
                writer.add(table, next(quarantined))
                writer.keep()
            seen = before[1] if before and before[0] == hour - ONE_HOUR else _saved(ports, hour - ONE_HOUR)
            tallies.append(count_hour(rules, hour, table, seen))
            before = hour, table
        ports.tallies.save(tallies)
        done, pairs = done + len(step), pairs + sum(len(tally.co_access) for tally in tallies)
        if progress:
            progress(done, len(hours))
    return pairs


def _steps(hours: Sequence[datetime], counts: Counter[datetime]) -> Iterator[list[datetime]]:
    """Yield the hours in steps of at most 24 hours and about ``RECORDS_AT_ONCE`` records."""
    step: list[datetime] = []
    records = 0
    for hour in hours:
        if step and (len(step) == 24 or records + counts[hour] > RECORDS_AT_ONCE):
            yield step
            step, records = [], 0
        step.append(hour)
        records += counts[hour]
    if step:
        yield step


def _saved(ports: ImportPorts, hour: datetime) -> pa.Table | None:
    return ports.raw_hours.columns(hour, ACCEPTED.names) if saved_hour(ports, hour) else None


def _quarantined(
    ports: ImportPorts, bad: pd.DataFrame | None, hours: Sequence[datetime], since: datetime, until: datetime
) -> Iterator[pd.DataFrame]:
    """Yield each hour's quarantined records. Those without a time are saved under the name of the import."""
    if bad is None:
        for _ in hours:
            yield pd.DataFrame()
        return
    times = as_times(bad["timestamp"])
    timeless = times.isna().to_numpy()
    if timeless.any():
        ports.raw_hours.set_aside(f"import-{since:%Y%m%dT%H}-{until:%Y%m%dT%H}", bad[timeless])
    timed: Any = bad.assign(at=times)[~timeless].sort_values("at", kind="stable", ignore_index=True)
    yield from by_hour(timed.drop(columns="at"), timed["at"], hours)
