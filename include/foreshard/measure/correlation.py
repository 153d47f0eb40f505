"""How much the keys' forecast errors move together: a common factor (weather, holidays) is not averaged away by adding keys."""

from __future__ import annotations

import numpy as np

from foreshard.model import FloatArray

MINIMUM_SAMPLES = 24
"""Fewer common hours than this say too little; the errors count as independent then."""

HOURS_PER_WEEK = 168


def error_correlation(residuals: FloatArray) -> float:
    """Estimate the mean pairwise correlation of the rows of ``residuals`` (keys, hours), NaN where an hour is unknown.

    With every row scaled to unit variance, E(Σᵢ zᵢ)² = n + n(n−1)ρ for n keys; ρ is solved from its mean over the hours
    (method of moments) and clipped to [0, 1]. Without two varying keys and ``MINIMUM_SAMPLES`` hours it is 0.
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
    """Return ``costs`` (keys, hours) less each key's mean of the same hour of the week (of the day, below two weeks).

    The stand-in for forecast errors where no past forecasts are kept; unknown hours stay NaN.
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
