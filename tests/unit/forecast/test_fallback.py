from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from foreshard.forecast.fallback import fallback_forecast
from foreshard.forecast.series import history_numbers, horizon_numbers

HOUR = datetime(2026, 3, 1, 23, tzinfo=UTC)


def forecast(costs: np.ndarray, observed: np.ndarray | None = None):
    costs = np.atleast_2d(costs).astype(float)
    observed = np.ones(costs.shape, dtype=bool) if observed is None else np.atleast_2d(observed)
    return fallback_forecast(costs, observed, history_numbers(HOUR, costs.shape[1]), horizon_numbers(HOUR, 24))


def test_two_whole_weeks_are_averaged_by_hour_of_the_week() -> None:
    week = np.arange(168.0)
    result = forecast(np.concatenate([week, week + 2.0]))
    assert result.names == ("hour_of_week_mean",)
    np.testing.assert_allclose(result.mean[0], np.arange(24.0) + 1.0)
    assert (result.sigma > 1.0).all()


def test_a_few_days_are_averaged_by_hour_of_the_day() -> None:
    day = np.arange(24.0)
    result = forecast(np.concatenate([day, day + 2.0, day + 4.0]))
    assert result.names == ("hour_of_day_mean",)
    np.testing.assert_allclose(result.mean[0], day + 2.0)


def test_less_than_two_days_are_served_by_the_recent_mean() -> None:
    result = forecast(np.array([100.0] + [2.0, 4.0] * 12))
    assert result.names == ("recent_mean",)
    np.testing.assert_allclose(result.mean[0], 3.0)
    assert 1.0 < result.sigma[0, 0] < 1.1


def test_the_sigma_of_a_single_observation_is_its_value() -> None:
    result = forecast(np.array([0.0, 5.0]), np.array([False, True]))
    assert result.names == ("recent_mean",)
    assert result.mean[0, 0] == result.sigma[0, 0] == 5.0


def test_without_observations_mean_and_sigma_are_zero() -> None:
    result = forecast(np.zeros(48), np.zeros(48, dtype=bool))
    assert result.names == ("no_history",)
    assert not result.mean.any()
    assert not result.sigma.any()


def test_missing_hours_are_not_part_of_a_mean() -> None:
    costs = np.tile(np.arange(168.0), 3)
    observed = np.ones(504, dtype=bool)
    observed[:168] = False
    costs[:168] = 1e9
    result = forecast(costs, observed)
    assert result.names == ("hour_of_week_mean",)
    np.testing.assert_allclose(result.mean[0], np.arange(24.0))


def test_a_constant_key_is_forecast_as_its_value_and_a_zero_key_has_no_sigma() -> None:
    result = forecast(np.array([[5.0] * 48, [0.0] * 48]))
    assert result.names == ("constant", "constant")
    np.testing.assert_allclose(result.mean[0], 5.0)
    np.testing.assert_allclose(result.sigma[0], 5.0 / np.sqrt(50))
    assert not result.mean[1].any()
    assert not result.sigma[1].any()


def test_a_noisy_hour_of_the_day_has_a_wider_sigma_than_a_quiet_one() -> None:
    random = np.random.default_rng(1)
    hours = np.arange(672)
    costs = random.normal(50, np.where(hours % 24 == 12, 10.0, 0.5))
    result = forecast(costs)
    assert result.sigma[0, 12] > 4 * result.sigma[0, 3]


def test_one_sigma_covers_two_thirds_of_new_observations() -> None:
    random = np.random.default_rng(2)
    costs = random.normal(100, 10, (200, 672 + 24))
    result = forecast(costs[:, :672])
    inside = np.abs(costs[:, 672:] - result.mean) < result.sigma
    assert 0.64 < inside.mean() < 0.76
