"""The season that is smoothed over days and weeks."""

import numpy as np
import pytest

from foreshard.forecast.baselines import four_week_mean, seasonal_naive
from foreshard.forecast.smoothed_season import smoothed_season

HOURS = 28 * 24
NUMBERS = 480_000 // 168 * 168 + np.arange(HOURS)
AHEAD = NUMBERS[-1] + 1 + np.arange(48)


def rates(numbers):
    """A daily wave, and two quiet days of seven."""
    return (10.0 + 8.0 * np.sin(numbers / 24 * 2 * np.pi)) * np.where(numbers // 24 % 7 >= 5, 0.4, 1.0)


def test_a_season_without_noise_is_repeated():
    found = smoothed_season(np.stack([rates(NUMBERS)] * 2), np.ones((2, HOURS)), NUMBERS, AHEAD)
    assert found == pytest.approx(np.stack([rates(AHEAD)] * 2), rel=1e-6)


def test_a_change_is_followed_sooner_than_by_the_mean_of_four_weeks_with_less_noise_than_by_last_week():
    random = np.random.default_rng(4)
    level = np.where(NUMBERS[-1] - 10 * 24 > NUMBERS, 1.0, 1.6)
    costs = random.poisson(rates(NUMBERS) * level, (200, HOURS)).astype(float)
    known, wanted = np.ones(costs.shape, bool), rates(AHEAD) * 1.6
    smoothed, mean, naive = (
        np.abs(found - wanted).mean()
        for found in (
            smoothed_season(costs, known.astype(float), NUMBERS, AHEAD),
            four_week_mean(costs, known, NUMBERS, AHEAD),
            seasonal_naive(costs, known, NUMBERS, AHEAD),
        )
    )
    assert smoothed < mean
    assert smoothed < naive


def test_hours_without_weight_do_not_count():
    costs, weights = np.stack([rates(NUMBERS)]), np.ones((1, HOURS))
    costs[:, 500:520], weights[:, 500:520] = 1000.0, 0.0
    assert smoothed_season(costs, weights, NUMBERS, AHEAD) == pytest.approx(rates(AHEAD)[None], rel=0.02)
