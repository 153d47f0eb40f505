import numpy as np
import pytest

from foreshard.lab._recency import HOT, SEASONAL, Recency

UNIT = np.ones(1)
DISPERSION = np.full(1, 1.5)


def taught(came, seasonal=2.0, hours_before=48):
    """The experts after two usual days and then ``came``."""
    recency, random = Recency(1), np.random.default_rng(1)
    for cost in [*random.poisson(seasonal, hours_before), *came]:
        experts = recency.expected(np.full(1, seasonal), 1.0, UNIT)
        recency.learn(np.full(1, float(cost)), experts, 1.0, UNIT, DISPERSION)
    return recency


def ahead(recency, hours=24, seasonal=2.0):
    return recency.ahead(np.full((1, hours), seasonal), np.ones(hours), UNIT)[0]


def test_a_key_that_does_as_usual_is_expected_to_go_on_as_usual():
    recency = taught([])
    assert recency.weights()[SEASONAL, 0] > 0.5
    assert ahead(recency) == pytest.approx(2.0, rel=0.25)


def test_a_burst_is_believed_after_one_hour_and_fades_out_of_the_hours_ahead():
    expected = ahead(taught([100]))
    assert expected[0] > 70
    assert (np.diff(expected) <= 1e-9).all()
    assert expected[-1] < 0.5 * expected[0]


def test_the_end_of_a_burst_is_believed_after_one_hour():
    assert ahead(taught([100, 110, 90, 2]))[0] < 10


def test_a_key_that_has_vanished_is_expected_no_more_whatever_its_past_says():
    assert ahead(taught([0] * 12, seasonal=20.0), seasonal=20.0)[0] < 2.0


def test_chance_is_no_change():
    recency = taught([5, 0, 4, 1])
    assert recency.weights()[HOT, 0] < 0.3


def test_weights_sum_to_one_and_nothing_is_expected_below_zero():
    recency = taught([0, 1000, 0, 0, 30])
    assert recency.weights().sum(axis=0) == pytest.approx(1.0)
    assert (ahead(recency) >= 0).all()
