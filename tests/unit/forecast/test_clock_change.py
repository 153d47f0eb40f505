import numpy as np
import pytest

from foreshard.forecast.clock_change import ClockWatch, moved_history


def day_of_keys(random, keys=60):
    """Hourly means (keys, 24); each key has its own peak hour."""
    peak = random.integers(0, 24, (keys, 1))
    return 0.2 + 8 * np.exp(-((((np.arange(24) - peak + 12) % 24) - 12) ** 2) / 6)


def watched(actual, mean):
    """The answers of a watch that expects ``mean`` to the hours ``actual`` (keys, T)."""
    watch, unit = ClockWatch(), np.ones(len(mean))
    hours = range(actual.shape[1])
    return [watch.see(actual[:, h], mean[:, (h - 1) % 24], mean[:, h % 24], mean[:, (h + 1) % 24], unit) for h in hours]


@pytest.mark.parametrize("moved", [-1, 1])
def test_a_pattern_that_moves_by_an_hour_is_detected_within_a_day(moved):
    random = np.random.default_rng(1)
    mean = day_of_keys(random)
    came = random.poisson(np.roll(np.tile(mean, 2), moved, axis=1))
    said = watched(came, mean)
    assert moved in said[:24]
    assert -moved not in said[:24]


def test_changes_of_level_are_not_taken_for_a_moved_pattern():
    random = np.random.default_rng(2)
    mean = day_of_keys(random)
    came = random.poisson(np.tile(mean, 14) * np.repeat(random.uniform(0.5, 2.0, 14), 24))
    assert not any(watched(came, mean))


def test_the_burst_of_one_key_decides_nothing():
    random = np.random.default_rng(3)
    mean = day_of_keys(random)
    came = random.poisson(np.tile(mean, 3))
    came[5, 30:40] += 500
    assert not any(watched(came, mean))


def test_only_the_history_before_the_change_is_shifted():
    costs = np.arange(10.0)[None]
    assert moved_history(costs, 5, 1)[0].tolist() == [0, 0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert moved_history(costs, 5, -1)[0].tolist() == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9]
    assert moved_history(costs, 0, 1) is costs
