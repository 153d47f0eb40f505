import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.lab.least_capacity import OVERFLOW_LIMIT, TOLERANCE, LeastCapacity, least_capacity, saved


@given(st.floats(0.2, 5.0), st.floats(4.0, 40.0))
def test_the_crossing_of_a_power_is_found_within_the_tolerance_and_few_tries(crossing, steepness):
    def share_at(factor):
        return min(OVERFLOW_LIMIT * (factor / crossing) ** -steepness, 1.0)

    found = least_capacity(share_at, share_at(1.0))
    assert found.factor == pytest.approx(crossing, rel=TOLERANCE)
    assert found.tries <= 9


@given(st.floats(0.3, 3.0))
def test_a_share_that_falls_to_nothing_at_once_is_enclosed(crossing):
    def share_at(factor):
        return 0.05 if factor < crossing else 0.0

    found = least_capacity(share_at, share_at(1.0))
    assert found.factor == pytest.approx(crossing, rel=TOLERANCE)


def test_few_replays_are_needed_where_the_share_is_as_steep_as_usual():
    tried = []

    def share_at(factor):
        tried.append(factor)
        return 0.0055 * math.exp(-12 * math.log(factor))

    assert least_capacity(share_at, share_at(1.0)).tries <= 4
    assert len(tried) <= 5


def test_a_log_without_load_has_no_least_capacity():
    assert least_capacity(lambda _: 0.0, 0.0) is None


def test_savings_are_relative_to_the_other_policy():
    least = {"static_hash": LeastCapacity(1.2, 3), "predictive": LeastCapacity(0.9, 4), "oracle": None}
    assert saved(least, "predictive", "static_hash") == pytest.approx(0.25)
    assert saved(least, "predictive", "oracle") is None
    assert saved(least, "predictive", "reactive") is None
