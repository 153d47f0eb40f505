import numpy as np
import pytest

from foreshard.forecast.hourly._recency import HOT, SEASONAL, Recency

UNIT = np.ones(1)
DISPERSION = np.full(1, 1.5)


def taught(actual, seasonal=2.0, hours_before=48):
    """The experts after two regular days and then ``actual``."""
    recency, random = Recency(1), np.random.default_rng(1)
    for cost in [*random.poisson(seasonal, hours_before), *actual]:
        experts = recency.expected(np.full(1, seasonal), 1.0, UNIT)
        recency.learn(np.full(1, float(cost)), experts, 1.0, UNIT, DISPERSION)
    return recency


def ahead(recency, hours=24, seasonal=2.0):
    return recency.ahead(np.full((1, hours), seasonal), np.ones(hours), UNIT)[0]


def test_a_regular_key_is_forecast_by_its_seasonal_mean():
    recency = taught([])
    assert recency.weights()[SEASONAL, 0] > 0.5
    assert ahead(recency) == pytest.approx(2.0, rel=0.25)


def test_a_burst_is_detected_after_one_hour_and_decays_over_the_hours_ahead():
    expected = ahead(taught([100]))
    assert expected[0] > 70
    assert (np.diff(expected) <= 1e-9).all()
    assert expected[-1] < 0.5 * expected[0]


def test_the_end_of_a_burst_is_detected_after_one_hour():
    assert ahead(taught([100, 110, 90, 2]))[0] < 10


def test_a_vanished_key_is_no_longer_forecast_from_its_past():
    assert ahead(taught([0] * 12, seasonal=20.0), seasonal=20.0)[0] < 2.0


def test_random_variation_is_not_taken_for_a_change():
    recency = taught([5, 0, 4, 1])
    assert recency.weights()[HOT, 0] < 0.3


def test_weights_sum_to_one_and_nothing_is_expected_below_zero():
    recency = taught([0, 1000, 0, 0, 30])
    assert recency.weights().sum(axis=0) == pytest.approx(1.0)
    assert (ahead(recency) >= 0).all()
