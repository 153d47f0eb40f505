from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from foreshard.forecast._candidates import CANDIDATES
from foreshard.forecast.accuracy import Accuracy, naive_scale
from foreshard.forecast.baselines import BASELINES, with_spread
from foreshard.forecast.engine import forecast_keys
from foreshard.forecast.series import history_numbers, horizon_numbers
from foreshard.model import ForecastBatch
from foreshard.settings import ForecastSettings

HOUR = datetime(2026, 3, 1, 23, tzinfo=UTC)
SETTINGS = ForecastSettings(engine="blended")
HORIZON = 24


def run(costs: np.ndarray, missing: np.ndarray | None = None, **changes: object) -> ForecastBatch:
    missing = np.zeros(costs.shape, bool) if missing is None else missing
    settings = SETTINGS.model_copy(update=changes)
    return forecast_keys([f"k{i}" for i in range(len(costs))], costs, missing, HOUR, settings)


def week_shaped(random: np.random.Generator, keys: int, hours: int) -> np.ndarray:
    """Rates (keys, hours): a daily shape, a weekly one, at levels from one access in ten hours to thousands."""
    at = np.arange(hours)
    level = np.exp(random.normal(1.0, 2.0, (keys, 1)))
    phase = random.uniform(0, 24, (keys, 1))
    daily = np.maximum(1.0 + 0.9 * np.sin((at - phase) / 24 * 2 * np.pi), 0.02)
    weekend = np.where(at // 24 % 7 >= 5, random.uniform(0.2, 1.2, (keys, 1)), 1.0)
    return level * daily * weekend


def launches(random: np.random.Generator, keys: int, hours: int) -> np.ndarray:
    """Rates: a third start within the history, and a third decay."""
    rates = week_shaped(random, keys, hours)
    at = np.arange(hours)
    start = random.integers(200, hours - 150, (keys, 1))
    kind = np.arange(keys)[:, None] % 3
    decay = 0.1 + 5.0 * np.exp(-np.clip(at - start, 0, None) / 100.0)
    return np.where(kind == 0, rates * (at >= start), np.where(kind == 1, rates * decay, rates))


def batch_jobs(random: np.random.Generator, keys: int, hours: int) -> np.ndarray:
    """Rates without weekends: sharp jobs at fixed hours, every few hours, once a week; half change their level."""
    at = np.arange(hours)
    level = np.exp(random.normal(2.5, 1.0, (keys, 1)))
    period = np.array([3, 6, 24, 168])[np.arange(keys) % 4][:, None]
    job = (at - random.integers(0, 168, (keys, 1))) % period == 0
    change = np.where((np.arange(keys)[:, None] % 2 == 0) & (at >= hours - 240), random.uniform(0.3, 3.0, (keys, 1)), 1.0)
    return level * (0.2 + 6.0 * job) * change


@pytest.mark.parametrize("shape", [week_shaped, launches, batch_jobs])
def test_the_blend_beats_every_baseline_and_plain_prophet_on_logs_of_any_shape(shape: object) -> None:
    random = np.random.default_rng(12)
    costs = random.poisson(shape(random, 90, 672 + HORIZON)).astype(float)
    costs = costs[costs[:, :672].sum(axis=1) > 10]
    history, actual = costs[:, :672], costs[:, 672:]
    numbers, ahead = history_numbers(HOUR, 672), horizon_numbers(HOUR, HORIZON)
    parts = np.zeros((4, len(costs)))
    parts[np.arange(len(costs)) % 4, np.arange(len(costs))] = 1.0

    def figures(mean: np.ndarray, upper: np.ndarray) -> tuple[float, float, float]:
        key, partition = Accuracy(0.9), Accuracy(0.9)
        key.add(mean, upper, actual, naive_scale(history))
        partition.add(parts @ mean, parts @ mean, parts @ actual, np.ones(4))
        return key.figures()["wape"], key.figures()["pinball"], partition.figures()["wape"]

    ours = run(history)
    mine = figures(ours.mean, ours.upper)
    plain = run(history, engine="batched")
    rivals = {
        name: with_spread(baseline, history, np.ones(history.shape, bool), numbers, ahead, 0.9)
        for name, baseline in BASELINES.items()
    } | {"prophet": (plain.mean, plain.upper)}
    for name, forecast in rivals.items():
        theirs = figures(*forecast)
        assert mine[0] < theirs[0], name
        assert mine[1] < theirs[1], name
        assert mine[2] < theirs[2] * 1.02, name  # a tie on one day of four partitions may go either way
    assert 0.84 < (actual <= ours.upper).mean() < 0.98


def test_every_key_says_which_candidate_leads_its_blend(daily_costs: np.ndarray) -> None:
    batch = run(daily_costs)
    assert all(model.removeprefix("blended/") in CANDIDATES for model in batch.models)
    assert (batch.mean >= 0).all()
    assert (batch.upper >= batch.mean).all()


def test_keys_agree_with_their_total(daily_costs: np.ndarray) -> None:
    random = np.random.default_rng(5)
    rates = np.tile(week_shaped(random, 1, 672 + HORIZON), (200, 1)) / 10.0
    costs = random.poisson(rates).astype(float)
    keys, total = run(costs[:, :672]), run(costs[:, :672].sum(axis=0, keepdims=True))
    assert np.abs(keys.mean.sum(axis=0) - total.mean[0]).sum() < 0.1 * total.mean.sum()


def test_degenerate_series_neither_crash_nor_change_other_keys(
    daily_costs: np.ndarray, degenerate_series: dict[str, np.ndarray]
) -> None:
    series = {
        **degenerate_series,
        "tiny": daily_costs[1] * 1e-12,
        "late": np.r_[np.zeros(640), daily_costs[2][:32]],
        "negative": -daily_costs[1],
    }
    with np.errstate(all="raise", under="ignore"):
        batch = run(np.array(list(series.values())))
    assert np.isfinite(batch.mean).all()
    assert np.isfinite(batch.sigma).all()
    assert np.isfinite(batch.upper).all()
    assert (batch.mean >= 0).all()
    made = dict(zip(series, batch.models, strict=True))
    assert made["constant"] == made["zero"] == "constant"
    assert made["nan"] == "no_history"
    assert 0.5 < batch.mean[6].sum() / (1e15 * batch.mean[5].sum()) < 2.0


@pytest.mark.parametrize("length", [48, 60, 72, 100, 168, 200, 336, 400])
def test_any_length_of_history_is_served(length: int, daily_costs: np.ndarray) -> None:
    batch = run(daily_costs[:, :length])
    assert np.isfinite(batch.upper).all()
    assert (batch.mean.mean(axis=1) > 0.2 * daily_costs[:, :length].mean(axis=1)).all()
    assert (batch.mean.mean(axis=1) < 5.0 * daily_costs[:, :length].mean(axis=1)).all()


def test_missing_hours_do_not_pull_the_forecast_down(daily_costs: np.ndarray) -> None:
    missing = np.zeros(daily_costs.shape, bool)
    missing[:, 560:620] = True
    missing[:, 30:40] = True
    gapped = run(np.where(missing, 0.0, daily_costs), missing)
    whole = run(daily_costs)
    assert (np.abs(gapped.mean.sum(axis=1) / whole.mean.sum(axis=1) - 1.0) < 0.25).all()


@pytest.mark.parametrize("horizon", [1, 6, 48, 168])
def test_any_horizon_is_served(horizon: int, daily_costs: np.ndarray) -> None:
    batch = run(daily_costs, horizon_hours=horizon)
    assert batch.mean.shape == batch.upper.shape == (4, horizon)
    assert np.isfinite(batch.upper).all()


def test_the_same_input_gives_the_same_forecast(daily_costs: np.ndarray) -> None:
    one, other = run(daily_costs), run(daily_costs)
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.upper, other.upper)


def test_baselines_repeat_the_hours_that_their_names_say() -> None:
    costs = np.arange(672.0)[None]
    numbers, ahead = history_numbers(HOUR, 672), horizon_numbers(HOUR, 30)
    seen = np.ones((1, 672), bool)
    np.testing.assert_allclose(BASELINES["seasonal_naive"](costs, seen, numbers, ahead)[0], np.arange(504.0, 534.0))
    np.testing.assert_allclose(BASELINES["four_week_mean"](costs, seen, numbers, ahead)[0], np.arange(252.0, 282.0))
    np.testing.assert_allclose(BASELINES["last_hour"](costs, seen, numbers, ahead)[0], 671.0)


def test_accuracy_figures_follow_their_definitions() -> None:
    accuracy = Accuracy(0.9)
    mean, actual = np.array([[1.0, 3.0]]), np.array([[2.0, 2.0]])
    accuracy.add(mean, np.array([[1.0, 4.0]]), actual, np.array([0.5]))
    figures = accuracy.figures()
    assert figures["wape"] == 0.5
    assert figures["mase"] == 2.0
    assert figures["coverage"] == 0.5
    assert figures["bias"] == 0.0
    assert figures["pinball"] == pytest.approx((0.9 * 1.0 + 0.1 * 2.0) / 4.0)
    assert Accuracy(0.9).figures()["wape"] is None
