"""Saves the hours of a log that was read for an import: raw hours, and the tallies of those that the gate lets pass.

Hours of few records are sorted and counted in memory, some at a time. An hour of many records goes from file to file and is
counted there, like an hour that is observed. Both ways give the same tallies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pandas as pd
import pyarrow as pa

from foreshard.model import ONE_HOUR, HourTally
from foreshard.observe.batches import ACCEPTED, coded_texts
from foreshard.observe.engines import PolarsFrames
from foreshard.observe.facts import facts_of
from foreshard.observe.hours import in_steps
from foreshard.stages.judging.history import HistoryJudge, HistoryJudgePorts
from foreshard.stages.observe import COUNTED, UNNAMED, TallyPorts, TallyRules, count_hours, counted_hour, saved_hour

if TYPE_CHECKING:
    from foreshard.ports.access_logs import RecordSpool
    from foreshard.stages.observing.log_reading import LogRead

RECORDS_AT_ONCE = 2_000_000
"""Hours of up to about this many records are sorted and counted in memory at once. An hour of more is not held in memory."""


class SavePorts(TallyPorts, HistoryJudgePorts, Protocol):
    """Writes raw hours, tallies, and the gate's results of hours that it refuses."""


@dataclass(frozen=True)
class ReadHours:
    """The hours that are imported, what was read of them, where their records wait, and the name of their source."""

    spool: RecordSpool
    hours: Sequence[datetime]
    read: LogRead
    source: str


def save_hours(
    ports: SavePorts, target: ReadHours, judge: HistoryJudge, progress: Callable[[int, int], None] | None = None
) -> int:
    """Save raw hours, and the tallies of those that pass. Return the number of pairs."""
    if not target.hours:
        return 0
    before: tuple[datetime, pa.Table] | None = None
    done, pairs, rules = 0, 0, TallyRules.of(ports, target.hours[0])
    for step in in_steps(target.hours, target.read.counts, RECORDS_AT_ONCE):
        for hours, is_large in _by_size(ports, target, step):
            if is_large:
                (hour,) = hours
                _write(ports, target, hours, ((hour, table) for table in target.spool.batches(hour)))
                made, before = [counted_hour(ports, hour, rules)], None
            else:
                tables = list(target.spool.hours(hours))
                _write(ports, target, hours, zip(hours, tables, strict=True))
                seen = before[1] if before and before[0] == hours[0] - ONE_HOUR else _saved(ports, hours[0] - ONE_HOUR)
                made, before = _counted(rules, hours, tables, seen, target.source), (hours[-1], tables[-1])
            tallies = [tally for tally in made if judge.passes(tally, target.read.reasons_of([tally.hour]))]
            ports.tallies.save(tallies)
            done, pairs = done + len(hours), pairs + sum(len(tally.co_access) for tally in tallies)
        if progress:
            progress(done, len(target.hours))
    again = judge.second_look(partial(counted_hour, ports, rules=rules))
    ports.tallies.save(again)
    return pairs + sum(len(tally.co_access) for tally in again)


def _by_size(ports: SavePorts, target: ReadHours, step: list[datetime]) -> Iterator[tuple[list[datetime], bool]]:
    """Yield the hours of a step, and whether one is counted from its file: it is large, or the hour before it is.

    A large hour is a step by itself. The hour behind it sees its sessions, which may be as many.
    """
    counts, first = target.read.counts, step[0]
    raw = saved_hour(ports, first - ONE_HOUR)
    if max(counts[first], raw.accepted if raw else 0) <= RECORDS_AT_ONCE:
        yield step, False
        return
    yield [first], True
    if step[1:]:
        yield step[1:], False


def _write(
    ports: SavePorts, target: ReadHours, hours: Sequence[datetime], accepted: Iterable[tuple[datetime, pa.Table]]
) -> None:
    """Write the raw hours."""
    none, nothing = ACCEPTED.empty_table(), pd.DataFrame()
    with ExitStack() as stack:
        writers = {hour: stack.enter_context(ports.raw_hours.writer(hour)) for hour in hours}
        for hour, table in accepted:
            writers[hour].add(table, nothing)
        if any(hour in target.read.reasons for hour in hours):
            for hour, bad in target.spool.quarantined(hours):
                writers[hour].add(none, bad)
        for writer in writers.values():
            writer.keep(target.source)


def _counted(
    rules: TallyRules, hours: Sequence[datetime], tables: Sequence[pa.Table], seen: pa.Table | None, source: str
) -> list[HourTally]:
    engine = PolarsFrames()
    facts = [facts_of([coded_texts(table)], hour, rules.weights, source) for hour, table in zip(hours, tables, strict=True)]
    records = pa.concat_tables([*([] if seen is None else [seen]), *tables]).select(COUNTED)
    counted = count_hours(engine, rules, hours, engine.coded(records, UNNAMED))
    return [one.with_facts(its) for one, its in zip(counted, facts, strict=True)]


def _saved(ports: SavePorts, hour: datetime) -> pa.Table | None:
    if not saved_hour(ports, hour):
        return None
    tables = [ACCEPTED.empty_table(), *(table.cast(ACCEPTED) for table in ports.raw_hours.batches(hour, ACCEPTED.names))]
    return pa.concat_tables(tables)
