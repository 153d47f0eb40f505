"""The observe stage: access log → raw hour → tally, for one hour. Its gate is in :mod:`foreshard.stages.observing.gate`.

Records are worked on in batches and as columns. Memory holds a few bytes for each record of the hour.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.errors import HourRefused, MissingStageResult
from foreshard.model import HOURS_PER_DAY, ONE_HOUR, HourTally
from foreshard.observe.batches import clean_batch, coded_texts
from foreshard.observe.co_access import CoAccessRules, Touched, pairs_of
from foreshard.observe.duplicates import SeenRecords
from foreshard.observe.facts import facts_of
from foreshard.observe.hiding import Pseudonyms
from foreshard.observe.tally import TALLIED, codes_of, only_codes, tally_table
from foreshard.observe.units import key_costs
from foreshard.ports.access_logs import AccessLogSource, RawHour
from foreshard.stages._ports import (
    WithAccessLog,
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
_TOUCHED = ("timestamp", "partitionable_key", "user_id", "session_id")


class ExtractPorts(WithAccessLog, WithObserveSettings, WithRawHours, WithKeyType, WithUserKey, Protocol):
    """Reads the access log. Writes the raw hour."""


class TallyPorts(UnitPorts, WithRawHours, WithTallies, WithSeries, WithForecastSettings, Protocol):
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
    types, source = ports.observe_settings.request_types.keys(), ports.access_log
    pseudonyms, saved, seen = Pseudonyms(ports.require_user_key, types), saved_hour(ports, hour), SeenRecords()
    notes: list[str] = []
    with ports.raw_hours.writer(hour) as writer:
        for batch in source.read_hour(hour, notes.append):
            once = seen.without_duplicates(batch)
            hidden = pseudonyms.of(clean_batch(once, hour, hour + ONE_HOUR, types, ports.key_type))
            writer.add(hidden.accepted, hidden.quarantined)
        found = writer.records + seen.dropped
        kept = None if saved is None or replace else _why_kept(saved, source, found)
        if saved and kept:
            return dataclasses.replace(saved, notes=(*notes, kept))
        made = writer.keep(source.name, seen.dropped)
    if saved and saved.records != made.records:
        notes.append(
            f"replaces {saved.records:,} records ({made.records - saved.records:+,}); the old file is kept in replaced/"
        )
    return dataclasses.replace(made, before=saved.records if saved else None, notes=tuple(notes))


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
    tally = _counted(ports, hour)
    ports.tallies.save([tally])
    count_again(ports, [hour + ONE_HOUR])
    load = tally.key_load
    keys = int(load["partitionable_key"].nunique())
    raw, counted = ports.raw_hours.describe(hour), int(load["count"].sum())
    account = account_of(str(raw.accepted_path), raw.records, counted, raw.quarantined, raw.duplicates)
    cost = float(load["cost"].sum())
    return TallySummary(hour, counted, cost, keys, len(tally.co_access), account)


def count_again(ports: TallyPorts, hours: Iterable[datetime]) -> None:
    """Count those of ``hours`` again that are counted and still have their records, because the hour before has changed."""
    for hour in hours:
        if ports.tallies.hours(hour, hour + ONE_HOUR) and saved_hour(ports, hour):
            ports.tallies.save([_counted(ports, hour)])


def _counted(ports: TallyPorts, hour: datetime) -> HourTally:
    """Return the tally of a raw hour."""
    before = hour - ONE_HOUR
    seen = ports.raw_hours.columns(before, _TOUCHED) if saved_hour(ports, before) else None
    source = ports.raw_hours.describe(hour).source
    return count_hour(TallyRules.of(ports, hour), hour, ports.raw_hours.columns(hour, COUNTED), seen, source)


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


def count_hour(rules: TallyRules, hour: datetime, table: pa.Table, seen: pa.Table | None, source: str = "") -> HourTally:
    """Count the records of an hour that ``source`` gave. Co-access is found between keys that are units.

    ``seen`` are the records of the hour before.
    """
    coded = with_codes(table.select(TALLIED))
    load = tally_table(coded, hour, rules.weights)
    facts = facts_of(coded, table.column("timestamp"), hour, rules.weights, source)
    named = rules.units.named(key_costs(load))
    parts = [_touched(part.select(_TOUCHED), named) for part in (seen, table) if part is not None]
    pairs = pairs_of(_coded(coded_texts(pa.concat_tables(parts))), rules.pairs, since=hour)
    return HourTally(hour, load, pairs, facts)


def saved_hour(ports: WithRawHours, hour: datetime) -> RawHour | None:
    """Return the raw hour; None if it was not saved."""
    try:
        return ports.raw_hours.describe(hour)
    except MissingStageResult:
        return None


def _touched(table: pa.Table, named: Collection[str] | None) -> pa.Table:
    """Return the records of the named keys that belong to a session or a user."""
    table = with_codes(table)
    owned = pc.or_(pc.is_valid(table.column("session_id")), pc.is_valid(table.column("user_id")))
    if named is None:
        return table.filter(owned)
    keys = table.column("partitionable_key")
    if not keys.num_chunks:
        return table
    flags = pc.is_in(keys.chunk(0).dictionary, pa.array(sorted(named), pa.string())).to_numpy(zero_copy_only=False)
    return table.filter(pc.and_(owned, pa.array(flags[only_codes(keys)])))


def with_codes(table: pa.Table) -> pa.Table:
    """Return the table with its texts as dictionaries."""
    return coded_texts(table) if any(pa.types.is_string(field.type) for field in table.schema) else table


def _coded(table: pa.Table) -> Touched:
    """Return records as codes, with sorted names of keys."""
    keys, names = codes_of(table.column("partitionable_key"))
    order = np.argsort(names.astype(str), kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    users, user_names = codes_of(table.column("user_id"))
    sessions = only_codes(table.column("session_id"))
    time = table.column("timestamp").cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).to_numpy()
    return Touched(time, place[keys], users, sessions, names[order], user_names)
