"""Forecast straight from a log file, without Airflow or a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from foreshard.errors import ConfigurationError
from foreshard.forecast.engine import chunk_size, forecast_keys
from foreshard.forecast.series import build_series
from foreshard.model import ONE_HOUR, ForecastBatch

if TYPE_CHECKING:
    from foreshard.wiring import Wiring

Progress = Callable[[int, int], None]
"""progress(done, of)."""


@dataclass(frozen=True, slots=True)
class FitLogSummary:
    """What a forecast of a log file came to."""

    hour: datetime
    keys: int
    models: dict[str, int]
    left_out: dict[str, int]
    output: Path


def fit_log(wiring: Wiring, log: Path, output: Path, hour: datetime | None, progress: Progress) -> FitLogSummary:
    """Forecast every key of ``log`` for the hours after ``hour`` (its last hour) and write ``output`` (.parquet or .csv).

    The output has the columns ``partitionable_key, hour, mean, sigma, upper, model``, one row per key and horizon hour.
    """
    if output.suffix not in (".parquet", ".csv"):
        raise ConfigurationError("--output", f"{output.name} is neither .parquet nor .csv", "name the file so")
    counted = wiring.log_files.count(log)
    hour = hour or counted.last
    settings = wiring.settings.forecast
    series = build_series(counted.load, counted.hours(), hour, settings.history_days)
    size = chunk_size(settings)
    batches = []
    for start in range(0, len(series.keys), size):
        rows = series.rows(start, start + size)
        batches.append(forecast_keys(rows.keys, rows.costs, rows.missing, hour, settings))
        progress(start + len(rows.keys), len(series.keys))
    table = pd.concat([_as_table(batch) for batch in batches]) if batches else _as_table_of_none()
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".csv":
        table.to_csv(output, index=False)
    else:
        table.to_parquet(output, index=False)
    models = [model for batch in batches for model in batch.models]
    counts = {name: models.count(name) for name in sorted(set(models))}
    return FitLogSummary(hour, len(series.keys), counts, dict(counted.left_out), output)


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


def _as_table_of_none() -> pd.DataFrame:
    return pd.DataFrame(columns=["partitionable_key", "hour", "mean", "sigma", "upper", "model"])
