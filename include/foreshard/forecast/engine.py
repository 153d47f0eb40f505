"""Forecasts by a named engine, with fallbacks for keys that the engine cannot serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from foreshard.errors import UnknownEngine
from foreshard.forecast._batched_engine import BATCHED, fit_batched
from foreshard.forecast._engine_result import EngineForecast
from foreshard.forecast._hourly_engine import BLENDED, SEASONAL, SHAPES, fit_blended, fit_seasonal
from foreshard.forecast._prophet_engine import PROPHET, fit_prophet
from foreshard.forecast.fallback import fallback_forecast
from foreshard.forecast.hourly.forecaster import HORIZON, HourlyForecaster
from foreshard.forecast.hourly.shapes import FittedDay
from foreshard.forecast.series import history_numbers, horizon_numbers
from foreshard.forecast.spread import normal_upper
from foreshard.model import BoolArray, FloatArray, ForecastBatch, IntArray

CostArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Fit = Callable[[FloatArray, BoolArray, IntArray, IntArray, float], EngineForecast]


class EngineSettings(Protocol):
    """The settings that engines use, as in ``foreshard.settings.ForecastSettings``."""

    @property
    def engine(self) -> str: ...  # noqa: D102

    @property
    def chunk_keys(self) -> int: ...  # noqa: D102

    @property
    def horizon_hours(self) -> int: ...  # noqa: D102

    @property
    def quantile(self) -> float: ...  # noqa: D102

    @property
    def minimum_history_hours(self) -> int: ...  # noqa: D102


BATCH_KEYS = 8192
"""Keys per task for engines that fit all keys at once: a few seconds of work and about 400 MB."""

ENGINES: dict[str, Fit] = {PROPHET: fit_prophet, BATCHED: fit_batched, BLENDED: fit_blended, SEASONAL: fit_seasonal}
"""Engine name → fit(costs, observed, numbers, ahead, quantile)."""


def forecast_keys(
    keys: Sequence[str], costs: CostArray, missing: BoolArray, hour: datetime, settings: EngineSettings
) -> ForecastBatch:
    """Forecast each key for the ``horizon_hours`` after ``hour``.

    ``costs`` (keys, T) end with ``hour``. They are unknown where ``missing`` (keys, T) or not finite. A key with too little
    history or no variation gets a named fallback (:mod:`.fallback`), as does a key on which the engine fails. Raise
    :class:`foreshard.errors.UnknownEngine` if the engine does not exist.
    """
    if settings.engine not in ENGINES:
        raise UnknownEngine(settings.engine, tuple(ENGINES))
    observed = ~missing & np.isfinite(costs)
    known: FloatArray = np.where(observed, costs, 0.0).astype(np.float64)
    numbers, ahead = history_numbers(hour, costs.shape[1]), horizon_numbers(hour, settings.horizon_hours)
    shape = (len(keys), len(ahead))
    mean, sigma, upper = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    models = np.full(len(keys), settings.engine, dtype=object)
    correlation: float | None = None
    rows = np.flatnonzero(_fittable(known, observed, settings.minimum_history_hours))
    if len(rows):
        made = ENGINES[settings.engine](known[rows], observed[rows], numbers, ahead, settings.quantile)
        mean[rows], sigma[rows], correlation = made.mean, made.sigma, made.correlation
        upper[rows] = normal_upper(made.mean, made.sigma, settings.quantile) if made.upper is None else made.upper
        if made.labels is not None:
            models[rows] = made.labels
        rows = rows[made.done]
    rest = np.setdiff1d(np.arange(len(keys)), rows)
    if len(rest):
        fallback = fallback_forecast(known[rest], observed[rest], numbers, ahead)
        mean[rest], sigma[rest] = fallback.mean, fallback.sigma
        upper[rest] = normal_upper(fallback.mean, fallback.sigma, settings.quantile)
        models[rest] = np.array(fallback.names, dtype=object)
    return ForecastBatch(hour, settings.quantile, tuple(keys), mean, sigma, upper, tuple(models), correlation)


def hourly_forecaster(engine: str, window_hours: int, epoch_hour: int, horizon: int = HORIZON) -> HourlyForecaster:
    """Return the forecaster of an engine for use hour after hour, as the lab does: fitted daily, and carried by the hour.

    It is fitted to ``window_hours`` hours. ``epoch_hour``: the past's hour 0, in hours since 1970. In the forecast stage,
    ``blended`` and ``seasonal`` are this forecaster too; the daily fits of the others are carried here only. Raise
    :class:`foreshard.errors.UnknownEngine` if the engine does not exist.
    """
    if engine not in ENGINES:
        raise UnknownEngine(engine, tuple(ENGINES))
    shape = SHAPES[engine]() if engine in SHAPES else FittedDay(engine, ENGINES[engine])
    return HourlyForecaster(shape, window_hours, epoch_hour, horizon)


def chunk_size(settings: EngineSettings) -> int:
    """Keys per task: ``chunk_keys`` for the engine that fits key by key, else ``BATCH_KEYS``."""
    return settings.chunk_keys if settings.engine == PROPHET else BATCH_KEYS


def _fittable(costs: FloatArray, observed: BoolArray, minimum_history_hours: int) -> BoolArray:
    """Return which keys have enough observations and are not constant."""
    low = np.where(observed, costs, np.inf).min(axis=1, initial=np.inf)
    high = np.where(observed, costs, -np.inf).max(axis=1, initial=-np.inf)
    enough: BoolArray = (observed.sum(axis=1) >= minimum_history_hours) & (high > low)
    return enough
