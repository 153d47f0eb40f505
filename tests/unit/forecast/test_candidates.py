"""Prophet as a candidate of the blend."""

from __future__ import annotations

import numpy as np

from foreshard.forecast._candidates import (
    CANDIDATES,
    LAST_WEEK,
    RECENT_SIMILAR_DAYS,
    YESTERDAYS_LEVEL,
    candidates,
    prophet_forecast,
)
from foreshard.forecast.odd_hours import hour_weights

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


def after_a_closed_day(closed: bool) -> dict[str, float]:
    """What each candidate says about the day after one that is closed or not, and whose weekday was closed a week ago."""
    costs = np.random.default_rng(4).poisson(np.full((20, HOURS), 6.0) * (np.arange(HOURS) % 24 >= 8)).astype(float)
    if closed:
        costs[:, -24:] = 0.0
        costs[:, -7 * 24 : -6 * 24] = 0.0
    known, ahead = np.ones(costs.shape, bool), NUMBERS[-1] + np.arange(1, 25)
    before = np.repeat((6.0 * (np.arange(24) % 24 >= 8))[None, :, None], 20, axis=0) * np.ones(len(CANDIDATES))
    made = candidates(costs, known, hour_weights(costs, known, NUMBERS), NUMBERS, ahead, before)
    return dict(zip(CANDIDATES, made.sum(axis=(0, 1)).tolist(), strict=True))


def test_a_closed_day_does_not_lower_the_level_of_the_day_after_it() -> None:
    after = after_a_closed_day(True)
    assert after[YESTERDAYS_LEVEL] > 0.95 * after[RECENT_SIMILAR_DAYS]


def test_a_closed_day_is_not_repeated_a_week_later() -> None:
    assert after_a_closed_day(True)[LAST_WEEK] > 0.9 * after_a_closed_day(False)[LAST_WEEK]
