"""Replay a log's hours under several policies: figures as JSON, a page, and a summary. No database is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from foreshard.errors import ConfigurationError
from foreshard.lab.floor import noise_floor
from foreshard.lab.lab_forecaster import SeasonalShape, TrueFuture
from foreshard.lab.log import ReplayLog, gather_log
from foreshard.lab.measures import Measures, measure
from foreshard.lab.page import page
from foreshard.lab.partition_layout import PartitionLayout, equal_layout, parse_layout
from foreshard.lab.past import Policy, ReplayRules
from foreshard.lab.planned import Planned, Timing
from foreshard.lab.policies import MongoBalance, Reactive, StaticGeo, StaticHash
from foreshard.lab.side_by_side import PolicyProgress, side_by_side
from foreshard.lab.simulate import Run, replay
from foreshard.measure.demand import ServingRule
from foreshard.model import ONE_HOUR, FloatArray, Location
from foreshard.observe.co_access import CoAccessRules
from foreshard.plan.input.migration_rate import MigrationRate
from foreshard.plan.input.snapshot import PlanPolicy
from foreshard.stages._ports import WithAccessLogBatches, WithSettings

if TYPE_CHECKING:
    from foreshard.settings import Settings

POLICIES = ("static_hash", "static_geo", "reactive", "mongodb_balance", "predictive", "oracle")
Known = tuple[FloatArray | None, FloatArray | None]
"""Mean and sigma (K, T) of the cost that a synthetic log was drawn from; None: unknown."""
LARGE = 8 * 2**20
"""A log file with fewer bytes is read in one process."""
MINIMUM_DAYS = 2
"""A shorter log is not replayed: it has too little history to forecast from, or nothing left to replay."""


class ReplayPorts(WithSettings, WithAccessLogBatches, Protocol):
    """Reads a log file. Writes nothing."""


@dataclass(frozen=True)
class Replayed:
    """The result of a replay. ``document`` is the JSON; ``notes`` are remarks for people; ``html`` is the page."""

    document: Mapping[str, Any]
    measures: Mapping[str, Measures]
    notes: tuple[str, ...]
    html: str


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to replay, and on which partitions: equal ones for a target utilisation, or those of the ``layout`` file.

    ``rates`` is a file with the true rates of a synthetic log, for the oracle (``partitionable_key, hour, mean, sigma``).
    ``processes`` read a large log, and run policies, in parallel; None: one per core.
    """

    partitions: int = 4
    utilisation: float = 0.7
    layout: Path | None = None
    policies: tuple[str, ...] = POLICIES
    days: int | None = None
    locations: Path | None = None
    rates: Path | None = None
    processes: int | None = None


def replay_log(ports: ReplayPorts, path: Path, request: ReplayRequest, progress: PolicyProgress | None = None) -> Replayed:
    """Replay ``path`` under each policy.

    Raise :class:`foreshard.errors.CorruptLog` or :class:`ConfigurationError` for bad input.
    """
    unknown = [name for name in request.policies if name not in POLICIES]
    if unknown or not request.policies:
        raise ConfigurationError("--policies", f"unknown policy {', '.join(unknown) or '(none)'}", f"use {', '.join(POLICIES)}")
    settings = ports.settings
    log = _read(ports, path, request)
    start, notes = _start(log, request, settings)
    places = _locations(path, request)
    layout = _layout(log, start, request, places)
    notes += _remarks(log, layout)
    known = _rates(request.rates, log) if request.rates else (None, None)
    names = tuple(dict.fromkeys(request.policies))
    policies = {name: _policy(name, log, layout, settings, known) for name in names}
    starts = {name: partial(replay, log, layout, policies[name], start, _rules(settings)) for name in names}
    runs = side_by_side(starts, request.processes or os.cpu_count() or 1, progress)
    floor = noise_floor(log, start, layout.capacity, *known)
    measures = {name: measure(run, log, layout.capacity) for name, run in runs.items()}
    notes.append(f"with the load levelled in every hour, chance alone would cause {floor:,.1f} overload hours")
    document = _document(path, log, start, layout, request, runs, measures, notes, floor)
    return Replayed(document, measures, tuple(notes), page(document, log, layout, runs))


def save_replay(replayed: Replayed, figures: Path | None, html: Path | None) -> None:
    """Write the JSON to ``figures`` and the page to ``html``; None skips one."""
    for path, text in ((figures, json.dumps(replayed.document, indent=1) + "\n"), (html, replayed.html)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _read(ports: ReplayPorts, path: Path, request: ReplayRequest) -> ReplayLog:
    observe = ports.settings.observe
    days = None if request.days is None else request.days + ports.settings.forecast.history_days
    processes = request.processes or os.cpu_count() or 1
    return gather_log(
        ports.access_log_batches(path),
        {name: setting.kind for name, setting in observe.request_types.items()},
        {name: setting.weight for name, setting in observe.request_types.items()},
        replace(CoAccessRules.of(observe), marks=0),
        str(path),
        days,
        processes if path.is_file() and path.stat().st_size >= LARGE else 1,
    )


def _start(log: ReplayLog, request: ReplayRequest, settings: Settings) -> tuple[int, list[str]]:
    """Return the first replayed hour, after the training window. A short log is trained on its first half."""
    if log.hours < 24 * MINIMUM_DAYS:
        span = f"{log.hours} hours"
        raise ConfigurationError("LOG", f"it covers only {span}", f"use a log of at least {MINIMUM_DAYS} days")
    training = settings.forecast.history_days * 24
    notes = []
    if request.days is not None:
        if log.hours < 24 * request.days + training:
            notes.append(f"the log has {log.hours / 24:.1f} days, less than --days and the training window together")
        return max(24, log.hours - 24 * request.days), notes
    if log.hours <= 2 * training:
        notes.append(f"the log is short: forecasts use its first half instead of {settings.forecast.history_days} days")
        return max(24, log.hours // 2), notes
    return training, notes


def _locations(path: Path, request: ReplayRequest) -> dict[str, Location]:
    """Read coordinates from ``--locations``, or from ``<log>-locations.csv`` beside the log."""
    file = request.locations or path.with_name(f"{path.name.split('.')[0]}-locations.csv")
    if request.locations is None and not file.is_file():
        return {}
    try:
        table = pd.read_csv(file, dtype={"name": str})
        rows = zip(table["name"], table["latitude"].astype(float), table["longitude"].astype(float), strict=True)
        return {name: Location(name, latitude, longitude) for name, latitude, longitude in rows}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            "--locations", f"{file} can't be read ({error})", "give a CSV with name,latitude,longitude"
        ) from None


def _layout(log: ReplayLog, start: int, request: ReplayRequest, places: Mapping[str, Location]) -> PartitionLayout:
    if request.layout is None:
        return equal_layout(log, start, request.partitions, request.utilisation, places)
    try:
        document = json.loads(request.layout.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError("--layout", f"{request.layout} can't be read ({error})", "give a JSON file") from None
    return parse_layout(document, request.layout.name, places)


def _remarks(log: ReplayLog, layout: PartitionLayout) -> list[str]:
    notes = [f"{count:,} records left out: {reason}" for reason, count in sorted(log.left_out.items())]
    if log.unknown_types:
        shown = ", ".join(log.unknown_types[:5])
        notes.append(f"request types without a setting count as writes, of cost 1 if the record has no cost: {shown}")
    unplaced = sorted(set(log.locations) - set(layout.locations))
    if len(log.locations) > 1 and unplaced:
        notes.append(f"no coordinates for {', '.join(unplaced[:5])}: different locations count as 1000 km apart")
    if not log.locations:
        notes.append("the log has no locations: distances are 0")
    if not len(log.pair_a):
        notes.append("no session or user accessed two keys: co-access is 0")
    if len(layout.partitions) == 1:
        notes.append("one partition: nothing can be moved")
    return notes


def _rules(settings: Settings) -> ReplayRules:
    return ReplayRules.of(settings.plan, settings.migrate, settings.forecast, settings.sidecar)


def _policy(name: str, log: ReplayLog, layout: PartitionLayout, settings: Settings, known: Known) -> Policy:
    if name == "static_hash":
        return StaticHash(layout)
    if name == "static_geo":
        return StaticGeo(layout, log.locations)
    if name == "reactive":
        return Reactive(layout)
    if name == "mongodb_balance":
        return MongoBalance(layout)
    policy, timing = _planning(settings)
    if name == "predictive":
        epoch = round(log.first.timestamp() / 3600)
        return Planned(log, layout, SeasonalShape(timing.window_hours, epoch), policy, timing)
    return Planned(log, layout, TrueFuture(log, *known), policy, timing)


def _planning(settings: Settings) -> tuple[PlanPolicy, Timing]:
    plan, window = settings.plan, settings.forecast.history_days * 24
    rule = ServingRule(room_mark=settings.sidecar.room_mark, apply_cost=plan.shadow_apply_cost)
    rate = MigrationRate(plan.move_time.total_seconds(), settings.migrate.planned_rate)
    timing = Timing(plan.cooldown, plan.no_return, plan.settle_rest, settings.observe.minimum_distinct_users, window, rate)
    return PlanPolicy.of(plan, settings.migrate, rule), timing


def _rates(path: Path, log: ReplayLog) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Read the mean and sigma (K, T) that a synthetic log was drawn from."""
    try:
        table = pd.read_parquet(path, columns=["partitionable_key", "hour", "mean", "sigma"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            "--rates", f"{path} can't be read ({error})", "give the file that `synthesise` wrote"
        ) from None
    key = pd.Index(log.keys).get_indexer(pd.Index(table["partitionable_key"].astype(str)))
    hour = ((table["hour"] - pd.Timestamp(log.first)) // pd.Timedelta(hours=1)).to_numpy(np.int64)
    kept = (key >= 0) & (hour >= 0) & (hour < log.hours)
    mean, sigma = np.zeros(log.costs.shape, np.float32), np.zeros(log.costs.shape, np.float32)
    mean[key[kept], hour[kept]] = table["mean"].to_numpy(np.float32)[kept]
    sigma[key[kept], hour[kept]] = table["sigma"].to_numpy(np.float32)[kept]
    return mean, sigma


def _document(
    path: Path,
    log: ReplayLog,
    start: int,
    layout: PartitionLayout,
    request: ReplayRequest,
    runs: Mapping[str, Run],
    measures: Mapping[str, Measures],
    notes: Sequence[str],
    floor: float,
) -> Mapping[str, Any]:
    return {
        "log": {
            "name": path.name,
            "records": log.records,
            "keys": len(log.keys),
            "hours": log.hours,
            "first_hour": log.first.isoformat(),
            "replayed_from": log.hour(start).isoformat(),
            "replayed_hours": log.hours - start,
            "days": round((log.hours - start) * ONE_HOUR / timedelta(days=1), 3),
            "notes": list(notes),
        },
        "layout": {
            "utilisation": None if request.layout else request.utilisation,
            "noise_floor_overload_hours": round(floor, 3),
            "partitions": [
                {"partition_id": p.partition_id, "geographic_location": p.geographic_location, "capacity": p.capacity}
                for p in layout.partitions
            ],
        },
        "policies": {name: dict(measures[name].document()) for name in runs},
    }
