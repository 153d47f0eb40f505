"""Prophet as a candidate of the blend."""

from __future__ import annotations

import numpy as np

from foreshard.forecast._candidates import prophet_forecast

FIRST, HOURS = 480_000, 28 * 24
NUMBERS = FIRST + np.arange(HOURS)
AHEAD = FIRST + HOURS + np.arange(24)


def rates(numbers: np.ndarray) -> np.ndarray:
    """A working day's wave and a flat, low weekend (day 0 of 1970 was a Thursday)."""
    weekend = (numbers // 24 + 3) % 7 >= 5
    return np.where(weekend, 12.0, 40.0 + 35.0 * np.sin(numbers / 24 * 2 * np.pi))


def test_prophet_forecasts_a_week_with_weekends_better_than_its_mean() -> None:
    costs = np.random.default_rng(2).poisson(rates(NUMBERS), (3, HOURS)).astype(float)
    seen = np.ones(costs.shape, bool)
    seen[1, :300] = False
    mean = prophet_forecast(costs, seen, NUMBERS, AHEAD, np.zeros((3, 24)))
    error = np.abs(mean - rates(AHEAD)).mean(axis=1)
    assert (error < 0.6 * np.abs(rates(AHEAD) - costs.mean()).mean()).all()
    assert (mean >= 0).all()


def test_a_constant_key_gets_the_other_forecast() -> None:
    otherwise = np.full((2, 24), 7.0)
    costs = np.vstack([np.full(HOURS, 3.0), rates(NUMBERS)])
    mean = prophet_forecast(costs, np.ones(costs.shape, bool), NUMBERS, AHEAD, otherwise)
    assert (mean[0] == 7.0).all()
    assert (mean[1] != 7.0).any()
