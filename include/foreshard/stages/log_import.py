"""Imports the whole history of a log file, as if each of its hours had been observed.

The log is read once, in batches. Its records wait in files until it is known that enough of them are good. So memory does not
grow with the log, but for a few bytes for each key, hour and record id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from foreshard.errors import CorruptLog, GateFailed, HourRefused
from foreshard.model import ONE_HOUR, GateResult, hour_floor
from foreshard.observe.hours import hours_between
from foreshard.stages._ports import WithKeyType, WithReadAccessLog, WithUserKey
from foreshard.stages.judging.history import AcceptedBy, HistoryJudge
from foreshard.stages.observe import count_again, saved_hour
from foreshard.stages.observing.account import account_of
from foreshard.stages.observing.import_hours import ReadHours, SavePorts, save_hours
from foreshard.stages.observing.log_reading import LogRead, read_log, slices, span_of

if TYPE_CHECKING:
    from foreshard.ports.access_logs import LogPlace, RecordSpool


class ImportPorts(SavePorts, WithReadAccessLog, WithKeyType, WithUserKey, Protocol):
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
        reasons = _require_good(ports, read, spool, (since, until), label)
        saved = set(ports.tallies.hours(since, until)) - set(read.counts)
        hours = [hour for hour in hours_between(since, until) if hour not in saved]
        before = _accepted_before(ports, hours, name, source.replace)
        _set_aside_others(ports, read, spool, hours, (since, until))
        judge = HistoryJudge.of(ports, hours, source.accepted_by)
        pairs = save_hours(ports, ReadHours(spool, hours, read, name), judge, progress)
        count_again(ports, [hour for hour in (*sorted(saved), until) if hour - ONE_HOUR not in saved])
    refused = sum(read.counts[result.hour] for result in judge.refused)
    accepted, quarantined = sum(read.counts.values()) - refused, sum(reasons.values())
    figures = (accepted, quarantined, read.outside, len(read.keys), pairs)
    seen, notes = read.seen.dropped, tuple(read.notes)
    account = account_of(label, read.records + seen, accepted, quarantined, seen, read.outside, refused)
    changed, judged = accepted - before, (tuple(judge.refused), tuple(judge.warnings))
    counted = len(hours) - len(judge.refused)
    return ImportSummary(since, until, counted, len(saved), *figures, reasons, seen, changed, notes, account, *judged)


def _require_good(
    ports: ImportPorts, read: LogRead, spool: RecordSpool, hours: tuple[datetime, datetime], label: str
) -> dict[str, int]:
    """Return the numbers of bad records by reason.

    Raise an error if no record, or too small a share, can be counted. The bad records are kept in the quarantine.
    """
    since, until = hours
    reasons = dict(read.reasons_of())
    accepted, number = sum(read.counts.values()), sum(reasons.values())
    limit = ports.observe_settings.maximum_quarantined_share
    if accepted and number <= limit * (accepted + number):
        return reasons
    name = f"refused-{since:%Y%m%dT%H}-{until:%Y%m%dT%H}"
    path = ports.raw_hours.set_aside(name, spool.quarantined_besides(())) if number else None
    found = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items())) or "no records"
    if not accepted:
        raise CorruptLog(label, f"none of its {number:,} records from {since:%Y-%m-%dT%HZ} on can be counted ({found})")
    share = f"quarantined share {number / (accepted + number):.4g} > {limit:g}"
    line = f"{share} ({number:,} of {accepted + number:,} records: {found}); see {path}"
    raise GateFailed("access_log", f"{label}, {since:%Y-%m-%dT%HZ} to {until:%Y-%m-%dT%HZ}", (line,))


def _set_aside_others(
    ports: ImportPorts, read: LogRead, spool: RecordSpool, hours: Sequence[datetime], span: tuple[datetime, datetime]
) -> None:
    """Save the quarantined records that belong to none of ``hours`` under the name of the import."""
    if read.reasons.keys() - set(hours):
        label = f"import-{span[0]:%Y%m%dT%H}-{span[1]:%Y%m%dT%H}"
        ports.raw_hours.set_aside(label, spool.quarantined_besides(hours))


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
