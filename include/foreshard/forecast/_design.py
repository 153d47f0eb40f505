"""Prophet's own design for one set of hours: what all series that were observed in the same hours share.

Everything is taken from a ``Prophet`` object (``preprocess``, ``make_all_seasonality_features``), so its arguments mean what
Prophet's documentation says: growth, changepoints, seasonalities with conditions, holidays, extra regressors, prior scales.
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


@dataclass(frozen=True)
class Design:
    """The regressors of Prophet's model in its scaled time: T observed hours, H future ones, S changepoints, B features.

    ``rate`` says whether the trend has a slope (linear growth; then ``changepoints`` are its hinges). ``additive`` and
    ``multiplicative`` (B,) say how each feature enters; ``prior_scales`` (B,) and ``changepoint_prior_scale`` are its priors.
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
        """The trend's unpenalised columns: slope and offset, or the offset alone; (T, 2) or (T, 1)."""
        return np.column_stack([times, np.ones_like(times)]) if self.rate else np.ones((len(times), 1))

    def hinges(self, times: FloatArray) -> FloatArray:
        """The trend's changes of slope, one column per changepoint, (T, S)."""
        return np.maximum(times[:, None] - self.changepoints[None, :], 0.0)


def build_design(make: Callable[[], Prophet], history: pd.DataFrame, future: pd.DataFrame) -> Design:
    """Design of ``make()`` for the hours ``history`` and ``future`` (``ds``, and the columns of its conditions and regressors).

    Raise :class:`foreshard.errors.UnsupportedModel` for what the batched solver does not have.
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
