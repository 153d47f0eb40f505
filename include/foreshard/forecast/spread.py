"""Standard deviations and upper quantiles of forecasts."""

from __future__ import annotations

from functools import cache

import numpy as np

from foreshard.model import HOURS_PER_DAY, BoolArray, FloatArray, IntArray

PRIOR_OBSERVATIONS = 7.0
"""The number of observations at which an hour's own variance has the same weight as the variance of the whole series."""


def hourly_sigma(
    residuals: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, parameters: float
) -> FloatArray:
    """Return the standard deviation of each horizon hour (keys, H), from residuals (keys, T) at hour ``numbers`` (T,).

    Busy hours vary more than quiet ones, so each hour of the day has its own variance. It is shrunk towards the variance of the
    whole series, which counts as ``PRIOR_OBSERVATIONS`` observations. ``parameters`` is the number of degrees of freedom that
    the model used; it is not subtracted for series with no more observations than that.
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
    """Return the standard normal quantile."""
    from scipy.special import ndtri

    return float(ndtri(quantile))


def normal_upper(mean: FloatArray, sigma: FloatArray, quantile: float) -> FloatArray:
    """Return the upper quantile of a normal forecast, at least the mean and at least zero."""
    upper: FloatArray = np.maximum(mean + normal_quantile(quantile) * sigma, np.maximum(mean, 0.0))
    return upper
