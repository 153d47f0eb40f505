"""How far off a forecast may be: standard deviations and upper quantiles."""

from __future__ import annotations

from functools import cache

import numpy as np

from foreshard.forecast.series import HOURS_PER_DAY, IntArray
from foreshard.model import BoolArray, FloatArray

PRIOR_OBSERVATIONS = 7.0
"""How many observations of its own an hour of the day needs before its spread counts as much as the whole series'."""


def hourly_sigma(
    residuals: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, parameters: float
) -> FloatArray:
    """Standard deviation of each horizon hour, (keys, H), from residuals (keys, T) at hour ``numbers`` (T,).

    The load of a busy hour varies more than a quiet one's: each hour of the day has a variance of its own, shrunk towards the
    series' overall variance as if that had been seen ``PRIOR_OBSERVATIONS`` times. ``parameters`` is the number of degrees of
    freedom that the model spent; a series with no more observations than that keeps the plain mean square.
    """
    squares = np.where(observed, residuals, 0.0) ** 2
    counts = observed.sum(axis=1)
    freedom = np.where(counts > parameters, counts - parameters, np.maximum(counts, 1))
    inflation = np.maximum(counts, 1) / freedom
    overall = squares.sum(axis=1) / freedom
    variance = np.empty((len(residuals), HOURS_PER_DAY))
    of_day = numbers % HOURS_PER_DAY
    for slot in range(HOURS_PER_DAY):
        at = of_day == slot
        seen = observed[:, at].sum(axis=1)
        total = squares[:, at].sum(axis=1) * inflation
        variance[:, slot] = (total + PRIOR_OBSERVATIONS * overall) / (seen + PRIOR_OBSERVATIONS)
    sigma: FloatArray = np.sqrt(variance[:, ahead % HOURS_PER_DAY])
    return sigma


@cache
def normal_quantile(quantile: float) -> float:
    """The standard normal quantile."""
    from scipy.special import ndtri

    return float(ndtri(quantile))


def normal_upper(mean: FloatArray, sigma: FloatArray, quantile: float) -> FloatArray:
    """The upper quantile of a normal forecast, never below zero or the mean."""
    upper: FloatArray = np.maximum(mean + normal_quantile(quantile) * sigma, np.maximum(mean, 0.0))
    return upper
