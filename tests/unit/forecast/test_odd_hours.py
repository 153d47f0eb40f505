"""Hours of odd days count less; changes that last do not."""

import numpy as np
import pytest

from foreshard.forecast.hourly.shapes import SimilarDays
from foreshard.forecast.odd_hours import LEAST, hour_weights, open_weights

HOURS = 28 * 24
NUMBERS = 480_000 // 168 * 168 + np.arange(HOURS)


def open_days(seed=3, keys=40):
    """Poisson counts with a working day's wave."""
    hour = np.arange(HOURS) % 24
    rates = np.random.default_rng(seed).uniform(2, 20, (keys, 1)) * np.where((hour >= 8) & (hour < 18), 1.0, 0.05)
    return np.random.default_rng(seed).poisson(rates).astype(float)


def weights(costs):
    return hour_weights(costs, np.ones(costs.shape, bool), NUMBERS)


def test_regular_days_count_fully():
    assert weights(open_days()).mean() > 0.95


@pytest.mark.parametrize("day", [3, 16, 26])
def test_a_closed_day_hardly_counts(day):
    costs = open_days()
    costs[:, day * 24 : day * 24 + 24] = 0.0
    found = weights(costs)
    assert found[day * 24 + 9 : day * 24 + 17].max() < 0.1
    others = np.abs(np.arange(HOURS) // 24 - day) > 1
    assert found[others].mean() > 0.95
    assert found.min() >= LEAST


def test_a_new_level_that_lasts_is_not_odd():
    costs = open_days()
    costs[:, 16 * 24 :] *= 3.0
    assert weights(costs)[-7 * 24 :].mean() > 0.9


def test_two_odd_days_at_the_end_are_a_change():
    costs = open_days()
    costs[:, -48:] *= 3.0
    assert (weights(costs)[-48:] == 1.0).all()


def test_a_closed_day_does_not_lower_the_shape_of_the_same_weekday():
    costs = open_days()
    closed = costs.copy()
    closed[:, 21 * 24 : 22 * 24] = 0.0
    ahead = NUMBERS[-1] + np.arange(26)
    assert (ahead[1] // 24 - NUMBERS[0] // 24) % 7 == 21 % 7
    known = np.ones(costs.shape, bool)
    whole, after = (SimilarDays().fit(one, known, NUMBERS, ahead).sum() for one in (costs, closed))
    assert after == pytest.approx(whole, rel=0.1)


def test_short_and_empty_histories_count_fully():
    assert (hour_weights(np.ones((2, 100)), np.ones((2, 100), bool), NUMBERS[:100]) == 1.0).all()
    assert (weights(np.zeros((2, HOURS))) == 1.0).all()


def test_a_closed_odd_hour_counts_nothing_and_a_busy_odd_hour_as_much_as_before():
    costs, known = open_days(), np.ones((40, HOURS), bool)
    costs[:, 12 * 24 : 13 * 24] = 0.0
    costs[:, 20 * 24 : 21 * 24] *= 4.0
    before = hour_weights(costs, known, NUMBERS)
    found = open_weights(before, costs, known, NUMBERS)
    closed, busy = slice(12 * 24 + 9, 12 * 24 + 17), slice(20 * 24 + 9, 20 * 24 + 17)
    assert (found[closed] == 0.0).all()
    assert before[busy].max() < 0.5
    others = np.abs(np.arange(HOURS) // 24 - 12) > 1
    np.testing.assert_array_equal(found[others], before[others])
