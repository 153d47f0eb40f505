"""Imports the whole history of a log file, as if each of its hours had been observed.

The log is read once, in batches. Its accepted records wait in a file until it is known that enough of them are good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pyarrow as pa

from foreshard.errors import CorruptLog, GateFailed, HourRefused
from foreshard.model import ONE_HOUR, GateResult, HourTally, hour_floor
from foreshard.observe.batches import ACCEPTED, coded_texts
from foreshard.observe.engines import PolarsFrames
from foreshard.observe.facts import facts_of
from foreshard.observe.hours import by_hour, hours_between, in_steps
from foreshard.observe.values import as_times
from foreshard.stages._ports import WithKeyType, WithReadAccessLog, WithUserKey
from foreshard.stages.judging.history import AcceptedBy, HistoryJudge, HistoryJudgePorts
from foreshard.stages.observe import (
    COUNTED,
    UNNAMED,
    TallyPorts,
    TallyRules,
    count_again,
    count_hours,
    counted_hour,
    saved_hour,
)
from foreshard.stages.observing.account import account_of
from foreshard.stages.observing.log_reading import LogRead, read_log, slices, span_of

if TYPE_CHECKING:
    from foreshard.ports.access_logs import LogPlace, RecordSpool

RECORDS_AT_ONCE = 2_000_000
"""The hours of about this many records are sorted and tallied at once."""


class ImportPorts(TallyPorts, HistoryJudgePorts, WithReadAccessLog, WithKeyType, WithUserKey, Protocol):
    """Reads a log file. Writes raw hours, tallies, and the gate's results of hours that it refuses."""


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """The result of importing the hours of [since, until) from a log.

    ``kept`` hours had been counted before and have no record in this log. ``account`` says where each record went: ``outside``
    is not in [since, until), ``reasons`` counts the quarantined ones, and ``duplicates`` are dropped. ``changed`` is by how
    many accepted records the hours have grown. ``refused``: what the gate found in hours that are not counted. ``warnings`` and
    ``notes`` are for people.
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
    duplicates: int = 0
    changed: int = field(default=0, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    account: str = ""
    refused: tuple[GateResult, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportSource:
    """Which source a log is. ``name``: by default its path. ``replace``: also replace hours that other sources gave.

    ``accepted_by``: who accepts the hours that the gate refuses.
    """

    name: str | None = None
    replace: bool = False
    accepted_by: AcceptedBy | None = None


def import_history(
    ports: ImportPorts,
    log: pd.DataFrame | LogPlace,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
    source: ImportSource = ImportSource(),
) -> ImportSummary:
    """Import the closed hours of [since, until), by default all hours of the log, as if each had been observed.

    Each hour is judged by the hours before it. What the gate refuses is saved as a raw hour, and not counted.

    ``progress(done, total)`` gets numbers of hours. Raise :class:`CorruptLog` if no record can be counted, :class:`GateFailed`
    if too many are bad (the quarantine is saved), and :class:`HourRefused` if another source gave one of the hours.
    """
    given = isinstance(log, pd.DataFrame)
    label = "given as a frame" if given else str(log)
    name = source.name or (label if given or isinstance(log, str) else str(Path(label).resolve()))
    read = LogRead()
    batches = slices(log) if isinstance(log, pd.DataFrame) else ports.access_log_tables(log, read.notes.append)
    with ports.raw_hours.spool() as spool:
        read_log(ports, batches, spool, read, (since and hour_floor(since), until and hour_floor(until)))
        read.leave_out_far_hours(spool, since, until)
        since, until = span_of(read, since, until, label)
        bad = pd.concat(read.bad, ignore_index=True) if read.bad else None
        reasons = _require_good(ports, read, bad, (since, until), label)
        saved = set(ports.tallies.hours(since, until)) - set(read.counts)
        hours = [hour for hour in hours_between(since, until) if hour not in saved]
        before = _accepted_before(ports, hours, name, source.replace)
        target = _Target(spool, hours, read.counts, name)
        judge = HistoryJudge.of(ports, hours, source.accepted_by)
        pairs = _save_hours(ports, target, judge, _quarantined(ports, bad, hours, since, until), progress)
        count_again(ports, [hour for hour in (*sorted(saved), until) if hour - ONE_HOUR not in saved])
    refused = sum(read.counts[result.hour] for result in judge.refused)
    accepted, quarantined = sum(read.counts.values()) - refused, 0 if bad is None else len(bad)
    figures = (accepted, quarantined, read.outside, len(read.keys), pairs)
    seen, notes = read.seen.dropped, tuple(read.notes)
    account = account_of(label, read.records + seen, accepted, quarantined, seen, read.outside, refused)
    changed, judged = accepted - before, (tuple(judge.refused), tuple(judge.warnings))
    counted = len(hours) - len(judge.refused)
    return ImportSummary(since, until, counted, len(saved), *figures, reasons, seen, changed, notes, account, *judged)


def _require_good(
    ports: ImportPorts, read: LogRead, bad: pd.DataFrame | None, hours: tuple[datetime, datetime], label: str
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


def _accepted_before(ports: ImportPorts, hours: Sequence[datetime], name: str, replace: bool) -> int:
    """Return the number of accepted records in ``hours`` before the import.

    Raise :class:`HourRefused` if another source gave one of the hours, unless it is to be replaced.
    """
    asked = set(hours)
    counted = [hour for hour in ports.tallies.hours(hours[0], hours[-1] + ONE_HOUR) if hour in asked] if hours else []
    saved = [(hour, saved_hour(ports, hour)) for hour in counted]
    others = [(hour, raw) for hour, raw in saved if raw is None or raw.source != name]
    if others and not replace:
        hour, raw = others[0]
        by = raw.source if raw and raw.source else "a source without a name"
        what = f"was given by {by} ({raw.records:,} records)" if raw else "is counted, and its records are gone"
        more = f", like {len(others) - 1:,} more hours of the import" if len(others) > 1 else ""
        raise HourRefused(
            hour, what + more, f"import all logs of these hours as one folder, or replace them by {name} with --replace"
        )
    return sum(raw.accepted for _, raw in saved if raw)


@dataclass(frozen=True)
class _Target:
    """The hours that are imported, the numbers of their records, where these wait, and the name of their source."""

    spool: RecordSpool
    hours: Sequence[datetime]
    counts: Counter[datetime]
    source: str


def _save_hours(
    ports: ImportPorts,
    target: _Target,
    judge: HistoryJudge,
    quarantined: Iterator[pd.DataFrame],
    progress: Callable[[int, int], None] | None,
) -> int:
    """Save raw hours, and the tallies of those that pass, some hours at a time. Return the number of pairs."""
    hours = target.hours
    if not hours:
        return 0
    before: tuple[datetime, pa.Table] | None = None
    done, pairs, rules = 0, 0, TallyRules.of(ports, hours[0])
    for step in in_steps(hours, target.counts, RECORDS_AT_ONCE):
        tables, bad = list(target.spool.hours(step)), [next(quarantined) for _ in step]
        for hour, table, bad_of_hour in zip(step, tables, bad, strict=True):
            with ports.raw_hours.writer(hour) as writer:
                writer.add(table, bad_of_hour)
                writer.keep(target.source)
        seen = before[1] if before and before[0] == step[0] - ONE_HOUR else _saved(ports, step[0] - ONE_HOUR)
        counted = zip(_counted(rules, step, tables, seen, target.source), bad, strict=True)
        tallies = [tally for tally, its in counted if judge.passes(tally, Counter(its["reason"]) if len(its) else {})]
        before = step[-1], tables[-1]
        ports.tallies.save(tallies)
        done, pairs = done + len(step), pairs + sum(len(tally.co_access) for tally in tallies)
        if progress:
            progress(done, len(hours))
    again = judge.second_look(partial(counted_hour, ports))
    ports.tallies.save(again)
    return pairs + sum(len(tally.co_access) for tally in again)


def _counted(
    rules: TallyRules, hours: Sequence[datetime], tables: Sequence[pa.Table], seen: pa.Table | None, source: str
) -> list[HourTally]:
    engine = PolarsFrames()
    facts = [facts_of([coded_texts(table)], hour, rules.weights, source) for hour, table in zip(hours, tables, strict=True)]
    records = pa.concat_tables([*([] if seen is None else [seen]), *tables]).select(COUNTED)
    counted = count_hours(engine, rules, hours, engine.coded(records, UNNAMED))
    return [HourTally(one.hour, one.key_load, one.co_access, its) for one, its in zip(counted, facts, strict=True)]


def _saved(ports: ImportPorts, hour: datetime) -> pa.Table | None:
    if not saved_hour(ports, hour):
        return None
    tables = [ACCEPTED.empty_table(), *(table.cast(ACCEPTED) for table in ports.raw_hours.batches(hour, ACCEPTED.names))]
    return pa.concat_tables(tables)


def _quarantined(
    ports: ImportPorts, bad: pd.DataFrame | None, hours: Sequence[datetime], since: datetime, until: datetime
) -> Iterator[pd.DataFrame]:
    """Yield each hour's quarantined records. Those of no hour are saved under the name of the import."""
    if bad is None:
        for _ in hours:
            yield pd.DataFrame()
        return
    times = as_times(bad["timestamp"])
    lost = ~times.dt.floor("h").isin(list(hours)).to_numpy()
    if lost.any():
        ports.raw_hours.set_aside(f"import-{since:%Y%m%dT%H}-{until:%Y%m%dT%H}", bad[lost])
    timed: Any = bad.assign(at=times)[~lost].sort_values("at", kind="stable", ignore_index=True)
    yield from by_hour(timed.drop(columns="at"), timed["at"], hours)
