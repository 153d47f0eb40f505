"""Accuracy figures of forecasts against actual costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from foreshard.forecast._quantiles import pinball
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, FloatArray

_SUMS = ("error", "actual", "pinball", "covered", "hours", "scaled", "series", "bias")


def naive_scale(costs: FloatArray) -> FloatArray:
    """Return the mean absolute error (K,) of the seasonal naive forecast within the history, the denominator of MASE."""
    period = HOURS_PER_WEEK if costs.shape[1] >= 2 * HOURS_PER_WEEK else HOURS_PER_DAY
    if costs.shape[1] <= period:
        return np.zeros(len(costs))
    scale: FloatArray = np.abs(costs[:, period:] - costs[:, :-period]).mean(axis=1)
    return scale


@dataclass
class Accuracy:
    """Sums the errors of forecasts. ``figures`` returns

    ``wape``      Σ|error| ÷ Σ actual
    ``mase``      mean over series and origins of mean |error| ÷ mean |error| of the seasonal naive forecast in the history
    ``pinball``   Σ pinball loss at the quantile ÷ Σ actual
    ``coverage``  the share of hours at or below the upper quantile
    ``bias``      Σ(forecast − actual) ÷ Σ actual
    """

    quantile: float
    seconds: float = 0.0
    _sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0.0))

    def add(self, mean: FloatArray, upper: FloatArray, actual: FloatArray, scale: FloatArray) -> None:
        """Add one origin: ``mean``, ``upper``, ``actual`` (K, H), and ``scale`` (K,) from :func:`naive_scale`."""
        errors = np.abs(mean - actual)
        scaled = errors.mean(axis=1)[scale > 0] / scale[scale > 0]
        new = {
            "error": errors.sum(),
            "actual": actual.sum(),
            "pinball": pinball(actual, upper, self.quantile).sum(),
            "covered": (actual <= upper).sum(),
            "hours": actual.size,
            "scaled": scaled.sum(),
            "series": len(scaled),
            "bias": (mean - actual).sum(),
        }
        for name, value in new.items():
            self._sums[name] += float(value)

    def figures(self) -> Mapping[str, float | None]:
        """Return the figures by name; None if the denominator is 0."""
        sums = self._sums

        def ratio(part: str, whole: str) -> float | None:
            return sums[part] / sums[whole] if sums[whole] > 0 else None

        return {
            "wape": ratio("error", "actual"),
            "mase": ratio("scaled", "series"),
            "pinball": ratio("pinball", "actual"),
            "coverage": ratio("covered", "hours"),
            "bias": ratio("bias", "actual"),
            "seconds": round(self.seconds, 3),
        }
