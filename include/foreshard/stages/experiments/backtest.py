"""Rolling-origin backtest of a log file: the configured engine and simpler methods, scored against the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import xxhash

from foreshard.errors import CorruptLog
from foreshard.forecast.accuracy import Accuracy, naive_scale
from foreshard.forecast.series import build_series, history_numbers, horizon_numbers
from foreshard.forecast.spread import normal_quantile
from foreshard.measure.correlation import CORRELATED_KEYS, error_correlation, seasonal_residuals
from foreshard.measure.demand import LoadProfile
from foreshard.model import HOURS_PER_DAY, ONE_HOUR
from foreshard.ports.access_logs import CountedLog
from foreshard.stages._ports import WithForecastSettings, WithLogFiles
from foreshard.stages.experiments.backtest_methods import PEERS, PROPHETS, BacktestWindow, Forecast, forecasts, of_series

if TYPE_CHECKING:
    from foreshard.settings import ForecastSettings
    from foreshard.stages.experiments.forecast_log import StepProgress


class BacktestPorts(WithForecastSettings, WithLogFiles, Protocol):
    """Reads a log file. Writes nothing."""


@dataclass(frozen=True)
class BacktestOptions:
    """The size of a backtest.

    ``origins`` are spread evenly over the log. Keys are assigned to ``partitions`` by hash; None: by location. ``Prophet.fit``
    runs at most ``prophet_fits`` times, and each method of another library at most ``peer_fits`` times.
    """

    origins: int
    partitions: int | None
    prophet_fits: int
    peer_fits: int


@dataclass(frozen=True)
class BacktestSummary:
    """Figures by level (``key`` or ``partition``) and method. ``about`` describes the log and the settings."""

    levels: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    about: Mapping[str, Any]


def backtest_log(ports: BacktestPorts, log: Path, options: BacktestOptions, progress: StepProgress) -> BacktestSummary:
    """Forecast ``log`` from many origins, and score every method at key and at partition level.

    Raise :class:`foreshard.errors.CorruptLog` if the log is shorter than a day of history and the horizon together.
    """
    settings = ports.forecast_settings
    counted = ports.log_files.count(log)
    origins = _origins(counted, settings, options.origins, log)
    partition_of, names = _partitions(counted.load, options.partitions)
    tables: dict[str, dict[str, Accuracy]] = {"key": {}, "partition": {}}
    limits = ((PROPHETS, options.prophet_fits), (PEERS, options.peer_fits))
    places = {kind: _sampled_origins(counted, len(origins), fits) for kind, fits in limits}
    for done, hour in enumerate(origins):
        window = _window(counted, hour, settings, partition_of)
        samples = {kind: fits for kind, fits in limits if done in places[kind]}
        for made in forecasts(window, settings, samples):
            _score(tables, made, window, settings.quantile, len(names))
        progress(done + 1, len(origins))
    levels = {level: {name: table.figures() for name, table in sorted(methods.items())} for level, methods in tables.items()}
    about = {
        "log": log.name,
        "origins": [hour.isoformat() for hour in origins],
        "horizon_hours": settings.horizon_hours,
        "history_days": settings.history_days,
        "quantile": settings.quantile,
        "engine": settings.engine,
        "keys": int(counted.load["partitionable_key"].nunique()),
        "partitions": list(names),
        "left_out": dict(counted.left_out),
        "assumed_cost_1": dict(counted.assumed),
    }
    return BacktestSummary(levels, about)


def _origins(counted: CountedLog, settings: ForecastSettings, count: int, log: Path) -> list[datetime]:
    """Return the last hours of the histories, evenly spread. A short log gets shorter histories."""
    length = int((counted.last - counted.first) / ONE_HOUR) + 1
    history = min(settings.history_days * HOURS_PER_DAY, max(HOURS_PER_DAY, (length - settings.horizon_hours) // 2))
    first = counted.first + (history - 1) * ONE_HOUR
    last = counted.last - settings.horizon_hours * ONE_HOUR
    if last < first:
        raise CorruptLog(
            str(log), f"its {length} hours are too few for a day of history and a horizon of {settings.horizon_hours} h"
        )
    places = np.unique(np.linspace(0, (last - first) / ONE_HOUR, count).round().astype(int))
    return [first + int(place) * ONE_HOUR for place in places]


def _partitions(load: pd.DataFrame, count: int | None) -> tuple[dict[str, int], tuple[str, ...]]:
    """Assign each key to its busiest location, or by hash if a count is given or the log has fewer than two locations."""
    totals = load.groupby(["partitionable_key", "location"])["cost"].sum().reset_index()
    busiest = totals.sort_values(["cost", "location"]).drop_duplicates("partitionable_key", keep="last")
    places = sorted(busiest["location"].unique())
    if count is None and len(places) >= 2:
        number = {place: index for index, place in enumerate(places)}
        return dict(zip(busiest["partitionable_key"], busiest["location"].map(number), strict=True)), tuple(places)
    parts = count or 4
    return (
        {key: xxhash.xxh3_64_intdigest(key.encode()) % parts for key in busiest["partitionable_key"]},
        tuple(f"hash {index}" for index in range(parts)),
    )


def _sampled_origins(counted: CountedLog, origins: int, fits: int) -> frozenset[int]:
    """Return the origins at which slow methods run: evenly spread, as many as ``fits`` allow, at least one unless it is 0."""
    keys = max(1, int(counted.load["partitionable_key"].nunique()))
    many = min(origins, max(1, fits // keys)) if fits else 0
    return frozenset(np.linspace(0, origins - 1, many).round().astype(int).tolist())


def _window(counted: CountedLog, hour: datetime, settings: ForecastSettings, partition_of: dict[str, int]) -> BacktestWindow:
    history = settings.history_days * HOURS_PER_DAY
    ahead_days = -(-settings.horizon_hours // HOURS_PER_DAY)
    end = hour + timedelta(days=ahead_days)
    start = hour - (history - 1) * ONE_HOUR
    moments = counted.load["hour"]
    rows = counted.load.iloc[moments.searchsorted(pd.Timestamp(start)) : moments.searchsorted(pd.Timestamp(end), side="right")]
    hours = [moment for moment in counted.hours() if start <= moment <= end]
    series = build_series(rows, hours, end, settings.history_days + ahead_days)
    costs = series.costs[:, :history].astype(np.float64)
    return BacktestWindow(
        hour,
        series.keys,
        costs,
        np.broadcast_to(series.counted[:history], costs.shape),
        series.costs[:, history : history + settings.horizon_hours].astype(np.float64),
        np.array([partition_of[key] for key in series.keys], dtype=np.int64),
        np.asarray(costs.any(axis=1)),
    )


def _score(tables: dict[str, dict[str, Accuracy]], made: Forecast, window: BacktestWindow, quantile: float, parts: int) -> None:
    """Score one method's forecast at one origin, at both levels.

    At partition level, baselines and peers forecast the partitions' totals. The key forecasts of any other method are summed,
    unless it has forecast only a sample of the keys.
    """
    name, mean, sigma, rows = made.method, made.mean, made.sigma, made.rows
    for level in tables:
        tables[level].setdefault(name, Accuracy(quantile)).seconds += made.seconds
    tables["key"][name].add(mean, made.upper, window.actual[rows], naive_scale(window.costs[rows]))
    if sigma is not None and len(rows) < int(window.known.sum()):
        tables["partition"].pop(name)
        return
    membership = np.zeros((parts, len(window.keys)))
    membership[window.partition, np.arange(len(window.keys))] = 1.0
    membership = membership[membership.any(axis=1)]
    costs = membership @ window.costs
    if sigma is None:
        numbers = history_numbers(window.hour, window.costs.shape[1])
        ahead = horizon_numbers(window.hour, mean.shape[1])
        observed = np.broadcast_to(window.observed[0], costs.shape)
        total, top = of_series(name, costs, observed, numbers, ahead, quantile)
    else:
        forecast = membership[:, rows]
        correlation = _correlation(window) if made.correlation is None else made.correlation
        profile = LoadProfile(forecast @ mean, forecast @ sigma**2, forecast @ sigma)
        total, top = profile.mean, profile.mean + normal_quantile(quantile) * profile.deviation(correlation)
    tables["partition"][name].add(total, top, membership @ window.actual, naive_scale(costs))


def _correlation(window: BacktestWindow) -> float:
    """Return the correlation of the keys' errors, estimated like in the score stage."""
    busiest = np.argsort(-window.costs.sum(axis=1), kind="stable")[:CORRELATED_KEYS]
    return error_correlation(seasonal_residuals(np.where(window.observed[busiest], window.costs[busiest], np.nan)))
