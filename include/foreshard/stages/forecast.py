"""The forecast stage: tallies → series by unit → forecasts, chunk by chunk → gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from foreshard.errors import MissingStageResult
from foreshard.forecast.engine import chunk_size, forecast_keys
from foreshard.forecast.fallback import CONSTANT, FALLBACKS
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, ONE_HOUR, GateResult
from foreshard.ports.gating import record_gate
from foreshard.stages._ports import WithAccuracy, WithForecasts, WithForecastSettings, WithGates, WithSeries
from foreshard.stages.accuracy import ALL, NAIVE
from foreshard.stages.history import HistoryPorts, build_history

DOUBTFUL = tuple(name for name in FALLBACKS if name != CONSTANT)
"""Fallbacks that may not forecast most of the load once the history is long enough. A constant key needs no model."""


class PrepareChunksPorts(HistoryPorts, WithForecasts, Protocol):
    """Reads tallies and the history of the hour before. Writes the hour's series, and clears its old forecasts."""


class FitChunkPorts(WithForecastSettings, WithSeries, WithForecasts, Protocol):
    """Reads one chunk of the series. Writes its forecasts."""


class ForecastGatePorts(WithForecastSettings, WithSeries, WithForecasts, WithAccuracy, WithGates, Protocol):
    """Reads series, forecasts, and the accuracy of past forecasts. Writes the gate's result."""


@dataclass(frozen=True, slots=True)
class FitSummary:
    """The number of keys in one chunk, and how many of them each model or fallback has forecast."""

    hour: datetime
    chunk: int
    keys: int
    models: dict[str, int]

    @property
    def fallbacks(self) -> int:
        """The number of keys that a fallback has forecast."""
        return sum(count for name, count in self.models.items() if name in FALLBACKS)


def prepare_chunks(ports: PrepareChunksPorts, hour: datetime) -> tuple[int, ...]:
    """Roll the history to ``hour``, save it as the hour's series and totals, and return the chunks to fit.

    Units without any access in the history are not forecast. Raise :class:`MissingStageResult` if ``hour`` was not counted.
    """
    if not ports.tallies.counts([hour]):
        raise MissingStageResult("tally", hour.isoformat(), "foreshard observe hour")
    history = build_history(ports, hour)
    ports.series.save_totals(hour, history.totals)
    chunks = ports.series.save(history.series, chunk_size(ports.forecast_settings), history.basis)
    ports.forecasts.begin(hour, chunks)
    return tuple(range(chunks))


def fit_chunk(ports: FitChunkPorts, hour: datetime, chunk: int) -> FitSummary:
    """Forecast the keys of one chunk, and replace the chunk's saved forecasts."""
    series = ports.series.load_chunk(hour, chunk)
    batch = forecast_keys(series.keys, series.costs, series.missing, hour, ports.forecast_settings)
    ports.forecasts.save_chunk(chunk, batch)
    models = {name: batch.models.count(name) for name in sorted(set(batch.models))}
    return FitSummary(hour, chunk, len(batch.keys), models)


def gate_forecasts(ports: ForecastGatePorts, hour: datetime) -> GateResult:
    """Check all forecasts of ``hour``, and return the result.

    Raise :class:`foreshard.errors.GateFailed` if they must not be used, and no person has accepted what is wrong with them.
    """
    from foreshard.quality.gates import check_forecasts

    settings = ports.forecast_settings
    keys: list[str] = []
    totals = np.zeros(settings.history_days * HOURS_PER_DAY)
    counted = np.zeros(len(totals), dtype=np.bool_)
    for series in ports.series.load(hour):
        keys.extend(series.keys)
        totals += np.nansum(series.costs, axis=0, dtype=np.float64)
        counted = series.counted
    result = check_forecasts(
        ports.forecasts.load(hour),
        keys,
        settings.horizon_hours,
        history_totals=totals[counted],
        fallback_models=DOUBTFUL,
        minimum_history_hours=settings.minimum_history_hours,
        past=_past_errors(ports, hour),
        docs=ports.data_docs,
    )
    return record_gate(ports.gates, result)


def _past_errors(ports: WithAccuracy, hour: datetime) -> list[tuple[float, float]]:
    """Return (error, the seasonal naive's error) of the forecasts whose horizons ended in the week up to ``hour``."""
    found = []
    for ended, models in ports.accuracy.latest(HOURS_PER_WEEK, until=hour):
        made, naive = (models.get(name, {}).get("wape") for name in (ALL, NAIVE))
        if made is not None and naive is not None and ended > hour - HOURS_PER_WEEK * ONE_HOUR:
            found.append((made, naive))
    return found
