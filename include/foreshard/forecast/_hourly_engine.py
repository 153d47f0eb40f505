"""The engines ``blended`` and ``seasonal``: the forecaster of :mod:`.hourly`, built from a history.

The forecaster replays its learning over the last ``WARM_UP_DAYS``, so a run needs nothing but the history. The lab keeps the
same forecaster from hour to hour instead. Errors are pooled over keys, so a key's forecast depends slightly on the keys
forecast in the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foreshard.forecast._engine_result import EngineForecast
from foreshard.forecast.hourly.blended_days import BlendedDays
from foreshard.forecast.hourly.forecaster import HORIZON, HourlyForecaster
from foreshard.forecast.hourly.shapes import DailyShape, SimilarDays
from foreshard.model import BoolArray, FloatArray, IntArray

BLENDED, SEASONAL = "blended", "seasonal"
SHAPES: dict[str, Callable[[], DailyShape]] = {BLENDED: BlendedDays, SEASONAL: SimilarDays}
"""Engine name → its daily shape."""


@dataclass(frozen=True)
class _History:
    """A history (K, T) as a past whose last hour is the present."""

    costs: FloatArray

    @property
    def now(self) -> int:
        return int(self.costs.shape[1])

    @property
    def keys(self) -> range:
        return range(len(self.costs))

    def before(self, hour: int, hours: int) -> FloatArray:
        return self.costs[:, max(0, hour - hours) : hour]


def fit_blended(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, quantile: float) -> EngineForecast:
    """Forecast all keys by the blended shape. The labels name the candidate with the largest weight for each key."""
    return _carried(BLENDED, costs, observed, numbers, ahead, quantile)


def fit_seasonal(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, quantile: float) -> EngineForecast:
    """Forecast all keys by the mean of similar days."""
    return _carried(SEASONAL, costs, observed, numbers, ahead, quantile)


def _carried(
    name: str, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, quantile: float
) -> EngineForecast:
    shape = SHAPES[name]()
    forecaster = HourlyForecaster(shape, len(numbers), int(numbers[0]), max(len(ahead), HORIZON))
    made = forecaster.ahead(_History(np.where(observed, costs, np.nan)))
    wanted = slice(0, len(ahead))
    mean, sigma, upper = made.mean[:, wanted], made.sigma[:, wanted], forecaster.upper(made, quantile)[:, wanted]
    done = np.asarray(np.isfinite(mean + sigma + upper).all(axis=1))
    labels = tuple(f"{name}/{part}" for part in shape.leading(len(costs)))
    return EngineForecast(mean, sigma, done, upper, labels, made.correlation)
