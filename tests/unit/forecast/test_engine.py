from __future__ import annotations

import logging
from datetime import UTC, datetime

import numpy as np
import pytest

from foreshard.errors import UnknownEngine
from foreshard.forecast import _prophet_engine as prophet_engine
from foreshard.forecast._prophet_engine import seasonality_mode
from foreshard.forecast.engine import chunk_size, forecast_keys
from foreshard.model import ForecastBatch
from foreshard.settings import ForecastSettings

HOUR = datetime(2026, 3, 1, 23, tzinfo=UTC)
PROPHET = ForecastSettings(engine="prophet")


def run(costs: np.ndarray, missing: np.ndarray | None = None, settings: ForecastSettings = PROPHET) -> ForecastBatch:
    costs = np.atleast_2d(costs)
    missing = np.zeros(costs.shape, dtype=bool) if missing is None else np.atleast_2d(missing)
    return forecast_keys([f"k{i}" for i in range(len(costs))], costs, missing, HOUR, settings)


def test_prophet_forecasts_the_next_day_of_a_daily_wave(daily_costs: np.ndarray) -> None:
    batch = run(daily_costs)
    assert batch.models == ("prophet",) * 4
    assert batch.mean.shape == batch.sigma.shape == batch.upper.shape == (4, 24)
    level = np.array([[5.0], [20.0], [80.0], [320.0]])
    truth = level * (1.0 + 0.9 * np.sin((np.arange(24) - 6) / 24 * 2 * np.pi))
    assert (np.abs(batch.mean - truth).sum(axis=1) / truth.sum(axis=1) < 0.25).all()
    assert (batch.upper >= batch.mean).all()
    assert (batch.mean >= 0).all()


def test_an_unknown_engine_is_refused_by_name() -> None:
    with pytest.raises(UnknownEngine, match="unknown forecast engine 'arima'"):
        run(np.ones((1, 48)), settings=ForecastSettings(engine="arima"))


@pytest.mark.parametrize("engine", ["prophet", "batched"])
def test_series_that_no_model_can_serve_get_named_fallbacks_and_do_not_change_other_keys(
    daily_costs: np.ndarray, degenerate_series: dict[str, np.ndarray], engine: str
) -> None:
    settings = ForecastSettings(engine=engine)
    series = {
        **degenerate_series,
        "short": np.where(np.arange(672) < 640, np.nan, daily_costs[1]),
    }
    batch = run(np.array(list(series.values())), settings=settings)
    made = dict(zip(series, batch.models, strict=True))
    assert made["good"] == made["infinite"] == made["huge"] == engine
    assert made["zero"] == made["constant"] == "constant"
    assert made["nan"] == "no_history"
    assert made["short"] == "recent_mean"
    assert np.isfinite(batch.mean).all()
    assert np.isfinite(batch.upper).all()
    np.testing.assert_allclose(batch.mean[2], 7.0)
    np.testing.assert_allclose(batch.mean[0], run(daily_costs[2], settings=settings).mean[0], rtol=1e-6)


def test_a_key_on_which_prophet_fails_is_served_by_a_fallback(
    daily_costs: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = prophet_engine._new_prophet
    calls = []

    def fail_first(growth: str, mode: str) -> object:
        calls.append(mode)
        if len(calls) == 1:
            raise RuntimeError("Stan gave up")
        return real(growth, mode)

    monkeypatch.setattr(prophet_engine, "_new_prophet", fail_first)
    with caplog.at_level(logging.WARNING):
        batch = run(daily_costs[:2])
    assert batch.models == ("hour_of_week_mean", "prophet")
    assert batch.mean[0].sum() > 0
    assert "a fallback serves it" in caplog.text


def test_a_history_with_gaps_is_forecast_from_its_counted_hours(daily_costs: np.ndarray) -> None:
    missing = np.zeros((1, 672), dtype=bool)
    missing[0, 200:300] = True
    gapped = np.where(missing, 1e6, daily_costs[2:3])
    batch = run(gapped, missing)
    assert batch.models == ("prophet",)
    assert batch.mean.max() < 400


def test_seasonality_is_multiplicative_if_the_swing_follows_the_level() -> None:
    hours = np.arange(672)
    wave = np.sin(hours / 24 * 2 * np.pi)
    level = np.repeat(np.linspace(1, 5, 28), 24)
    everywhere = np.ones(672, dtype=bool)
    random = np.random.default_rng(3)
    assert seasonality_mode(level * (2 + wave), everywhere) == "multiplicative"
    assert seasonality_mode(level * 2 + wave + random.normal(0, 0.1, 672), everywhere) == "additive"


def test_no_keys_give_an_empty_batch() -> None:
    batch = run(np.zeros((0, 672)))
    assert batch.keys == ()
    assert batch.mean.shape == (0, 24)


def test_the_batched_engine_agrees_with_prophet(daily_costs: np.ndarray) -> None:
    slow, fast = run(daily_costs), run(daily_costs, settings=ForecastSettings(engine="batched"))
    assert fast.models == ("batched",) * 4
    scale = daily_costs.max(axis=1, keepdims=True)
    assert (np.abs(fast.mean - slow.mean) / scale).max() < 0.04  # Prophet stops this far from the optimum here
    np.testing.assert_allclose(fast.sigma, slow.sigma, rtol=0.05)


def test_engines_that_fit_all_keys_at_once_get_larger_chunks() -> None:
    assert chunk_size(ForecastSettings(engine="prophet", chunk_keys=40)) == 40
    assert chunk_size(ForecastSettings(engine="batched", chunk_keys=40)) > 1000
