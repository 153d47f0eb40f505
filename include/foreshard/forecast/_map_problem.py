"""Prophet's maximum a posteriori problem: its parameters, its objective, and the noise level in closed form.

Minimised over trend (k, m, δ), coefficients β and noise σ, on ``y`` scaled as Prophet scales it, with n observations:

    ‖y − trend·(1 + X_m β) − X_a β‖² / 2σ² + n log σ + (k² + m²)/2·5² + Σ|δ|/τ + Σ β²/2s² + σ²/2·0.5²
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast._design import TREND_PRIOR_SCALE, Design
from foreshard.model import BoolArray, FloatArray

NOISE_PRIOR = 0.5
"""Scale of Prophet's half-normal prior on sigma_obs."""

LEAST_VARIANCE = 1e-12
"""A perfect fit would drive the noise to zero and the objective to minus infinity; it stops here."""

GAP_TOLERANCE = 1e-4
"""How far above its minimum a key's objective may stand, in log-posterior units, for the key to count as converged."""


@dataclass(frozen=True)
class MapFit:
    """Parameters in Prophet's scaled units, a row per series; ``delta`` (K, S), ``beta`` (K, B), the others (K,).

    ``gap`` bounds how far the objective stands above its minimum, or is its last decrease where the model is multiplicative;
    ``converged`` is measured, never assumed.
    """

    k: FloatArray
    m: FloatArray
    delta: FloatArray
    beta: FloatArray
    variance: FloatArray
    gap: FloatArray
    converged: BoolArray

    def rows(self, which: slice | BoolArray) -> MapFit:
        """Some of the series."""
        return MapFit(*(getattr(self, name)[which] for name in _FIELDS))


_FIELDS = ("k", "m", "delta", "beta", "variance", "gap", "converged")


def join_fits(fits: list[MapFit]) -> MapFit:
    """Fits of one design, one after another."""
    return MapFit(*(np.concatenate([getattr(fit, name) for fit in fits]) for name in _FIELDS))


def noise_variance(squares: FloatArray, count: int) -> FloatArray:
    """The variance that minimises the objective, from the sum of squared residuals: ``4s² + ns − R = 0`` for s = σ²."""
    half = 0.5 / NOISE_PRIOR**2
    positive = np.maximum(squares, 0.0)
    root = 2.0 * positive / (count + np.sqrt(count**2 + 8.0 * half * positive))
    variance: FloatArray = np.maximum(root, LEAST_VARIANCE)
    return variance


def trend(design: Design, fit: MapFit, times: FloatArray) -> FloatArray:
    """The scaled trend (K, T) at scaled ``times``."""
    level = fit.k[:, None] * times[None, :] + fit.m[:, None] if design.rate else np.repeat(fit.m[:, None], len(times), axis=1)
    values: FloatArray = level + fit.delta @ design.hinges(times).T
    return values


def seasonal(design: Design, fit: MapFit, features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Additive and multiplicative terms (K, T), from ``features`` (T, B)."""
    beta, a, m = fit.beta, design.additive, design.multiplicative
    return beta[:, a] @ features[:, a].T, beta[:, m] @ features[:, m].T


def evaluate(design: Design, fit: MapFit, *, future: bool) -> FloatArray:
    """The scaled mean (K, T or H) over the history or the future."""
    times, features = (design.future_times, design.future_features) if future else (design.times, design.features)
    added, multiplied = seasonal(design, fit, features)
    mean: FloatArray = trend(design, fit, times) * (1.0 + multiplied) + added
    return mean


def objective(design: Design, fit: MapFit, scaled: FloatArray) -> FloatArray:
    """The negative log posterior (K,) as Stan counts it, for the scaled series (K, T)."""
    squares = ((scaled - evaluate(design, fit, future=False)) ** 2).sum(axis=1)
    return from_squares(design, fit, squares, scaled.shape[1])


def from_squares(design: Design, fit: MapFit, squares: FloatArray, count: int) -> FloatArray:
    """The objective from the sum of squared residuals (K,) over ``count`` observations."""
    trend_prior = (fit.k**2 + fit.m**2) / (2 * TREND_PRIOR_SCALE**2)
    change_prior = np.abs(fit.delta).sum(axis=1) / design.changepoint_prior_scale
    feature_prior = ((fit.beta / design.prior_scales) ** 2).sum(axis=1) / 2
    noise = count / 2 * np.log(fit.variance) + fit.variance / (2 * NOISE_PRIOR**2)
    total: FloatArray = squares / (2 * fit.variance) + noise + trend_prior + change_prior + feature_prior
    return total
