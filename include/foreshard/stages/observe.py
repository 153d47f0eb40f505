"""The observe stage: access log → raw hour → tally, for one hour. Its gate is in :mod:`foreshard.stages.observing.gate`.

Records are worked on in batches and as columns. Memory holds a few bytes for each record of the hour.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import narwhals as nw
import pandas as pd
import pyarrow as pa

from foreshard.errors import HourRefused, MissingStageResult
from foreshard.model import HOURS_PER_DAY, ONE_HOUR, HourFacts, HourTally
from foreshard.observe.engines import CODE, MOMENT, NAME, CodedRecords, FrameEngine, LazyRecords
from foreshard.observe.facts import facts_of
from foreshard.observe.hours import by_hour
from foreshard.observe.pairs.co_access import CoAccessRules, pairs_of
from foreshard.observe.reading import HourReader, HourRules, RecordCleaner
from foreshard.observe.tally import CELL_TEXTS, TALLIED, tally
from foreshard.observe.units import key_costs
from foreshard.ports.access_logs import AccessLogSource, RawHour, RawHourStore, RawHourWriter
from foreshard.stages._ports import (
    WithAccessLog,
    WithEngine,
    WithForecastSettings,
    WithKeyType,
    WithObserveSettings,
    WithRawHours,
    WithSeries,
    WithTallies,
    WithUserKey,
)
from foreshard.stages.observing.account import account_of
from foreshard.stages.units import UnitChoice, UnitPorts, unit_choice

COUNTED = ("timestamp", "partitionable_key", "user_id", "request_type", "location", "session_id", "cost")
"""The columns of records that are counted."""
UNNAMED = ("session_id",)
"""Those of them that are only compared."""
LOOKED_AT = ("timestamp", *TALLIED)
"""The columns of records that the facts about an hour come from."""


class ExtractPorts(WithAccessLog, WithObserveSettings, WithRawHours, WithKeyType, WithUserKey, Protocol):
    """Reads the access log. Writes the raw hour."""

    @property
    def hour_reader(self) -> HourReader | None:
        """What reads hours on a cluster; None if they are read in this process."""


class TallyPorts(UnitPorts, WithEngine, WithRawHours, WithTallies, WithSeries, WithForecastSettings, Protocol):
    """Reads raw hours, and the units of the newest history. Writes the tally."""


@dataclass(frozen=True, slots=True)
class TallySummary:
    """The totals of an hour's tally. ``account`` says where each record that was read went."""

    hour: datetime
    accesses: int
    cost: float
    keys: int
    pairs: int
    account: str


def extract_hour(ports: ExtractPorts, hour: datetime, replace: bool = False) -> RawHour:
    """Read an hour of the access log, quarantine bad records, pseudonymise both, and save them.

    The hour is replaced by what its source gives now. It is kept if another source gave it (``replace``: replace it then too),
    or if the source has deleted a part of it. The result's notes say so. Raise :class:`foreshard.errors.HourRefused` if another
    source gave it, and this one has more records.
    """
    source, saved = ports.access_log, saved_hour(ports, hour)
    notes: list[str] = []
    with ports.raw_hours.writer(hour) as writer:
        duplicates = _read(ports, hour, writer, notes.append)
        found = writer.records + duplicates
        kept = None if saved is None or replace else _why_kept(saved, source, found)
        if saved and kept:
            return dataclasses.replace(saved, notes=(*notes, kept))
        made = writer.keep(source.name, duplicates)
    if saved and saved.records != made.records:
        notes.append(
            f"replaces {saved.records:,} records ({made.records - saved.records:+,}); the old file is kept in replaced/"
        )
    return dataclasses.replace(made, before=saved.records if saved else None, notes=tuple(notes))


def _read(ports: ExtractPorts, hour: datetime, writer: RawHourWriter, note: Callable[[str], None]) -> int:
    """Read the hour into the writer: on the cluster if the source can be split, else here. Return the number of duplicates."""
    rules = HourRules(hour, tuple(ports.observe_settings.request_types), ports.key_type)
    reader = ports.hour_reader
    if reader is not None:
        return reader.read(rules, ports.require_user_key, writer, note)
    cleaner = RecordCleaner(rules, ports.require_user_key)
    for batch in ports.access_log.read_hour(hour, note):
        cleaned = cleaner.clean(batch)
        writer.add(cleaned.accepted, cleaned.quarantined)
    return cleaner.seen.dropped


def _why_kept(saved: RawHour, source: AccessLogSource, found: int) -> str | None:
    """Return why a saved hour is kept; None if it is to be replaced.

    Raise :class:`HourRefused` if another source gave it, and this one has more records: a person must choose.
    """
    again = f"foreshard observe hour {saved.hour:%Y-%m-%dT%H} --replace"
    if saved.source and saved.source != source.name:
        given = f"{saved.source} gave its {saved.records:,} records; {source.name} has {found:,}"
        if found > saved.records:
            raise HourRefused(
                saved.hour, f"has two sources: {given}", f"{again} takes the latter; or import both as one folder"
            )
        return f"kept, because {given}: {again} takes these"
    if found < saved.records and not saved.source:
        kept = f"kept, because an earlier release saved its {saved.records:,} records, from an unknown source"
        return f"{kept}; {again} takes {found:,}"
    if found < saved.records and not source.holds_whole(saved.hour):
        return f"kept with its {saved.records:,} records, because {source.name} has only {found:,} left"
    return None


def tally_hour(ports: TallyPorts, hour: datetime) -> TallySummary:
    """Count the raw hour and save its tally.

    Sessions that began in the hour before count for co-access with the keys of both. So the hour after, if it is counted
    already, is counted again: the order in which hours are counted makes no difference.
    """
    counted = counted_hour(ports, hour)
    ports.tallies.save([counted])
    count_again(ports, [hour + ONE_HOUR])
    load = counted.key_load
    keys = int(load["partitionable_key"].nunique())
    raw, accesses = ports.raw_hours.describe(hour), int(load["count"].sum())
    account = account_of(str(raw.accepted_path), raw.records, accesses, raw.quarantined, raw.duplicates)
    cost = sum_of_costs(load["cost"])
    return TallySummary(hour, accesses, cost, keys, len(counted.co_access), account)


def count_again(ports: TallyPorts, hours: Iterable[datetime]) -> None:
    """Count those of ``hours`` again that are counted and still have their records, because the hour before has changed."""
    for hour in hours:
        if ports.tallies.hours(hour, hour + ONE_HOUR) and saved_hour(ports, hour):
            ports.tallies.save([counted_hour(ports, hour)])


def counted_hour(ports: TallyPorts, hour: datetime, rules: TallyRules | None = None) -> HourTally:
    """Return the tally of a raw hour. It is counted from its files. ``rules``: by default those of the hour."""
    raw, before = ports.raw_hours.describe(hour), saved_hour(ports, hour - ONE_HOUR)
    rules = rules or TallyRules.of(ports, hour)
    facts = facts_of_hour(ports.raw_hours, hour, rules.weights, raw.source)
    with ports.engine() as engine:
        paths = [path for one in (before, raw) if one for path in one.files]
        (counted,) = count_hours(engine, rules, [hour], engine.coded_files(paths, COUNTED, UNNAMED))
    return counted.with_facts(facts)


def facts_of_hour(raw_hours: RawHourStore, hour: datetime, weights: Mapping[str, float], source: str) -> HourFacts:
    """Return the facts of a raw hour. The memory that Arrow keeps for itself is given back: the engine has its own."""
    facts = facts_of(raw_hours.batches(hour, LOOKED_AT), hour, weights, source)
    pa.default_memory_pool().release_unused()
    return facts


@dataclass(frozen=True)
class CountedHour:
    """What was counted in an hour."""

    hour: datetime
    key_load: pd.DataFrame
    co_access: pd.DataFrame

    def with_facts(self, facts: HourFacts) -> HourTally:
        """Return the hour's tally. Its cost is the sum of its cells, so the order of the records makes no difference."""
        exact = dataclasses.replace(facts, cost=sum_of_costs(self.key_load["cost"]))
        return HourTally(self.hour, self.key_load, self.co_access, exact)


@dataclass(frozen=True)
class TallyRules:
    """How records are counted, and which keys are units by themselves."""

    weights: Mapping[str, float]
    pairs: CoAccessRules
    units: UnitChoice

    @classmethod
    def of(cls, ports: TallyPorts, hour: datetime) -> TallyRules:
        """Return the rules of the settings, the history before ``hour`` and the routing table."""
        observe = ports.observe_settings
        weights = {name: setting.weight for name, setting in observe.request_types.items()}
        since = hour - ports.forecast_settings.history_days * HOURS_PER_DAY * ONE_HOUR
        return cls(weights, CoAccessRules.of(observe), unit_choice(ports, since, hour))


def count_hours(engine: FrameEngine, rules: TallyRules, hours: Sequence[datetime], records: CodedRecords) -> list[CountedHour]:
    """Count the records of successive ``hours``. Co-access is found between keys that are units.

    ``records`` have the columns ``COUNTED``, also of the hour before. Counting some hours at once gives what counting each of
    them gives.
    """
    coded = dataclasses.replace(records, rows=_near(records.rows, hours[0], rules.pairs.window))
    in_hours = coded.rows.filter(nw.col(MOMENT) >= int(hours[0].timestamp()) * 1_000_000)
    load = tally(dataclasses.replace(coded, rows=in_hours), engine, rules.weights).sort_values("hour", kind="stable")
    loads = [part.reset_index(drop=True) for part in by_hour(load, load["hour"], hours)]
    if len(hours) > 1 and len(load):
        loads = [part.assign(**{name: part[name].cat.remove_unused_categories() for name in CELL_TEXTS}) for part in loads]
    named = _named(coded, engine, rules.units, dict(zip(hours, loads, strict=True)))
    pairs = pairs_of(coded, engine, rules.pairs, hours[0], named)
    together = [part.reset_index(drop=True) for part in by_hour(pairs, pairs["hour"], hours)]
    return [CountedHour(*counted) for counted in zip(hours, loads, together, strict=True)]


def sum_of_costs(costs: Iterable[float]) -> float:
    """Return the sum, rounded once; infinity if it has no number."""
    try:
        return math.fsum(costs)
    except OverflowError:
        return math.inf


def _near(rows: LazyRecords, hour: datetime, window: timedelta) -> LazyRecords:
    """Return records without those of the hour before that share no group with one of this ``hour``."""
    near = nw.col(MOMENT) >= int((hour - window).timestamp() * 1_000_000)
    return rows.filter(near | ~nw.col("session_id").is_null())


def _named(
    coded: CodedRecords, engine: FrameEngine, units: UnitChoice, loads: Mapping[datetime, pd.DataFrame]
) -> LazyRecords | None:
    """Return the ``hour`` and the code of each key that is or may become a unit in it; None: all keys are."""
    chosen = {hour: units.named(key_costs(load)) for hour, load in loads.items()}
    if all(keys is None for keys in chosen.values()):
        return None
    rows = [
        (int(hour.timestamp()) // 3600, key)
        for hour, keys in chosen.items()
        for key in (loads[hour]["partitionable_key"].unique() if keys is None else sorted(keys))
    ]
    numbers = pa.array([number for number, _ in rows], pa.int64())
    names = engine.of_table(pa.table({"hour": numbers, NAME: pa.array([key for _, key in rows], pa.string())}))
    return names.join(coded.names["partitionable_key"], on=NAME).select("hour", partitionable_key=CODE)


def saved_hour(ports: WithRawHours, hour: datetime) -> RawHour | None:
    """Return the raw hour; None if it was not saved."""
    try:
        return ports.raw_hours.describe(hour)
    except MissingStageResult:
        return None
