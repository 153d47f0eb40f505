"""The observe stage: access log → raw hour → gate → tally, for one hour, or for a log's whole history at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from foreshard.errors import CorruptLog, GateFailed, MissingStageResult
from foreshard.model import ONE_HOUR, HourTally, hour_floor
from foreshard.observe.clean import Cleaned, clean, column
from foreshard.observe.co_access import CoAccessRules, co_access
from foreshard.observe.hours import by_hour, hours_between, split
from foreshard.observe.pseudonym import pseudonymise
from foreshard.observe.tally import tally
from foreshard.observe.values import as_times
from foreshard.ports.gating import record_gate
from foreshard.ports.stages import RawHour
from foreshard.stages._ports import (
    WithAccessLog,
    WithGates,
    WithKeyType,
    WithObserveSettings,
    WithRawHours,
    WithReadAccessLog,
    WithTallies,
    WithUserKey,
)

if TYPE_CHECKING:
    from foreshard.settings import ObserveSettings

WEEKS_COMPARED = 4
HOURS_PER_STEP = 24


class ExtractPorts(WithAccessLog, WithRawHours, WithObserveSettings, WithKeyType, WithUserKey, Protocol):
    """Reads the access log. Writes the raw hour."""


class AccessLogGatePorts(WithRawHours, WithTallies, WithObserveSettings, WithGates, Protocol):
    """Reads the raw hour and older tallies. Writes the gate's result."""


class TallyPorts(WithRawHours, WithTallies, WithObserveSettings, Protocol):
    """Reads raw hours. Writes the tally."""


class ImportPorts(WithReadAccessLog, WithRawHours, WithTallies, WithObserveSettings, WithKeyType, WithUserKey, Protocol):
    """Reads a log file. Writes raw hours and tallies."""


@dataclass(frozen=True, slots=True)
class TallySummary:
    """The totals of an hour's tally."""

    hour: datetime
    accesses: int
    cost: float
    keys: int
    pairs: int


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


def extract_hour(ports: ExtractPorts, hour: datetime) -> RawHour:
    """Read an hour of the access log, quarantine bad records, pseudonymise both, and save them.

    If the source has fewer records than were saved before, the saved hour is kept: the topic's retention may have deleted
    records, or the hour may have been imported.
    """
    types = ports.observe_settings.request_types.keys()
    batches = ports.access_log.read_hour(hour)
    cleaned = _joined([clean(batch, hour, hour + ONE_HOUR, types, ports.key_type) for batch in batches], hour)
    saved = _saved_hour(ports, hour)
    if saved and saved.accepted + saved.quarantined > len(cleaned.accepted) + len(cleaned.quarantined):
        return saved
    hidden = _with_pseudonyms(ports, cleaned)
    return ports.raw_hours.save(hour, hidden.accepted, hidden.quarantined)


def gate_access_log(ports: AccessLogGatePorts, hour: datetime) -> None:
    """Check the raw hour against the same hour of the previous weeks.

    Raise :class:`foreshard.errors.GateFailed` if it must not be counted.
    """
    from foreshard.quality.gates import check_access_log

    described = ports.raw_hours.describe(hour)
    weeks = [hour - timedelta(weeks=back) for back in range(1, WEEKS_COMPARED + 1)]
    result = check_access_log(
        ports.raw_hours.load(hour),
        hour,
        quarantined=described.quarantined,
        limits=ports.observe_settings,
        usual=ports.tallies.counts(weeks),
        docs=ports.data_docs,
    )
    record_gate(ports.gates, result)


def tally_hour(ports: TallyPorts, hour: datetime) -> TallySummary:
    """Count the raw hour and save its tally.

    Sessions that began in the hour before count for co-access with the keys of both.
    """
    observe = ports.observe_settings
    accepted = ports.raw_hours.load(hour)
    seen = [ports.raw_hours.load(hour - ONE_HOUR)] if _saved_hour(ports, hour - ONE_HOUR) else []
    load = tally(accepted, _weights(observe))
    pairs = co_access(pd.concat([*seen, accepted], ignore_index=True), CoAccessRules.of(observe), since=hour)
    ports.tallies.save([HourTally(hour, load, pairs)])
    keys = int(load["partitionable_key"].nunique())
    return TallySummary(hour, int(load["count"].sum()), float(load["cost"].sum()), keys, len(pairs))


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
    frame = log if isinstance(log, pd.DataFrame) else ports.read_access_log(log)
    times = as_times(column(frame, "timestamp"))
    since, until = _span(times, since, until, label)
    chosen = (times.isna() | ((times >= since) & (times < until))).to_numpy()
    types = ports.observe_settings.request_types.keys()
    cleaned = _with_pseudonyms(ports, clean(frame.reset_index(drop=True)[chosen], since, until, types, ports.key_type))
    reasons = dict(Counter(cleaned.quarantined["reason"]))
    _require_good(ports, cleaned, since, until, label, reasons)
    hours, kept = _hours_to_save(ports, cleaned.accepted, since, until)
    observe = ports.observe_settings
    load, pairs = tally(cleaned.accepted, _weights(observe)), co_access(cleaned.accepted, CoAccessRules.of(observe))
    raw = _raw_hours(ports, cleaned, hours, f"import-{since:%Y%m%dT%H}-{until:%Y%m%dT%H}")
    for start in range(0, len(hours), HOURS_PER_STEP):
        step = hours[start : start + HOURS_PER_STEP]
        for hour, (accepted, quarantined) in zip(step, raw, strict=False):
            ports.raw_hours.save(hour, accepted, quarantined)
        ports.tallies.save(list(split(load, pairs, step)))
        if progress:
            progress(start + len(step), len(hours))
    keys = int(load["partitionable_key"].nunique())
    bad, outside = len(cleaned.quarantined), len(frame) - int(chosen.sum())
    return ImportSummary(since, until, len(hours), kept, len(cleaned.accepted), bad, outside, keys, len(pairs), reasons)


def _joined(parts: list[Cleaned], hour: datetime) -> Cleaned:
    """Join the parts and sort their records, because the order from the source can differ between two readings."""
    if not parts:
        return clean(pd.DataFrame(), hour, hour + ONE_HOUR, ())
    accepted, quarantined = (
        pd.concat(frames, ignore_index=True)
        for frames in zip(*((part.accepted, part.quarantined) for part in parts), strict=True)
    )
    return Cleaned(
        accepted.sort_values(list(accepted.columns), ignore_index=True),
        quarantined.sort_values(list(quarantined.columns), ignore_index=True),
    )


def _with_pseudonyms(ports: WithUserKey, cleaned: Cleaned) -> Cleaned:
    key = ports.require_user_key
    accepted, quarantined = (
        frame.assign(user_id=pseudonymise(frame["user_id"], key)) for frame in (cleaned.accepted, cleaned.quarantined)
    )
    return Cleaned(accepted, quarantined)


def _saved_hour(ports: WithRawHours, hour: datetime) -> RawHour | None:
    try:
        return ports.raw_hours.describe(hour)
    except MissingStageResult:
        return None


def _weights(observe: ObserveSettings) -> dict[str, float]:
    return {name: setting.weight for name, setting in observe.request_types.items()}


def _span(
    times: pd.Series[pd.Timestamp], since: datetime | None, until: datetime | None, label: str
) -> tuple[datetime, datetime]:
    """Return the whole hours to import. Hours that are not over are left out."""
    if times.notna().any():
        since = since or times.min().to_pydatetime()
        until = until or min(hour_floor(times.max().to_pydatetime()) + ONE_HOUR, hour_floor(datetime.now(UTC)))
    if since is None or until is None:
        raise CorruptLog(label, f"none of its {len(times):,} records has a readable time")
    since, until = hour_floor(since), hour_floor(until)
    if since >= until:
        raise CorruptLog(label, f"it has no closed hour from {since:%Y-%m-%dT%HZ} to {until:%Y-%m-%dT%HZ}")
    return since, until


def _require_good(
    ports: TallyPorts, cleaned: Cleaned, since: datetime, until: datetime, label: str, reasons: dict[str, int]
) -> None:
    """Raise an error if no record, or too small a share, can be counted. The bad records are kept in the quarantine."""
    accepted, bad = len(cleaned.accepted), len(cleaned.quarantined)
    limit = ports.observe_settings.maximum_quarantined_share
    if accepted and bad <= limit * (accepted + bad):
        return
    path = ports.raw_hours.set_aside(f"refused-{since:%Y%m%dT%H}-{until:%Y%m%dT%H}", cleaned.quarantined) if bad else None
    found = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items())) or "no records"
    if not accepted:
        raise CorruptLog(label, f"none of its {bad:,} records from {since:%Y-%m-%dT%HZ} on can be counted ({found})")
    share = f"quarantined share {bad / (accepted + bad):.4g} > {limit:g} ({bad:,} of {accepted + bad:,} records: {found})"
    raise GateFailed("access_log", f"{label}, {since:%Y-%m-%dT%HZ} to {until:%Y-%m-%dT%HZ}", (f"{share}; see {path}",))


def _hours_to_save(ports: TallyPorts, accepted: pd.DataFrame, since: datetime, until: datetime) -> tuple[list[datetime], int]:
    """Return the hours to save, and the number of hours to keep: counted before, and without a record in this log."""
    hours = hours_between(since, until)
    present = {moment.to_pydatetime() for moment in accepted["timestamp"].dt.floor("h").unique()}
    saved = set(ports.tallies.hours(since, until)) - present
    return [hour for hour in hours if hour not in saved], len(saved)


def _raw_hours(
    ports: TallyPorts, cleaned: Cleaned, hours: Sequence[datetime], label: str
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield each hour's accepted and quarantined records. Quarantined records without a time are saved under ``label``."""
    accepted = cleaned.accepted.sort_values("timestamp", kind="stable", ignore_index=True)
    times = as_times(cleaned.quarantined["timestamp"])
    timeless = times.isna().to_numpy()
    if timeless.any():
        ports.raw_hours.set_aside(label, cleaned.quarantined[timeless])
    bad = cleaned.quarantined.assign(at=times)[~timeless].sort_values("at", kind="stable", ignore_index=True)
    yield from zip(
        by_hour(accepted, accepted["timestamp"], hours), by_hour(bad.drop(columns="at"), bad["at"], hours), strict=True
    )
