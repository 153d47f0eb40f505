"""Prophet's forecast uncertainty in closed form, where Prophet samples it.

Prophet lets the slope change in each future step with probability p = S·Δ by a Laplace step of scale λ = mean|δ| + 1e-8 (S
changepoints, Δ the step in scaled time). A change in step i moves the trend of step h ≥ i by Δ·(h − i + ½) times its size, so
that

    Var(trend_h) = Δ² · p · 2λ² · Σᵢ (h − i + ½)²     and     Var(y_h) = (1 + X_m β)² Var(trend_h) + σ²

in scaled units; the changes are independent and have mean zero, so this is exact for the variance.
"""

from __future__ import annotations

import numpy as np

from foreshard.forecast._design import Design
from foreshard.forecast._map_problem import MapFit, seasonal
from foreshard.model import FloatArray

_EPSILON = 1e-8


def trend_variance(design: Design, fit: MapFit) -> FloatArray:
    """Variance (K, H) of the scaled future trend; zero without a slope or for hours that are not in the future."""
    ahead = design.future_times > 1.0
    steps = np.cumsum(ahead)
    variance = np.zeros((len(fit.k), len(design.future_times)))
    if not design.rate or not ahead.any():
        return variance
    count = int(steps[-1])
    times = design.future_times[ahead]
    step = float(np.diff(times).mean()) if count > 1 else float(np.diff(design.times).mean())
    changes = max(1, len(design.changepoints))
    likelihood = min(1.0, changes * step)
    size = (np.abs(fit.delta).mean(axis=1) if fit.delta.shape[1] else np.zeros(len(fit.k))) + _EPSILON
    reach = np.cumsum((np.arange(count) + 0.5) ** 2)
    variance[:, ahead] = (step**2 * likelihood * 2.0) * size[:, None] ** 2 * reach[None, :]
    return variance


def future_variance(design: Design, fit: MapFit) -> FloatArray:
    """Variance (K, H) of a future observation, scaled: the trend's, carried by the multiplicative terms, and the noise."""
    variance = trend_variance(design, fit)
    if design.is_multiplicative:
        variance *= (1.0 + seasonal(design, fit, design.future_features)[1]) ** 2
    variance += fit.variance[:, None]
    return variance
