"""The oracle's forecast. Every other policy forecasts as the forecast stage does (:mod:`foreshard.forecast.engine`)."""

from __future__ import annotations

import numpy as np

from foreshard.forecast.hourly.forecaster import HORIZON, KnownPast, LoadForecast
from foreshard.lab.log import ReplayLog
from foreshard.model import FloatArray


class TrueFuture:
    """The oracle: it knows the cost of every hour, or the true ``mean`` and ``sigma`` behind it if they are given."""

    def __init__(self, log: ReplayLog, mean: FloatArray | None = None, sigma: FloatArray | None = None) -> None:
        self._mean = log.costs if mean is None else mean
        self._sigma = sigma

    def ahead(self, past: KnownPast) -> LoadForecast:
        """Return the true next hours; after the end of the log, its last hour."""
        hours = np.minimum(past.now + np.arange(HORIZON), self._mean.shape[1] - 1)
        mean = self._mean[:, hours].astype(np.float64)
        sigma = np.zeros_like(mean) if self._sigma is None else self._sigma[:, hours].astype(np.float64)
        return LoadForecast(mean, sigma, 0.0)
