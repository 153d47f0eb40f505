"""Forecast from a log file, without Airflow or a database."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from foreshard.errors import ConfigurationError
from foreshard.forecast.engine import chunk_size, forecast_keys
from foreshard.forecast.series import build_series
from foreshard.model import ONE_HOUR, ForecastBatch
from foreshard.stages._ports import WithForecastSettings, WithLogFiles

if TYPE_CHECKING:
    from foreshard.model import SeriesMatrix
    from foreshard.settings import ForecastSettings

WAITING_CHUNKS = 8
"""Chunks that wait in the pool at once. Each is in memory twice."""

StepProgress = Callable[[int, int], None]
"""Called with (done, total)."""
"""progress(done, of)."""


class FitLogPorts(WithForecastSettings, WithLogFiles, Protocol):
    """Reads a log file. Writes a file of forecasts."""


@dataclass(frozen=True, slots=True)
class FitLogSummary:
    """The result of forecasting a log file. ``models`` counts keys; ``left_out`` and ``assumed`` count records."""

    hour: datetime
    keys: int
    models: dict[str, int]
    left_out: dict[str, int]
    assumed: dict[str, int]
    output: Path


def fit_log(
    ports: FitLogPorts, log: Path, output: Path, hour: datetime | None, progress: StepProgress, processes: int | None = None
) -> FitLogSummary:
    """Forecast every key of ``log`` for the hours after ``hour``, by default its last one, and write ``output``.

    ``output`` is a .parquet or .csv file with the columns ``partitionable_key, hour, mean, sigma, upper, model``, one row per
    key and horizon hour. ``processes``: one per processor by default.
    """
    if output.suffix not in (".parquet", ".csv"):
        raise ConfigurationError("--output", f"{output.name} is not a .parquet or .csv file", "use one of these extensions")
    counted = ports.log_files.count(log)
    hour = hour or counted.last
    settings = ports.forecast_settings
    series = build_series(counted.load, counted.hours(), hour, settings.history_days)
    batches: list[ForecastBatch] = []
    for batch in _forecasts(series, chunk_size(settings), settings, processes):
        batches.append(batch)
        progress(sum(len(made.keys) for made in batches), len(series.keys))
    table = pd.concat([_as_table(batch) for batch in batches]) if batches else _empty_table()
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".csv":
        table.to_csv(output, index=False)
    else:
        table.to_parquet(output, index=False)
    models = [model for batch in batches for model in batch.models]
    counts = {name: models.count(name) for name in sorted(set(models))}
    return FitLogSummary(hour, len(series.keys), counts, dict(counted.left_out), dict(counted.assumed), output)


def _forecasts(series: SeriesMatrix, size: int, settings: ForecastSettings, processes: int | None) -> Iterator[ForecastBatch]:
    """Yield the forecasts chunk by chunk, in order. Several chunks are forecast in several processes."""
    chunks = (series.rows(start, start + size) for start in range(0, len(series.keys), size))
    if len(series.keys) <= size or processes == 1:
        yield from (_forecast(chunk, settings) for chunk in chunks)
        return
    with ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn")) as pool:
        waiting: deque[Future[ForecastBatch]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_forecast, chunk, settings))
            if len(waiting) > WAITING_CHUNKS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _forecast(series: SeriesMatrix, settings: ForecastSettings) -> ForecastBatch:
    return forecast_keys(series.keys, series.costs, series.missing, series.hour, settings)


def _as_table(batch: ForecastBatch) -> pd.DataFrame:
    count, horizon = batch.mean.shape
    hours = pd.DatetimeIndex([batch.hour + (i + 1) * ONE_HOUR for i in range(horizon)])
    return pd.DataFrame(
        {
            "partitionable_key": np.repeat(np.array(batch.keys, dtype=object), horizon),
            "hour": np.tile(hours, count),
            "mean": batch.mean.reshape(-1),
            "sigma": batch.sigma.reshape(-1),
            "upper": batch.upper.reshape(-1),
            "model": np.repeat(np.array(batch.models, dtype=object), horizon),
        }
    )


def _empty_table() -> pd.DataFrame:
    return pd.DataFrame(columns=["partitionable_key", "hour", "mean", "sigma", "upper", "model"])
