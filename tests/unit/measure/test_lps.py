from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from tests.unit.serving import serving_rule

from foreshard.errors import UnusableCapacity
from foreshard.measure.demand import KeyDemand, LoadProfile, OriginShares
from foreshard.measure.lps import access_volume, require_capacities, score_profile
from foreshard.measure.serving import partition_load
from foreshard.model import Partition

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)
PARTITIONS = (Partition("west", "San Francisco", 10.0), Partition("east", "New York", 20.0))


def profile_of(mean, sigma):
    mean, sigma = np.asarray(mean, float), np.asarray(sigma, float)
    return LoadProfile(mean, sigma**2, sigma)


def test_the_score_is_the_peak_hours_upper_load_over_capacity():
    profile = profile_of([[2.0, 6.0, 5.0], [1.0, 1.0, 9.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    west, east = score_profile(HOUR, PARTITIONS, profile, np.ones((2, 3)), [4, 5], serving_rule(z=2.0))
    assert (west.lps, west.predicted_load, west.keys) == (0.8, 8.0, 4)
    assert west.peak_hour == HOUR + timedelta(hours=2)
    assert east.lps == pytest.approx(0.5)
    assert east.peak_hour == HOUR + timedelta(hours=3)
    assert west.utilisation == pytest.approx((0.2, 0.8, 0.5))


def test_volume_times_complexity_is_the_mean_load_at_the_peak():
    profile = profile_of([[6.0]], [[1.0]])
    (score,) = score_profile(HOUR, PARTITIONS[:1], profile, np.array([[2.4]]), [1], serving_rule())
    assert score.volume == pytest.approx(2.4)
    assert score.volume * score.complexity == pytest.approx(6.0)


def test_an_idle_partition_scores_zero_without_a_division_error():
    (score,) = score_profile(HOUR, PARTITIONS[:1], LoadProfile.zeros(1, 24), np.zeros((1, 24)), [0], serving_rule())
    assert (score.lps, score.complexity, score.volume) == (0.0, 0.0, 0.0)
    assert score.peak_hour == HOUR + timedelta(hours=1)


def test_the_first_of_equal_peaks_is_named():
    profile = profile_of([[3.0, 3.0]], [[0.0, 0.0]])
    (score,) = score_profile(HOUR, PARTITIONS[:1], profile, np.ones((1, 2)), [1], serving_rule())
    assert score.peak_hour == HOUR + timedelta(hours=1)


@pytest.mark.parametrize("capacity", [0.0, -1.0, float("nan"), float("inf")])
def test_a_capacity_that_is_not_positive_is_refused_by_the_partitions_name(capacity):
    with pytest.raises(UnusableCapacity, match="'broken'"):
        require_capacities([*PARTITIONS, Partition("broken", "Oslo", capacity)])


def test_volume_divides_each_keys_cost_by_the_cost_of_its_accesses():
    demand = KeyDemand(np.array([[3600.0], [7200.0]]), np.zeros((2, 1)), np.zeros(2), OriginShares.unknown(2))
    primary, capacity = np.array([0, 1]), np.array([10.0, 10.0])
    _, shares = partition_load(demand, primary, (), capacity, np.zeros((0, 2)), serving_rule())
    volume = access_volume(demand, np.array([2.0, 0.0]), primary, shares, 2)
    assert volume[:, 0].tolist() == [0.5, 2.0]


def test_the_volume_of_a_shadowed_key_is_shared_like_its_cost():
    demand = KeyDemand(np.array([[7200.0]]), np.zeros((1, 1)), np.array([0.5]), OriginShares.build([0], [0], [1.0], 1))
    primary, capacity = np.array([0]), np.array([10.0, 10.0])
    _, shares = partition_load(demand, primary, [(0, 1)], capacity, np.array([[500.0, 0.0]]), serving_rule())
    volume = access_volume(demand, np.array([2.0]), primary, shares, 2)
    assert volume[:, 0].tolist() == [0.5, 1.0]
