"""The choice of an engine by name, and what every engine's result goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from foreshard.errors import UnknownEngine
from foreshard.forecast.batched_engine import BATCHED, fit_batched
from foreshard.forecast.fallback import fallback_forecast
from foreshard.forecast.prophet_engine import PROPHET, fit_prophet
from foreshard.forecast.series import IntArray, history_numbers, horizon_numbers
from foreshard.forecast.spread import normal_upper
from foreshard.model import BoolArray, FloatArray, ForecastBatch

CostArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Fit = Callable[[FloatArray, BoolArray, IntArray, IntArray], tuple[FloatArray, FloatArray, BoolArray]]


class EngineSettings(Protocol):
    """What an engine needs to know (``foreshard.settings.ForecastSettings`` has it)."""

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


BATCH_KEYS = 4096
"""Keys per task for engines that fit them all at once: a few seconds of work, and 30 MB of series."""

ENGINES: dict[str, Fit] = {PROPHET: fit_prophet, BATCHED: fit_batched}
"""Engine name → fit(costs, observed, numbers, ahead) → mean, sigma (keys, H) and which keys succeeded."""


def forecast_keys(
    keys: Sequence[str], costs: CostArray, missing: BoolArray, hour: datetime, settings: EngineSettings
) -> ForecastBatch:
    """Forecast each key for the ``horizon_hours`` after ``hour``.

    ``costs`` (keys, T) end with ``hour``; where ``missing`` (keys, T) or not finite they are unknown. A key with too little
    history, without any variation, or on which the engine fails is served by a named fallback; see :mod:`.fallback`.
    """
    if settings.engine not in ENGINES:
        raise UnknownEngine(settings.engine, tuple(ENGINES))
    observed = ~missing & np.isfinite(costs)
    known: FloatArray = np.where(observed, costs, 0.0).astype(np.float64)
    numbers, ahead = history_numbers(hour, costs.shape[1]), horizon_numbers(hour, settings.horizon_hours)
    fit = np.flatnonzero(_fittable(known, observed, settings.minimum_history_hours))
    mean, sigma, done = ENGINES[settings.engine](known[fit], observed[fit], numbers, ahead)
    models = np.full(len(keys), settings.engine, dtype=object)
    all_mean, all_sigma = np.zeros((len(keys), len(ahead))), np.zeros((len(keys), len(ahead)))
    all_mean[fit[done]], all_sigma[fit[done]] = mean[done], sigma[done]
    rest = np.setdiff1d(np.arange(len(keys)), fit[done])
    if len(rest):
        fallback = fallback_forecast(known[rest], observed[rest], numbers, ahead)
        all_mean[rest], all_sigma[rest], models[rest] = fallback.mean, fallback.sigma, np.array(fallback.names, dtype=object)
    upper = normal_upper(all_mean, all_sigma, settings.quantile)
    return ForecastBatch(hour, settings.quantile, tuple(keys), all_mean, all_sigma, upper, tuple(models))


def chunk_size(settings: EngineSettings) -> int:
    """How many keys one task forecasts: ``chunk_keys`` for the engine that takes them one by one, else ``BATCH_KEYS``."""
    return settings.chunk_keys if settings.engine == PROPHET else BATCH_KEYS


def _fittable(costs: FloatArray, observed: BoolArray, minimum_history_hours: int) -> BoolArray:
    """Which keys have enough observations, and are not constant."""
    low = np.where(observed, costs, np.inf).min(axis=1, initial=np.inf)
    high = np.where(observed, costs, -np.inf).max(axis=1, initial=-np.inf)
    enough: BoolArray = (observed.sum(axis=1) >= minimum_history_hours) & (high > low)
    return enough
