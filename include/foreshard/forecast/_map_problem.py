"""Prophet's maximum a posteriori problem: its design, parameters, objective, noise and forecast uncertainty.

The objective is minimised over the trend (k, m, δ), the coefficients β and the noise σ. ``y`` is scaled as Prophet scales it:

    ‖y − trend·(1 + X_m β) − X_a β‖² / 2σ² + n log σ + (k² + m²)/2·5² + Σ|δ|/τ + Σ β²/2s² + σ²/2·0.5²

The design (X_m, X_a, the changepoints and all prior scales) is taken from a ``Prophet`` object, so that object's arguments mean
what Prophet's documentation says. All series that were observed in the same hours share one design.

Prophet samples its forecast uncertainty; here it has a closed form. Prophet changes the slope in each future step with
probability p = S·Δ by a Laplace step of scale λ = mean|δ| + 1e-8 (S changepoints, Δ the step in scaled time). A change in step
i moves the trend of step h ≥ i by Δ·(h − i + ½) times its size. The changes are independent with mean zero, so exactly

    Var(trend_h) = Δ² · p · 2λ² · Σᵢ (h − i + ½)²     and     Var(y_h) = (1 + X_m β)² Var(trend_h) + σ²     (in scaled units)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foreshard.errors import UnsupportedModel
from foreshard.model import BoolArray, FloatArray

if TYPE_CHECKING:
    from prophet import Prophet

TREND_PRIOR_SCALE = 5.0
"""Prophet's prior scale of the growth rate ``k`` and the offset ``m``."""

NOISE_PRIOR = 0.5
"""Scale of Prophet's half-normal prior on sigma_obs."""

LEAST_VARIANCE = 1e-12
"""Lower bound of σ². Without it, a perfect fit would drive the objective to minus infinity."""

GAP_TOLERANCE = 1e-4
"""A key counts as converged if its objective is at most this far above its minimum, in log-posterior units."""

_LEAST_CHANGE = 1e-8
"""Prophet adds this to the scale of future slope changes."""


@dataclass(frozen=True)
class Design:
    """The regressors of Prophet's model in scaled time: T observed hours, H future hours, S changepoints, B features.

    ``rate``: the trend has a slope (linear growth), which changes at the ``changepoints``. ``additive`` and ``multiplicative``
    (B,): how each feature enters. ``prior_scales`` (B,) and ``changepoint_prior_scale``: the priors.
    """

    times: FloatArray
    future_times: FloatArray
    changepoints: FloatArray
    rate: bool
    features: FloatArray
    future_features: FloatArray
    additive: BoolArray
    multiplicative: BoolArray
    prior_scales: FloatArray
    changepoint_prior_scale: float

    @property
    def is_multiplicative(self) -> bool:
        """Whether any feature multiplies the trend."""
        return bool(self.multiplicative.any())

    def base(self, times: FloatArray) -> FloatArray:
        """Return the trend's unpenalised columns: slope and offset, or the offset alone; (T, 2) or (T, 1)."""
        return np.column_stack([times, np.ones_like(times)]) if self.rate else np.ones((len(times), 1))

    def hinges(self, times: FloatArray) -> FloatArray:
        """Return the trend's changes of slope, one column per changepoint, (T, S)."""
        return np.maximum(times[:, None] - self.changepoints[None, :], 0.0)


def build_design(make: Callable[[], Prophet], history: pd.DataFrame, future: pd.DataFrame) -> Design:
    """Build the design of ``make()`` for the frames ``history`` and ``future``.

    The frames have ``ds`` and the columns of conditions and regressors. Raise
    :class:`foreshard.errors.UnsupportedModel` for arguments that the batched solver does not support.
    """
    model: Any = make()
    _require_supported(model)
    frame = history.copy()
    frame["y"] = np.arange(len(frame), dtype=np.float64)
    inputs = model.preprocess(frame)
    prepared = model.setup_dataframe(future.copy())
    future_features = model.make_all_seasonality_features(prepared)[0]
    rate = model.growth == "linear"
    hinged = rate and len(model.changepoints) > 0
    return Design(
        times=np.asarray(inputs.t, dtype=np.float64),
        future_times=prepared["t"].to_numpy(dtype=np.float64),
        changepoints=np.asarray(inputs.t_change, dtype=np.float64) if hinged else np.zeros(0),
        rate=rate,
        features=np.asarray(inputs.X, dtype=np.float64),
        future_features=np.asarray(future_features, dtype=np.float64),
        additive=np.asarray(inputs.s_a) == 1,
        multiplicative=np.asarray(inputs.s_m) == 1,
        prior_scales=np.asarray(inputs.sigmas, dtype=np.float64),
        changepoint_prior_scale=float(inputs.tau),
    )


def _require_supported(model: Any) -> None:
    if model.growth == "logistic":
        raise UnsupportedModel("logistic growth")
    if model.mcmc_samples:
        raise UnsupportedModel("MCMC sampling")
    if any(props.get("predictor_spec") is not None for props in model.extra_regressors.values()):
        raise UnsupportedModel("a regressor that is itself forecast")


@dataclass(frozen=True)
class MapFit:
    """Parameters in Prophet's scaled units, a row per series; ``delta`` (K, S), ``beta`` (K, B), the others (K,).

    ``gap`` is an upper bound on the objective's distance from its minimum; for a multiplicative model it is the objective's
    last decrease.
    """

    k: FloatArray
    m: FloatArray
    delta: FloatArray
    beta: FloatArray
    variance: FloatArray
    gap: FloatArray
    converged: BoolArray

    def rows(self, which: slice | BoolArray) -> MapFit:
        """Return the fit of some of the series."""
        return MapFit(*(getattr(self, name)[which] for name in _FIELDS))


_FIELDS = ("k", "m", "delta", "beta", "variance", "gap", "converged")


def join_fits(fits: list[MapFit]) -> MapFit:
    """Concatenate fits of one design."""
    return MapFit(*(np.concatenate([getattr(fit, name) for fit in fits]) for name in _FIELDS))


def noise_variance(squares: FloatArray, count: int) -> FloatArray:
    """Return the best σ² for a sum of squared residuals R: the positive root s of ``4s² + ns − R = 0``."""
    half = 0.5 / NOISE_PRIOR**2
    positive = np.maximum(squares, 0.0)
    root = 2.0 * positive / (count + np.sqrt(count**2 + 8.0 * half * positive))
    variance: FloatArray = np.maximum(root, LEAST_VARIANCE)
    return variance


def trend(design: Design, fit: MapFit, times: FloatArray) -> FloatArray:
    """Return the scaled trend (K, T) at scaled ``times``."""
    level = fit.k[:, None] * times[None, :] + fit.m[:, None] if design.rate else np.repeat(fit.m[:, None], len(times), axis=1)
    values: FloatArray = level + fit.delta @ design.hinges(times).T
    return values


def seasonal(design: Design, fit: MapFit, features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the additive and multiplicative terms (K, T), from ``features`` (T, B)."""
    beta, a, m = fit.beta, design.additive, design.multiplicative
    return beta[:, a] @ features[:, a].T, beta[:, m] @ features[:, m].T


def evaluate(design: Design, fit: MapFit, *, future: bool) -> FloatArray:
    """Return the scaled mean (K, T or H) over the history or the future."""
    times, features = (design.future_times, design.future_features) if future else (design.times, design.features)
    added, multiplied = seasonal(design, fit, features)
    mean: FloatArray = trend(design, fit, times) * (1.0 + multiplied) + added
    return mean


def objective(design: Design, fit: MapFit, scaled: FloatArray) -> FloatArray:
    """Return the negative log posterior (K,) of the scaled series (K, T), up to the same constant as Stan."""
    squares = ((scaled - evaluate(design, fit, future=False)) ** 2).sum(axis=1)
    return from_squares(design, fit, squares, scaled.shape[1])


def from_squares(design: Design, fit: MapFit, squares: FloatArray, count: int) -> FloatArray:
    """Return the objective from the sum of squared residuals (K,) over ``count`` observations."""
    trend_prior = (fit.k**2 + fit.m**2) / (2 * TREND_PRIOR_SCALE**2)
    change_prior = np.abs(fit.delta).sum(axis=1) / design.changepoint_prior_scale
    feature_prior = ((fit.beta / design.prior_scales) ** 2).sum(axis=1) / 2
    noise = count / 2 * np.log(fit.variance) + fit.variance / (2 * NOISE_PRIOR**2)
    total: FloatArray = squares / (2 * fit.variance) + noise + trend_prior + change_prior + feature_prior
    return total


def trend_variance(design: Design, fit: MapFit) -> FloatArray:
    """Return the variance (K, H) of the scaled future trend. It is zero without a slope, and for hours within the history."""
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
    size = (np.abs(fit.delta).mean(axis=1) if fit.delta.shape[1] else np.zeros(len(fit.k))) + _LEAST_CHANGE
    reach = np.cumsum((np.arange(count) + 0.5) ** 2)
    variance[:, ahead] = (step**2 * likelihood * 2.0) * size[:, None] ** 2 * reach[None, :]
    return variance


def future_variance(design: Design, fit: MapFit) -> FloatArray:
    """Return the variance (K, H) of a future scaled observation: that of the trend, multiplied, plus the noise."""
    variance = trend_variance(design, fit)
    if design.is_multiplicative:
        variance *= (1.0 + seasonal(design, fit, design.future_features)[1]) ** 2
    variance += fit.variance[:, None]
    return variance
