"""The correlation between the forecast errors of keys.

A common factor, such as weather or holidays, does not average out when keys are added.
"""

from __future__ import annotations

import numpy as np

from foreshard.model import HOURS_PER_WEEK, FloatArray

MINIMUM_SAMPLES = 24
"""With fewer common hours than this, errors count as independent."""

CORRELATED_KEYS = 400
"""The correlation is estimated from this many keys with the most load."""


def error_correlation(residuals: FloatArray) -> float:
    """Estimate the mean pairwise correlation of the rows of ``residuals`` (keys, hours), with NaN for unknown hours.

    With every row scaled to unit variance, E(Σᵢ zᵢ)² = n + n(n−1)ρ for n keys. ρ is solved from the mean over the hours (method
    of moments) and clipped to [0, 1]. It is 0 with fewer than two varying keys or ``MINIMUM_SAMPLES`` hours.
    """
    known = ~np.isnan(residuals).any(axis=0) if residuals.size else np.zeros(0, bool)
    sample = residuals[:, known]
    if sample.shape[1] < MINIMUM_SAMPLES:
        return 0.0
    deviation = sample.std(axis=1)
    varying = deviation > 0
    count = int(varying.sum())
    if count < 2:
        return 0.0
    scaled = (sample[varying] - sample[varying].mean(axis=1, keepdims=True)) / deviation[varying, None]
    together = float((scaled.sum(axis=0) ** 2).mean())
    return float(np.clip((together - count) / (count * (count - 1)), 0.0, 1.0))


def seasonal_residuals(costs: FloatArray) -> FloatArray:
    """Return ``costs`` (keys, hours) less each key's mean of the same hour of the week, or of the day below two weeks.

    They stand for the forecast errors of the past, since past forecasts are not kept. Unknown hours are NaN.
    """
    period = HOURS_PER_WEEK if costs.shape[1] >= 2 * HOURS_PER_WEEK else 24
    residuals = np.full_like(costs, np.nan)
    for slot in range(min(period, costs.shape[1])):
        columns = costs[:, slot::period]
        known = ~np.isnan(columns)
        counts = known.sum(axis=1, keepdims=True)
        mean = np.where(known, columns, 0.0).sum(axis=1, keepdims=True) / np.maximum(counts, 1)
        residuals[:, slot::period] = np.where(known & (counts > 1), columns - mean, np.nan)
    return residuals
