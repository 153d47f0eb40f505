from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast.similar_days import same_hour_of_week, similar_days, weekly_profiles

NUMBERS = np.arange(480_000, 480_000 + 672)
AHEAD = np.arange(NUMBERS[-1] + 1, NUMBERS[-1] + 25)


def both(costs: np.ndarray, observed: np.ndarray | None = None, decay: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    costs = np.atleast_2d(costs).astype(float)
    observed = np.ones(costs.shape, bool) if observed is None else observed
    (profile,) = weekly_profiles(costs, observed, NUMBERS[: costs.shape[1]], (decay,))
    ahead = AHEAD - 672 + costs.shape[1]
    return similar_days(profile, ahead), same_hour_of_week(profile, ahead)


def test_the_plain_mean_is_that_of_the_same_hour_of_the_week() -> None:
    costs = np.random.default_rng(0).poisson(9.0, (3, 672)).astype(float)
    expected = costs.reshape(3, 4, 168).mean(axis=1)[:, :24]
    np.testing.assert_allclose(both(costs)[1], expected)


def test_pooling_similar_days_beats_single_weekdays_if_all_days_are_alike() -> None:
    random = np.random.default_rng(1)
    truth = 5.0 + 4.0 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    costs = random.poisson(np.tile(truth, (200, 28)))
    pooled, alone = both(costs)
    shifted = truth[(np.arange(24) + 672) % 24]
    assert np.abs(pooled - shifted).mean() < 0.6 * np.abs(alone - shifted).mean()


def test_a_weekday_that_differs_is_not_pooled_with_the_others() -> None:
    random = np.random.default_rng(2)
    level = np.where(np.arange(672) // 24 % 7 == 0, 100.0, 5.0)
    pooled, _ = both(random.poisson(np.tile(level, (20, 1))))
    assert (pooled.mean(axis=1) > 90).all()


def test_missing_hours_do_not_change_the_forecast() -> None:
    costs = np.random.default_rng(3).poisson(9.0, (2, 672)).astype(float)
    observed = np.ones((2, 672), bool)
    observed[:, 168:336] = False
    observed[1, 5::9] = False
    spoiled = np.where(observed, costs, 1e9)
    for made, expected in zip(both(spoiled, observed), both(np.where(observed, costs, 0.0), observed), strict=True):
        np.testing.assert_allclose(made, expected)
        assert made.max() < 20


def test_decay_gives_recent_weeks_more_weight() -> None:
    costs = np.repeat([1.0, 1.0, 1.0, 9.0], 168)[None]
    assert both(costs, decay=0.2)[1].mean() > both(costs, decay=1.0)[1].mean() + 3.0


def test_an_hour_of_the_week_without_observations_is_taken_from_other_days() -> None:
    pooled, plain = both(np.tile(np.arange(24.0), 3)[None])
    np.testing.assert_allclose(pooled[0], np.arange(24.0), atol=1e-6)
    np.testing.assert_allclose(plain[0], np.arange(24.0), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(24, 672), st.floats(0.1, 1.0))
def test_a_forecast_stays_within_the_observed_range(seed: int, length: int, decay: float) -> None:
    random = np.random.default_rng(seed)
    costs = random.gamma(0.5, 10.0, (3, length))
    observed = random.random((3, length)) < 0.8
    observed[:, 0] = True
    for made in both(costs, observed, decay):
        high = np.where(observed, costs, 0.0).max(axis=1, keepdims=True)
        assert np.isfinite(made).all()
        assert (made >= 0).all()
        assert (made <= high * (1 + 1e-9)).all()


def offices(random: np.random.Generator, keys: int = 60) -> np.ndarray:
    """Small keys, closed on the first weekday of the history, which is the wanted one."""
    open_hours = (np.arange(672) // 24 % 7 != 0) & (np.arange(672) % 24 >= 8)
    return random.poisson(np.where(open_hours, random.uniform(0.2, 3.0, (keys, 1)), 0.0)).astype(float)


def test_the_load_of_open_days_does_not_leak_into_a_weekday_on_which_all_keys_are_closed() -> None:
    pooled, plain = both(offices(np.random.default_rng(5)))
    assert plain.sum() == 0.0
    assert pooled.sum() < 0.01 * 60 * 16 * 1.6


def test_a_weekday_on_which_all_keys_are_closed_does_not_lower_open_days() -> None:
    costs = np.roll(offices(np.random.default_rng(6)), 24, axis=1)
    pooled, plain = both(costs)
    assert abs(pooled.sum() / plain.sum() - 1.0) < 0.05


def test_a_key_that_alone_works_on_a_closed_weekday_keeps_its_load() -> None:
    random = np.random.default_rng(7)
    costs = offices(random)
    costs[0] = random.poisson(np.where(np.arange(672) // 24 % 7 == 0, 20.0, 0.0))
    pooled, plain = both(costs)
    assert pooled[0].sum() > 0.9 * plain[0].sum()


def test_keys_that_rest_on_different_weekdays_do_not_follow_their_total() -> None:
    random = np.random.default_rng(8)
    rest = random.integers(0, 7, (60, 1))
    costs = random.poisson(np.where(np.arange(672) // 24 % 7 == rest, 0.0, 9.0)).astype(float)
    (profile,) = weekly_profiles(costs, np.ones(costs.shape, bool), NUMBERS, (1.0,))
    np.testing.assert_array_equal(similar_days(profile, AHEAD), similar_days(replace(profile, together=None), AHEAD))


def test_half_of_the_keys_closed_on_a_weekday_is_no_closed_weekday() -> None:
    random = np.random.default_rng(9)
    costs = np.vstack([offices(random, 30), random.poisson(2.0, (30, 672))]).astype(float)
    (profile,) = weekly_profiles(costs, np.ones(costs.shape, bool), NUMBERS, (1.0,))
    np.testing.assert_array_equal(similar_days(profile, AHEAD), similar_days(replace(profile, together=None), AHEAD))
