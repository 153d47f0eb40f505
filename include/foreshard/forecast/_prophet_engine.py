"""The engine ``prophet``: the library's own ``Prophet.fit``, key by key. It is slow, and serves as the reference.

Growth is linear from two weeks of history on, and flat below that. Prophet decides whether the history is long enough for
weekly and daily seasonality. Seasonality is multiplicative if a day's swing grows with its level. Prophet's own sampling of
uncertainty is off. Sigma comes from the residuals by hour of the day (:func:`~.spread.hourly_sigma`), because Prophet's single
``sigma_obs`` is too small at noon and too large at night. Means are clipped at zero.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from foreshard.forecast._configuration import plain
from foreshard.forecast._engine_result import EngineForecast
from foreshard.forecast.series import stamps
from foreshard.forecast.spread import hourly_sigma
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from prophet import Prophet

PROPHET = "prophet"
SWING_FOLLOWS_LEVEL = 0.5
"""Seasonality is multiplicative above this correlation between a day's mean and its standard deviation."""

EFFECTIVE_PARAMETERS = 20.0
"""Degrees of freedom used by a fit with daily and weekly terms: 8 + 6 Fourier terms, and about 6 for the damped trend."""

_log = logging.getLogger(__name__)


def fit_prophet(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, quantile: float) -> EngineForecast:
    """Forecast key by key. A key that fails is logged and does not affect the others."""
    del quantile
    shape = (len(costs), len(ahead))
    mean, sigma, done = np.zeros(shape), np.zeros(shape), np.zeros(len(costs), dtype=np.bool_)
    for row in range(len(costs)):
        try:
            mean[row], sigma[row] = _forecast_one(costs[row], observed[row], numbers, ahead)
        except Exception as error:  # Stan raises many kinds of errors; one key must not stop the others
            _log.warning("Prophet failed on series %d of the batch (%s); a fallback serves it", row, type(error).__name__)
            continue
        done[row] = bool(np.isfinite(mean[row]).all() and np.isfinite(sigma[row]).all())
    return EngineForecast(np.maximum(mean, 0.0), sigma, done)


def seasonality_mode(costs: FloatArray, observed: BoolArray) -> Literal["additive", "multiplicative"]:
    """``multiplicative`` if busier days of this key also swing more, else ``additive``. Only complete days are compared."""
    days = len(costs) // HOURS_PER_DAY
    by_day = costs[len(costs) - days * HOURS_PER_DAY :].reshape(days, HOURS_PER_DAY)
    complete = observed[len(costs) - days * HOURS_PER_DAY :].reshape(days, HOURS_PER_DAY).all(axis=1)
    level, swing = by_day[complete].mean(axis=1), by_day[complete].std(axis=1)
    if len(level) < HOURS_PER_WEEK // HOURS_PER_DAY or level.std() == 0 or swing.std() == 0:
        return "additive"
    return "multiplicative" if np.corrcoef(level, swing)[0, 1] > SWING_FOLLOWS_LEVEL else "additive"


def _forecast_one(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> tuple[FloatArray, FloatArray]:
    history = pd.DataFrame({"ds": stamps(numbers)[observed], "y": costs[observed]})
    span = int(np.ptp(numbers[observed])) + 1
    model = _new_prophet("linear" if span >= 2 * HOURS_PER_WEEK else "flat", seasonality_mode(costs, observed))
    try:
        model.fit(history)
        fitted = _evaluate(model, history["ds"])
        mean = _evaluate(model, pd.Series(stamps(ahead)))
    finally:
        model.stan_backend.cleanup()
    residuals = np.zeros((1, len(costs)))
    residuals[0, observed] = costs[observed] - fitted
    return mean, hourly_sigma(residuals, observed[None, :], numbers, ahead, EFFECTIVE_PARAMETERS)[0]


def _new_prophet(growth: str, mode: str) -> Prophet:
    return plain(growth, mode).new()


def _evaluate(model: Prophet, moments: pd.Series[pd.Timestamp]) -> FloatArray:
    values: FloatArray = model.predict(pd.DataFrame({"ds": moments}))["yhat"].to_numpy(dtype=np.float64)
    return values
