"""The engine ``batched``: Prophet's model, fitted to all keys at once (:mod:`._map_batch`).

It chooses growth and seasonality mode like the engine ``prophet``, and takes sigma from the residuals in the same way. The two
engines differ only in speed.
"""

from __future__ import annotations

import numpy as np

from foreshard.forecast._configuration import plain
from foreshard.forecast._engine_result import EngineForecast
from foreshard.forecast._map_batch import fit_batch
from foreshard.forecast._prophet_engine import EFFECTIVE_PARAMETERS, seasonality_mode
from foreshard.forecast.spread import hourly_sigma
from foreshard.model import HOURS_PER_WEEK, BoolArray, FloatArray, IntArray

BATCHED = "batched"


def fit_batched(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, quantile: float) -> EngineForecast:
    """Forecast all keys at once."""
    del quantile
    shape = (len(costs), len(ahead))
    mean, sigma, done = np.zeros(shape), np.zeros(shape), np.zeros(len(costs), dtype=np.bool_)
    for growth, mode, rows in _kinds(costs, observed, numbers):
        batch = fit_batch(plain(growth, mode), costs[rows], observed[rows], numbers, ahead)
        mean[rows] = np.maximum(batch.forecast()[0], 0.0)
        residuals = np.where(observed[rows], costs[rows] - batch.fitted(), 0.0)
        sigma[rows] = hourly_sigma(residuals, observed[rows], numbers, ahead, EFFECTIVE_PARAMETERS)
        done[rows] = ~batch.failed & np.isfinite(mean[rows]).all(axis=1) & np.isfinite(sigma[rows]).all(axis=1)
    return EngineForecast(mean, sigma, done)


def _kinds(costs: FloatArray, observed: BoolArray, numbers: IntArray) -> list[tuple[str, str, IntArray]]:
    """Group the rows by growth and seasonality mode: (growth, mode, rows)."""
    if not len(costs):
        return []
    long = _spans(observed, numbers) >= 2 * HOURS_PER_WEEK
    modes = np.array([seasonality_mode(series, seen) for series, seen in zip(costs, observed, strict=True)])
    kinds = [
        (growth, mode, np.flatnonzero((long == (growth == "linear")) & (modes == mode)))
        for growth in ("linear", "flat")
        for mode in ("additive", "multiplicative")
    ]
    return [kind for kind in kinds if len(kind[2])]


def _spans(observed: BoolArray, numbers: IntArray) -> IntArray:
    """Hours from the first to the last observation, per series."""
    first = observed.argmax(axis=1)
    last = observed.shape[1] - 1 - observed[:, ::-1].argmax(axis=1)
    spans: IntArray = numbers[last] - numbers[first] + 1
    return spans
