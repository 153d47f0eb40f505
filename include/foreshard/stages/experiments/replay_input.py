"""What a replay reads: the log, its step, the first replayed hour, the partitions, and the rates of a synthetic log."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from foreshard.errors import ConfigurationError, UnknownEngine
from foreshard.forecast.engine import ENGINES
from foreshard.lab.log import ReplayLog, gather_log
from foreshard.lab.partition_layout import PartitionLayout, equal_layout, parse_layout
from foreshard.lab.step_choice import choose_steps
from foreshard.model import FloatArray, Location
from foreshard.observe.pairs.co_access import CoAccessRules
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


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to replay, and on which partitions: equal ones for a target utilisation, or those of the ``layout`` file.

    ``rates`` is a file with the true rates of a synthetic log, for the oracle (``partitionable_key, hour, mean, sigma``).
    ``processes`` read a large log, and run policies, in parallel; None: one per core. ``capacity``: also find the least
    capacity of each policy. ``steps``: serve loads in steps of five minutes (true), by the hour (false), or as the log
    allows (None). ``forecaster``: the engine that ``predictive`` forecasts with; None: that of the settings.
    """

    partitions: int = 4
    utilisation: float = 0.7
    layout: Path | None = None
    policies: tuple[str, ...] = POLICIES
    days: int | None = None
    locations: Path | None = None
    rates: Path | None = None
    processes: int | None = None
    capacity: bool = True
    steps: bool | None = None
    forecaster: str | None = None


@dataclass(frozen=True)
class ReplayInput:
    """All that a replay needs. ``start``: the first replayed hour. ``notes`` are remarks for people."""

    log: ReplayLog
    start: int
    layout: PartitionLayout
    known: Known
    settings: Settings
    notes: tuple[str, ...]


def _with_engine(settings: Settings, engine: str | None) -> Settings:
    """Return the settings with this engine. Raise :class:`foreshard.errors.UnknownEngine` if it does not exist."""
    chosen = engine or settings.forecast.engine
    if chosen not in ENGINES:
        raise UnknownEngine(chosen, tuple(ENGINES))
    return settings.model_copy(update={"forecast": settings.forecast.model_copy(update={"engine": chosen})})


def read_input(ports: ReplayPorts, path: Path, request: ReplayRequest) -> ReplayInput:
    """Read everything. Raise :class:`foreshard.errors.CorruptLog` or :class:`ConfigurationError` for bad input."""
    settings = _with_engine(ports.settings, request.forecaster)
    log = _read(ports, path, request)
    start, notes = _start(log, request, settings)
    layout = _layout(log, start, request, _locations(path, request))
    steps, why = choose_steps(log, start, len(layout.partitions), request.steps)
    log = log if steps else replace(log, steps=None)
    known = _rates(request.rates, log) if request.rates else (None, None)
    return ReplayInput(
        log,
        start,
        layout,
        known,
        settings,
        (*notes, *_remarks(log, layout), why, f"predictive forecasts with the engine {settings.forecast.engine}"),
    )


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
