import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.serving import serving_rule

from foreshard.measure.demand import (
    KeyDemand,
    LoadProfile,
    OriginShares,
    key_profile,
    sum_by_partition,
    unshadowed_load,
)
from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import partition_load, share_reads
from foreshard.model import SECONDS_PER_HOUR

MEAN_ONLY = serving_rule(room_mark=0.8, z=0.0)


def demand_of(rates, read_share, origins=None, sigma=0.0):
    """Keys with constant or hourly mean rates in cost/s."""
    rates = np.atleast_2d(np.asarray(rates, float))
    mean = rates * SECONDS_PER_HOUR
    origins = origins or OriginShares.unknown(len(mean))
    return KeyDemand(mean, np.full_like(mean, sigma * SECONDS_PER_HOUR), np.asarray(read_share, float), origins)


def shares_of(shares, key, partition):
    return sum(shares.share[r] for r in range(len(shares.key)) if (shares.key[r], shares.partition[r]) == (key, partition))


class TestOrigins:
    def test_shares_of_a_key_sum_to_one_and_repeated_pairs_are_added(self):
        origins = OriginShares.build([0, 0, 0, 2], [1, 0, 1, 3], [1.0, 2.0, 1.0, 5.0], keys=3)
        places, shares = origins.of(0)
        assert dict(zip(places.tolist(), shares.tolist(), strict=True)) == {0: 0.5, 1: 0.5}
        assert origins.of(1)[0].size == 0
        assert origins.of(2)[1].tolist() == [1.0]

    def test_pairs_without_weight_leave_the_origins_unknown(self):
        assert OriginShares.build([0], [0], [0.0], keys=1).of(0)[0].size == 0


class TestWholeKeys:
    def test_a_key_without_shadows_is_served_completely_by_its_primary(self):
        demand = demand_of([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 0.5], sigma=2.0)
        profile, shares = partition_load(
            demand, np.array([1, 0, 1]), (), np.array([10.0, 10.0]), np.zeros((0, 2)), serving_rule()
        )
        assert profile.mean == pytest.approx(np.array([[3.0, 4.0], [6.0, 8.0]]))
        assert profile.variance == pytest.approx(np.array([[4.0, 4.0], [8.0, 8.0]]))
        assert len(shares.key) == 0

    def test_uncertainties_are_added_as_variances_when_errors_are_independent(self):
        profile = LoadProfile(np.array([[10.0]]), np.array([[9.0 + 16.0]]), np.array([[7.0]]))
        assert profile.deviation(0.0)[0, 0] == pytest.approx(5.0)
        assert profile.deviation(1.0)[0, 0] == pytest.approx(7.0)
        assert 5.0 < profile.deviation(0.5)[0, 0] < 7.0

    def test_lps_is_the_peak_of_the_upper_load_over_capacity(self):
        profile = LoadProfile(np.array([[1.0, 3.0]]), np.array([[4.0, 0.0]]), np.array([[2.0, 0.0]]))
        scores = load_prediction_scores(profile.upper(serving_rule(z=2.0)), np.array([10.0]))
        assert scores.tolist() == [0.5]

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_sums_by_partition_agree_with_a_plain_loop(self, seed):
        rng = np.random.default_rng(seed)
        values, primary = rng.random((17, 3)), rng.integers(0, 4, 17)
        plain = np.zeros((4, 3))
        for key, partition in enumerate(primary):
            plain[partition] += values[key]
        assert sum_by_partition(values, primary, 4) == pytest.approx(plain)


class TestShadowedKeys:
    near_and_far = np.array([[0.0, 50.0], [50.0, 0.0]])

    def test_reads_go_to_the_nearest_copy_and_writes_to_primary_and_shadow(self):
        origins = OriginShares.build([0, 0], [0, 1], [1.0, 3.0], keys=1)
        demand = demand_of([[4.0]], [0.5], origins)
        profile, _ = partition_load(demand, np.array([0]), [(0, 1)], np.array([100.0, 100.0]), self.near_and_far, MEAN_ONLY)
        assert profile.mean[:, 0] == pytest.approx([2.0 + 0.25 * 2.0, 2.0 + 0.75 * 2.0])

    def test_apply_cost_scales_the_writes_of_the_shadow_only(self):
        demand = demand_of([[4.0]], [0.0])
        rule = serving_rule(z=0.0, apply_cost=0.25)
        profile, _ = partition_load(demand, np.array([0]), [(0, 1)], np.array([9.0, 9.0]), np.zeros((0, 2)), rule)
        assert profile.mean[:, 0] == pytest.approx([4.0, 1.0])

    def test_reads_above_the_room_mark_overflow_to_the_next_nearest_copy(self):
        origins = OriginShares.build([0], [0], [1.0], keys=1)
        demand = demand_of([[4.0, 12.0]], [1.0], origins)
        profile, shares = partition_load(demand, np.array([0]), [(0, 1)], np.array([10.0, 100.0]), self.near_and_far, MEAN_ONLY)
        assert profile.mean == pytest.approx(np.array([[4.0, 8.0], [0.0, 4.0]]))
        assert shares_of(shares, 0, 1) == pytest.approx([0.0, 1 / 3])

    def test_room_already_taken_by_other_keys_is_not_given_twice(self):
        origins = OriginShares.build([0], [0], [1.0], keys=2)
        demand = demand_of([[5.0], [6.0]], [1.0, 0.0], origins)
        profile, _ = partition_load(demand, np.array([0, 0]), [(0, 1)], np.array([10.0, 100.0]), self.near_and_far, MEAN_ONLY)
        assert profile.mean[:, 0] == pytest.approx([8.0, 3.0])

    def test_reads_without_room_anywhere_are_spread_by_capacity(self):
        demand = demand_of([[60.0]], [1.0])
        profile, _ = partition_load(demand, np.array([0]), [(0, 1)], np.array([10.0, 20.0]), np.zeros((0, 2)), MEAN_ONLY)
        assert profile.mean[:, 0].sum() == pytest.approx(60.0)
        assert profile.mean[:, 0] == pytest.approx([8 + 36 / 3, 16 + 2 * 36 / 3])

    def test_copies_that_are_all_above_the_mark_end_up_about_equally_full(self):
        origins = OriginShares.build([1], [0], [1.0], keys=3)
        demand = demand_of([[7.9, 9.5], [3.0, 3.0], [9.5, 8.1]], [0.0, 1.0, 0.0], origins)
        capacity, primary = np.array([10.0, 10.0]), np.array([0, 0, 1])
        profile, shares = partition_load(demand, primary, [(1, 1)], capacity, self.near_and_far, MEAN_ONLY)
        assert profile.mean.sum(axis=0) == pytest.approx([20.4, 20.6])
        assert profile.mean[0] == pytest.approx(profile.mean[1], rel=0.05)
        assert shares_of(shares, 1, 1) == pytest.approx([(10.2 - 9.5) / 3, (10.3 - 8.1) / 3], abs=0.1)

    def test_unknown_origins_stay_at_the_primary_while_it_has_room(self):
        demand = demand_of([[4.0]], [1.0])
        profile, _ = partition_load(demand, np.array([1]), [(0, 0)], np.array([10.0, 10.0]), np.zeros((0, 2)), MEAN_ONLY)
        assert profile.mean[:, 0].tolist() == [0.0, 4.0]

    def test_equally_near_copies_share_the_reads_evenly(self):
        origins = OriginShares.build([0], [0], [1.0], keys=1)
        demand = demand_of([[6.0]], [1.0], origins)
        distance = np.array([[3.0, 10.0, 400.0]])
        profile, _ = partition_load(demand, np.array([0]), [(0, 1), (0, 2)], np.full(3, 10.0), distance, MEAN_ONLY)
        assert profile.mean[:, 0] == pytest.approx([3.0, 3.0, 0.0])

    def test_one_of_two_near_copies_takes_what_the_other_has_no_room_for(self):
        origins = OriginShares.build([0], [0], [1.0], keys=1)
        demand = demand_of([[6.0]], [1.0], origins)
        distance = np.array([[3.0, 10.0, 400.0]])
        capacity = np.array([10.0, 1.0, 10.0])
        profile, _ = partition_load(demand, np.array([0]), [(0, 1), (0, 2)], capacity, distance, MEAN_ONLY)
        assert profile.mean[:, 0] == pytest.approx([5.2, 0.8, 0.0])

    def test_uncertain_load_leaves_less_room(self):
        origins = OriginShares.build([0], [0], [1.0], keys=1)
        demand = demand_of([[7.0]], [1.0], origins, sigma=1.0)
        rule = serving_rule(room_mark=0.8, z=2.0)
        profile, _ = partition_load(demand, np.array([0]), [(0, 1)], np.array([10.0, 99.0]), self.near_and_far, rule)
        assert profile.upper(rule)[0, 0] <= 8.0 + 1e-9
        assert profile.mean[1, 0] > 0.0

    def test_a_shadow_on_the_primary_itself_changes_nothing(self):
        demand = demand_of([[4.0]], [0.5])
        alone, _ = partition_load(demand, np.array([0]), (), np.array([10.0]), np.zeros((0, 1)), MEAN_ONLY)
        doubled, _ = partition_load(demand, np.array([0]), [(0, 0)], np.array([10.0]), np.zeros((0, 1)), MEAN_ONLY)
        assert (alone.mean == doubled.mean).all()

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_every_read_is_served_once_and_only_by_copies(self, seed):
        rng = np.random.default_rng(seed)
        keys, hours, partitions, places = 6, 3, 4, 3
        origins = OriginShares.build(
            rng.integers(0, keys, 12), rng.integers(0, places, 12), rng.integers(0, 3, 12).astype(float), keys
        )
        demand = KeyDemand(rng.gamma(1.0, 4e4, (keys, hours)), rng.gamma(1.0, 5e3, (keys, hours)), rng.random(keys), origins)
        primary = rng.integers(0, partitions, keys)
        shadows = {(int(k), int(p)) for k, p in rng.integers(0, 4, (5, 2)) if p != primary[k]}
        capacity, distance = rng.random(partitions) * 40 + 1, rng.random((places, partitions)) * 100
        rule = serving_rule(apply_cost=0.5)
        base = unshadowed_load(demand, primary, partitions, sorted({k for k, _ in shadows}))
        load, shares = share_reads(base, demand, primary, sorted(shadows), capacity, distance, rule)
        assert (shares.share >= -1e-12).all()
        for partition in range(partitions):
            rows = shares.partition == partition
            served = key_profile(demand, shares.key[rows])
            for total, alone, parts in zip(load.parts(), base.parts(), served.parts(), strict=True):
                assert total[partition] == pytest.approx(alone[partition] + (shares.share[rows] * parts).sum(axis=0))
        for key in {k for k, _ in shadows}:
            copies = {int(primary[key])} | {p for k, p in shadows if k == key}
            assert set(shares.partition[shares.key == key].tolist()) == copies
            expected = 1 + (len(copies) - 1) * (1 - demand.read_share[key]) * rule.apply_cost
            assert shares.share[shares.key == key].sum(axis=0) == pytest.approx(np.full(hours, expected))
