"""The terms of the objective, one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.measure.demand import LoadProfile
from foreshard.plan import objective
from foreshard.plan.objective import believed, churn_price, overload_risk, resolution, wholes, with_companions

LOADS = st.floats(0, 30)
MARK = 0.95


def risk(mean, deviation, capacity=10.0):
    return float(overload_risk(np.array([mean]), np.array([deviation]), np.array([capacity]), MARK)[0])


def test_a_load_far_below_its_mark_costs_only_its_balance():
    assert risk(2.0, 0.1) == pytest.approx(objective.BALANCE * 0.04)


def test_a_load_that_is_certainly_above_its_mark_counts_an_hour_and_its_excess():
    excess = (20.0 - 9.5) / 10 + objective.HEADROOM_WEIGHT * (20.0 - 8.5) / 10 + objective.BALANCE * 4.0
    assert risk(20.0, 0.0) == pytest.approx(1.0 + excess)


def test_a_load_at_its_mark_is_above_it_in_half_of_all_hours():
    assert risk(9.5, 1.0) == pytest.approx(0.5 + 0.1 * 0.3989423, abs=0.01)


@given(LOADS, LOADS, st.floats(0, 5))
def test_more_load_never_costs_less(mean, more, deviation):
    assert risk(mean + more, deviation) >= risk(mean, deviation) - 1e-12


@given(LOADS, LOADS, st.floats(0, 5))
def test_there_is_a_slope_wherever_load_can_be_taken_away(mean, deviation, share):
    if mean > 0.1:
        assert risk(mean, deviation) > risk(mean * (1.0 - min(share, 1.0) / 10 - 0.01), deviation)


@given(st.floats(0.1, 5), st.floats(0.1, 9))
def test_a_smooth_load_has_the_same_risk_as_one_that_is_almost_certain(mean, mark_part):
    assert risk(mean, 1e-12) == pytest.approx(risk(mean, 0.0), abs=1e-6)
    assert 0 <= risk(mark_part, 0.5) < 3


def test_companions_add_the_variance_of_a_compound_poisson_count():
    load = LoadProfile(np.full((1, 2), 5.0), np.ones((1, 2)), np.ones((1, 2)))
    noisy = with_companions(load, np.array([3600.0]), 2.0)
    assert noisy.variance.tolist() == pytest.approx(1.0 + 2.0 * 3600.0 * (2.0 / 3600.0) ** 2 * np.ones((1, 2)))
    assert with_companions(load, np.array([3600.0]), 0.0) is load


def test_a_small_gain_is_not_believed_and_a_loss_always_counts():
    assert believed(np.array([-0.05, -0.3, 0.05]), np.array([0.1] * 3)).tolist() == pytest.approx([0.0, -0.2, 0.05])


def test_small_units_are_a_fraction_of_a_whole_and_large_ones_one():
    assert wholes(np.array([0.0, 0.01, 0.02, 0.5])).tolist() == pytest.approx([0.0, 0.5, 1.0, 1.0])


def test_churn_fades_with_the_time_since_the_last_move():
    idle = np.array([0.0, 48.0, 24.0 * 14, np.inf])
    price = churn_price(np.ones(4), np.zeros(4), idle, 100.0)
    assert price.tolist() == sorted(price, reverse=True)
    assert price[0] == pytest.approx(100 * objective.MOVED * (1 + objective.AGAIN))
    assert price[1] == pytest.approx(100 * objective.MOVED * (1 + objective.AGAIN / 2))
    assert price[3] == pytest.approx(100 * objective.MOVED)
    assert resolution(np.ones(4), idle)[-1] == pytest.approx(objective.RESOLUTION)


def test_bytes_cost_the_same_however_long_ago_a_unit_was_moved():
    assert churn_price(np.zeros(2), np.full(2, 2.0**30), np.array([0.0, np.inf]), 9.0).tolist() == [objective.GIBIBYTE] * 2
