"""The batched solver compared with ``Prophet.fit``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foreshard.errors import UnsupportedModel
from foreshard.forecast import _map_batch as map_batch
from foreshard.forecast._configuration import Configuration, plain
from foreshard.forecast._map_additive import AdditiveSolver
from foreshard.forecast._map_batch import BatchFit, fit_batch
from foreshard.forecast._map_problem import MapFit, evaluate, objective
from foreshard.forecast.series import history_numbers, horizon_numbers, stamps

HOUR = datetime(2026, 3, 1, 23, tzinfo=UTC)
NUMBERS, AHEAD = history_numbers(HOUR, 672), horizon_numbers(HOUR, 24)


@pytest.fixture(scope="module")
def costs() -> np.ndarray:
    """Six series: noise, daily waves, a launch, a decay, a growing swing, and sparse counts."""
    random = np.random.default_rng(11)
    hours = np.arange(672)
    wave = 1.0 + 0.8 * np.sin(hours / 24 * 2 * np.pi)
    levels = [
        np.full(672, 20.0),
        60 * wave,
        30 * wave * (1 + 3 * np.clip((hours - 300) / 100, 0, 1)),
        90 * wave * np.exp(-hours / 300),
        10 * wave * (1 + hours / 150),
        np.full(672, 0.3),
    ]
    return random.poisson(np.array(levels)).astype(np.float64)


def regressors(hours: pd.DatetimeIndex) -> dict[str, Any]:
    return {"promotion": (hours.dayofyear % 9 == 0).astype(float), "temperature": np.sin(hours.dayofyear / 20.0) * 10 + 15}


HOLIDAYS = pd.DataFrame(
    {"holiday": "fair", "ds": pd.to_datetime(["2026-02-10", "2026-02-24"]), "lower_window": 0, "upper_window": 1}
)


def weekend_columns(hours: pd.DatetimeIndex) -> dict[str, Any]:
    weekend = hours.dayofweek.to_numpy() >= 5
    return {"weekday": ~weekend, "weekend": weekend}


CONFIGURATIONS = {
    "plain": plain(),
    "flat": plain("flat"),
    "multiplicative": plain("linear", "multiplicative"),
    "flat_multiplicative": plain("flat", "multiplicative"),
    "day_type": Configuration(
        "day_type",
        {"growth": "linear", "daily_seasonality": False},
        seasonalities=tuple(
            {"name": f"daily_{kind}", "period": 1, "fourier_order": 4, "condition_name": kind}
            for kind in ("weekday", "weekend")
        ),
        columns=weekend_columns,
    ),
    "no_changepoints": Configuration("no_changepoints", {"n_changepoints": 0}),
    "tight_priors": Configuration("tight", {"seasonality_prior_scale": 0.02, "changepoint_prior_scale": 0.5}),
    "minmax": Configuration("minmax", {"scaling": "minmax"}),
    "nothing_seasonal": Configuration("bare", {"daily_seasonality": False, "weekly_seasonality": False}),
    "holidays_and_regressors": Configuration(
        "mixed",
        {"holidays": HOLIDAYS, "seasonality_mode": "multiplicative"},
        seasonalities=({"name": "half_day", "period": 0.5, "fourier_order": 2, "mode": "additive"},),
        regressors=({"name": "promotion", "mode": "multiplicative"}, {"name": "temperature", "mode": "additive"}),
        columns=regressors,
    ),
}


def fit(configuration: Configuration, costs: np.ndarray, observed: np.ndarray | None = None) -> BatchFit:
    return fit_batch(configuration, costs, np.ones(costs.shape, bool) if observed is None else observed, NUMBERS, AHEAD)


def reference(configuration: Configuration, series: np.ndarray, observed: np.ndarray | None = None) -> Any:
    """``Prophet.fit`` on one series; L-BFGS fails on some models, and Newton then takes over as Prophet itself does."""
    model = configuration.new()
    frame = configuration.frame(stamps(NUMBERS))
    frame["y"] = series if observed is None else np.where(observed, series, np.nan)
    model.fit(frame)
    return model


def parameters(model: Any, shape: MapFit) -> MapFit:
    values = model.params
    delta = values["delta"] if shape.delta.shape[1] else np.zeros((1, 0))
    sigma = values["sigma_obs"].reshape(1)
    return MapFit(
        values["k"].reshape(1), values["m"].reshape(1), delta, values["beta"], sigma**2, np.zeros(1), np.ones(1, bool)
    )


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_objective_is_never_above_that_of_prophet(name: str, costs: np.ndarray) -> None:
    batch = fit(CONFIGURATIONS[name], costs)
    assert batch.stragglers == 0
    (group,) = batch.groups
    scaled = (costs - group.floor[:, None]) / group.scale[:, None]
    ours = objective(group.design, group.fit, scaled)
    for row in (2, 4):
        theirs = parameters(reference(CONFIGURATIONS[name], costs[row]), group.fit)
        assert ours[row] <= objective(group.design, theirs, scaled[row : row + 1])[0] + 1e-3


def test_the_objective_is_the_log_density_that_stan_reports(costs: np.ndarray) -> None:
    for name in ("plain", "multiplicative"):
        group = fit(CONFIGURATIONS[name], costs[1:2]).groups[0]
        model = reference(CONFIGURATIONS[name], costs[1])
        ours = -objective(group.design, parameters(model, group.fit), costs[1:2] / group.scale[:, None])[0]
        assert ours == pytest.approx(model.stan_fit.optimized_params_dict["lp__"], rel=1e-5)


def test_the_mean_equals_that_of_prophet_run_to_convergence(costs: np.ndarray) -> None:
    batch = fit(plain(), costs)
    mean = batch.forecast()[0]
    for row in (1, 2, 3):
        model = plain().new()
        model.fit(pd.DataFrame({"ds": stamps(NUMBERS), "y": costs[row]}), algorithm="Newton")
        theirs = model.predict(pd.DataFrame({"ds": stamps(AHEAD)}))["yhat"].to_numpy()
        assert np.abs(mean[row] - theirs).max() <= 0.01 * costs[row].max()


def test_the_gap_bounds_the_distance_to_the_minimum(costs: np.ndarray) -> None:
    group = fit(plain(), costs).groups[0]
    assert (group.fit.gap < 1e-6).all()
    solver = AdditiveSolver(group.design)
    moments = solver.moments(costs / group.scale[:, None])
    random = np.random.default_rng(0)
    best = objective(group.design, group.fit, costs / group.scale[:, None])
    for size in (1e-4, 1e-2):
        delta = group.fit.delta + random.normal(size=group.fit.delta.shape) * size
        gap = solver._gap(moments, delta, _rotated(solver, group.fit), group.fit.variance)
        moved = MapFit(**{**vars(group.fit), "delta": delta})
        assert (objective(group.design, moved, costs / group.scale[:, None]) - best <= gap + 1e-9).all()


def _rotated(solver: AdditiveSolver, fitted: MapFit) -> np.ndarray:
    quadratic = np.column_stack([fitted.k, fitted.m, fitted.beta])
    return (quadratic / solver._scales) @ solver._vectors


def test_series_with_missing_hours_are_fitted_as_well_as_by_prophet(costs: np.ndarray) -> None:
    observed = np.ones((4, 672), bool)
    observed[:, 100:130] = False
    observed[2, :336] = False
    observed[3, 5::7] = False
    series = np.where(observed, costs[[1, 1, 2, 4]], 1e6)
    batch = fit(plain(), series, observed)
    assert len(batch.groups) == 3
    assert batch.stragglers == 0
    assert np.isnan(batch.fitted()[2, :336]).all()
    mean = batch.forecast()[0]
    np.testing.assert_allclose(mean[0], mean[1])
    for row in (0, 2, 3):
        group = next(group for group in batch.groups if row in group.rows)
        place = int(np.flatnonzero(group.rows == row)[0])
        one = group.fit.rows(slice(place, place + 1))
        scaled = (series[row, observed[row]] / group.scale[place])[None, :]
        theirs = parameters(reference(plain(), series[row], observed[row]), one)
        assert objective(group.design, one, scaled)[0] <= objective(group.design, theirs, scaled)[0] + 1e-3


@pytest.mark.parametrize("name", ["plain", "holidays_and_regressors", "minmax", "flat", "no_changepoints"])
def test_a_full_prophet_predicts_the_same_as_the_arrays_and_serialises(name: str, costs: np.ndarray) -> None:
    from prophet.serialize import model_from_json, model_to_json

    configuration = CONFIGURATIONS[name]
    batch = fit(configuration, costs)
    model: Any = batch.prophet(2, costs[2])
    future = configuration.frame(stamps(AHEAD))
    predicted = model.predict(future)
    np.testing.assert_allclose(predicted["yhat"], batch.forecast()[0][2], rtol=1e-8)
    assert {"trend", "yhat"} <= set(predicted.columns)
    again = model_from_json(model_to_json(model)).predict(future)
    np.testing.assert_allclose(again["yhat"], predicted["yhat"], rtol=1e-8)


@pytest.mark.parametrize("name", ["plain", "multiplicative", "flat"])
def test_the_closed_form_uncertainty_equals_that_of_prophets_samples(name: str, costs: np.ndarray) -> None:
    batch = fit(CONFIGURATIONS[name], costs)
    sigma = batch.forecast()[1]
    np.random.seed(5)  # Prophet draws from the global generator
    for row in (2, 3):
        model: Any = batch.prophet(row, costs[row])
        model.uncertainty_samples = 4000
        draws = model.predictive_samples(CONFIGURATIONS[name].frame(stamps(AHEAD)))["yhat"]
        np.testing.assert_allclose(sigma[row], draws.std(axis=1), rtol=0.1)


def test_stragglers_are_finished_by_prophet_and_counted(costs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = reference(plain(), costs[1])
    monkeypatch.setattr("foreshard.forecast._map_additive.GAP_TOLERANCE", -1.0)
    batch = fit(plain(), costs[1:3])
    assert batch.stragglers == 2
    assert not batch.failed.any()
    assert batch.groups[0].fit.m[0] == pytest.approx(expected.params["m"].item())


def test_a_series_on_which_prophet_fails_too_is_reported(costs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshard.forecast._map_additive.GAP_TOLERANCE", -1.0)
    series = costs[1:3].copy()
    series[0, 5] = np.inf
    with np.errstate(all="ignore"):
        batch = fit(plain(), series)
    assert batch.failed.tolist() == [True, False]


@pytest.mark.parametrize(
    ("arguments", "what"), [({"growth": "logistic"}, "logistic growth"), ({"mcmc_samples": 10}, "MCMC sampling")]
)
def test_unsupported_arguments_are_refused_by_name(arguments: dict[str, Any], what: str, costs: np.ndarray) -> None:
    with pytest.raises(UnsupportedModel, match=what):
        fit(Configuration("other", arguments), costs)


def test_the_block_size_does_not_change_the_forecast(costs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(plain("linear", "multiplicative"), costs).forecast()[0]
    monkeypatch.setattr(map_batch, "BLOCK", 2)
    np.testing.assert_allclose(fit(plain("linear", "multiplicative"), costs).forecast()[0], whole, rtol=1e-6)


def test_fitted_values_equal_what_prophet_predicts_for_the_history(costs: np.ndarray) -> None:
    batch = fit(CONFIGURATIONS["minmax"], costs)
    model: Any = batch.prophet(1, costs[1])
    np.testing.assert_allclose(model.predict()["yhat"], batch.fitted()[1], rtol=1e-8)
    assert evaluate(batch.groups[0].design, batch.groups[0].fit, future=True).shape == (6, 24)
