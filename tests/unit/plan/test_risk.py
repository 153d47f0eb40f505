import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.plan._risk import EXCESS_WEIGHT, HEADROOM_WEIGHT, overload_risk


def risk(mean, deviation, capacity=10.0, high=0.8, low=0.6):
    return float(overload_risk(np.array(float(mean)), np.array(float(deviation)), np.array(capacity), high, low))


def test_a_certain_load_below_the_low_water_mark_has_no_risk():
    assert risk(5.9, 0.0) == 0.0


def test_a_certain_load_above_the_mark_counts_one_overload_hour_plus_its_excess():
    assert risk(9.0, 0.0) == pytest.approx(1.0 + EXCESS_WEIGHT * 0.1 + HEADROOM_WEIGHT * 0.3)


@pytest.mark.parametrize(("rounding", "deviation"), [(-1e-15, 0.0), (1e-15, 0.0), (0.0, 1e-11), (1e-15, 1e-11)])
def test_a_certain_load_at_the_mark_is_not_above_it_despite_rounding(rounding, deviation):
    assert risk(8.0 + rounding, deviation) == pytest.approx(HEADROOM_WEIGHT * 0.2)


def test_an_even_chance_of_overload_counts_half_an_hour():
    assert 0.5 < risk(8.0, 0.5) < 0.8


def test_the_expectations_agree_with_sampling():
    rng = np.random.default_rng(0)
    load = rng.normal(7.5, 1.2, 2_000_000)
    sampled = (
        (load > 8).mean()
        + EXCESS_WEIGHT * np.maximum(load - 8, 0).mean() / 10
        + HEADROOM_WEIGHT * np.maximum(load - 6, 0).mean() / 10
    )
    assert risk(7.5, 1.2) == pytest.approx(sampled, rel=0.005)


@settings(max_examples=100)
@given(st.floats(0, 50), st.floats(0, 20), st.floats(0.001, 10))
def test_taking_load_away_never_raises_the_risk(mean, deviation, less):
    assert risk(max(mean - less, 0.0), deviation) <= risk(mean, deviation) + 1e-12
