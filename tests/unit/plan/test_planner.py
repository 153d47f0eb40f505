from datetime import timedelta

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.measure.demand import OriginShares
from foreshard.model import PartitionState
from foreshard.model.decided import shadow_id
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.planner import make_plan, move_id

POLICY = build_policy(serving=serving_rule(z=0.0))


def moved(plan):
    return {move.units[0]: move.target for move in plan.moves}


class TestRelief:
    def test_an_overloaded_partition_moves_a_key_to_the_least_loaded_one(self, world):
        plan = make_plan(world([3, 3, 3, 4, 1], [0, 0, 0, 1, 2], [10, 10, 10]), POLICY)
        assert set(moved(plan).values()) == {"p2"}
        assert plan.lps_before["p0"] == pytest.approx(0.9)
        assert plan.lps_after["p0"] <= POLICY.low_water
        assert max(plan.lps_after.values()) < 0.8
        assert not plan.refusals

    def test_a_quiet_hour_gets_an_empty_plan(self, world):
        plan = make_plan(world([3, 3, 1], [0, 1, 2], [10, 10, 10]), POLICY)
        assert (plan.moves, plan.shadows, plan.removals, plan.refusals) == ((), (), (), ())
        assert plan.lps_before == plan.lps_after

    def test_the_plan_names_its_hour_table_and_derived_ids(self, world):
        snapshot = world([5, 4], [0, 0], [10, 10])
        plan = make_plan(snapshot, POLICY)
        assert (plan.hour, plan.table_version, plan.dry_run) == (snapshot.hour, 3, False)
        (move,) = plan.moves
        assert move.move_id == move_id(snapshot.hour, move.units[0])
        assert move_id(snapshot.hour, "a") != move_id(snapshot.hour + timedelta(hours=1), "a")
        assert shadow_id("a", "bc") != shadow_id("ab", "c")

    def test_every_move_has_a_sentence_and_facts(self, world):
        plan = make_plan(world([5, 4], [0, 0], [10, 10]), POLICY)
        (move,) = plan.moves
        assert move.reason.code == "overload"
        assert "p0 would reach 0.90 of its capacity at Tue 08:00" in move.reason.sentence
        assert move.reason.facts["source_lps_before"] == pytest.approx(0.9)
        assert move.reason.facts["needed_by"] == "2024-03-05T08:00:00+00:00"
        assert move.reason.facts["gain_overload_hours"] > 0

    def test_keys_that_peak_at_different_hours_are_put_together(self, world):
        morning, evening = [6, 1], [1, 6]
        plan = make_plan(world([morning, [3, 1], evening, morning], [0, 0, 1, 2], [10, 10, 10]), POLICY)
        assert set(moved(plan).values()) == {"p1"}

    def test_a_target_stays_under_its_mark_in_every_hour_not_only_at_the_sources_peak(self, world):
        plan = make_plan(world([[5, 3], [4, 3], [1, 6], [4.5, 4.5]], [0, 0, 1, 2], [10, 10, 10]), POLICY)
        assert plan.lps_after["p1"] <= 0.8
        assert plan.lps_after["p2"] <= 0.8

    def test_the_worst_partition_is_relieved_first_where_the_limit_allows_one_move(self, world):
        loads, primary = [5, 4, 5, 5, 1], [0, 0, 1, 1, 2]
        plan = make_plan(world(loads, primary, [10, 10, 10]), build_policy(maximum_moves=1, serving=serving_rule(z=0.0)))
        assert [move.source for move in plan.moves] == ["p1"]
        (refusal,) = plan.refusals
        assert (refusal.partition_id, refusal.reason.code) == ("p0", "limit_reached")

    def test_uncertain_forecasts_count_at_their_upper_quantile(self, world):
        loads = np.full(20, 0.35)
        sure = make_plan(world(loads, np.zeros(20, int), [10, 10]), build_policy())
        unsure = make_plan(world(loads, np.zeros(20, int), [10, 10], sigma=0.35), build_policy())
        common = make_plan(
            world(loads, np.zeros(20, int), [10, 10], sigma=0.35), build_policy(serving=serving_rule(correlation=0.9))
        )
        assert sure.lps_before["p0"] == pytest.approx(0.7)
        assert not sure.moves
        assert unsure.lps_before["p0"] == pytest.approx(0.7 + 1.2816 * 0.35 * np.sqrt(20) / 10, rel=1e-3)
        assert unsure.moves
        assert common.lps_before["p0"] > 1.4 > unsure.lps_before["p0"]

    def test_moves_that_cost_more_than_they_gain_are_not_made(self, world):
        snapshot = world([4.1, 4.0], [0, 0], [10, 10])
        assert make_plan(snapshot, POLICY).moves
        (refusal,) = make_plan(snapshot, build_policy(minimum_gain=5.0, serving=serving_rule(z=0.0))).refusals
        assert refusal.reason.code == "gain_too_small"


class TestClumps:
    def test_co_accessed_keys_move_together(self, world):
        loads = [2, 0.5, 2, 0.5, 2, 0.5, 1]
        pairs = [(0, 1, 20_000), (2, 3, 20_000), (4, 5, 20_000)]
        plan = make_plan(world(loads, [0, 0, 0, 0, 0, 0, 1], [9, 9], co_access=pairs), POLICY)
        keys = set(moved(plan))
        assert keys
        assert all((f"key-{a:04d}" in keys) == (f"key-{b:04d}" in keys) for a, b, _ in pairs)
        assert {move.reason.code for move in plan.moves} == {"overload", "co_accessed"}
        assert all(move.clump in keys for move in plan.moves)

    def test_a_key_moves_to_its_co_accessed_keys(self, world):
        plan = make_plan(world([3, 3, 3, 1, 1], [0, 0, 0, 1, 2], [10, 10, 10], co_access=[(0, 4, 900)]), POLICY)
        assert moved(plan) == {"key-0000": "p2"}
        assert plan.moves[0].reason.facts["crossing_uses_per_hour"] == -900

    def test_the_equal_target_nearest_to_the_readers_is_chosen(self, world):
        km = [[0, 500, 20], [500, 0, 480], [20, 480, 0]]
        origins = OriginShares.build(range(3), [0, 0, 0], [1, 1, 1], 5)
        plan = make_plan(world([3, 3, 3, 1, 1], [0, 0, 0, 1, 2], [10, 10, 10], km=km, origins=origins), POLICY)
        assert set(moved(plan).values()) == {"p2"}
        assert plan.moves[0].reason.facts["distance_change_km"] == pytest.approx(20.0)


class TestStability:
    def test_a_key_that_cools_down_stays(self, world):
        movable = np.array([False, True, True])
        plan = make_plan(
            world([5, 3, 1], [0, 0, 1], [10, 10], movable=movable), build_policy(high_water=0.7, serving=serving_rule(z=0.0))
        )
        assert set(moved(plan)) == {"key-0001"}

    def test_a_key_is_not_moved_back_to_where_it_came_from(self, world):
        last = np.array([1, 1, 1, -1, -1])
        plan = make_plan(world([3, 3, 3, 0.1, 1], [0, 0, 0, 1, 2], [10, 10, 10], last_source=last), POLICY)
        assert set(moved(plan).values()) == {"p2"}

    def test_after_a_plan_is_carried_out_the_next_plan_is_empty(self, world):
        loads, primary, capacities = [3, 3, 3, 4, 1], np.array([0, 0, 0, 1, 2]), [10, 10, 10]
        first = make_plan(world(loads, primary, capacities), POLICY)
        for move in first.moves:
            primary[int(move.units[0][-4:])] = int(move.target[1:])
        second = make_plan(world(loads, primary, capacities), POLICY)
        assert first.moves
        assert not second.moves

    def test_between_the_marks_a_partition_is_left_alone(self, world):
        assert not make_plan(world([4, 3.5], [0, 0], [10, 10]), POLICY).moves


class TestLimits:
    def test_moved_bytes_stay_within_the_limit(self, world):
        policy = build_policy(maximum_bytes=2500, serving=serving_rule(z=0.0))
        plan = make_plan(world([1.5] * 8, [0] * 8, [10, 20]), policy)
        assert len(plan.moves) == 2
        assert sum(move.estimated_bytes for move in plan.moves) <= 2500
        assert plan.refusals[0].reason.code == "limit_reached"

    def test_no_moves_are_made_where_none_are_allowed(self, world):
        plan = make_plan(world([5, 5], [0, 0], [10, 10]), build_policy(maximum_moves=0, serving=serving_rule(z=0.0)))
        assert not plan.moves
        assert plan.refusals[0].reason.code == "limit_reached"


class TestRefusals:
    def test_a_single_partition_reports_the_missing_capacity(self, world):
        plan = make_plan(world([6, 5], [0, 0], [10], locations=["San Jose"]), POLICY)
        (refusal,) = plan.refusals
        assert not plan.moves
        assert refusal.reason.code == "capacity_short"
        assert refusal.reason.sentence == "capacity short by 3 cost/s in all of San Jose and everywhere else from Tue 08:00"
        assert refusal.reason.facts["short"] == pytest.approx(3.0)

    def test_if_all_are_overloaded_the_plan_is_empty_and_refuses_each(self, world):
        plan = make_plan(world([5, 5, 5, 5], [0, 0, 1, 1], [10, 10]), POLICY)
        assert not plan.moves
        assert [(r.partition_id, r.reason.code) for r in plan.refusals] == [("p0", "capacity_short"), ("p1", "capacity_short")]

    def test_a_key_larger_than_any_partition_is_named(self, world):
        plan = make_plan(world([12, 1], [0, 1], [10, 10]), POLICY)
        (refusal,) = plan.refusals
        assert not plan.moves
        assert refusal.reason.code == "key_too_large"
        assert "key-0000" in refusal.reason.sentence

    def test_other_partitions_are_relieved_although_one_key_fits_nowhere(self, world):
        plan = make_plan(world([12, 5, 5, 1], [0, 1, 1, 2], [10, 10, 10]), POLICY)
        assert {move.source for move in plan.moves} == {"p1"}
        assert [r.partition_id for r in plan.refusals] == ["p0"]

    def test_if_no_key_may_move_the_refusal_says_so(self, world):
        plan = make_plan(world([5, 5], [0, 0], [10, 10], movable=np.zeros(2, bool)), POLICY)
        assert plan.refusals[0].reason.code == "nothing_movable"

    def test_a_snapshot_without_keys_gets_an_empty_plan(self, world):
        plan = make_plan(world(np.zeros((0, 24)), [], [10, 10]), POLICY)
        assert not plan.moves
        assert not plan.refusals


class TestShadowedSources:
    def test_moves_whose_gain_shared_reads_would_cancel_are_not_made(self, world):
        current = tuple(IndexedShadow(f"s-{k}", k, 1, "hot_key", removable=False) for k in range(3))
        origins = OriginShares.build(range(3), [0, 0, 0], [1, 1, 1], 6)
        snapshot = world(
            [6, 6, 6, 0.4, 0.4, 1],
            [0, 0, 0, 0, 0, 1],
            [10, 40],
            read_share=[0.9] * 3 + [0.0] * 3,
            origins=origins,
            shadows=current,
        )
        plan = make_plan(snapshot, POLICY)
        assert plan.lps_before["p0"] == pytest.approx(0.8)
        assert not plan.moves


class TestDraining:
    def test_draining_partitions_receive_nothing_and_lose_their_keys(self, world):
        states = [PartitionState.ACTIVE, PartitionState.DRAINING, PartitionState.ACTIVE]
        plan = make_plan(world([5, 4, 1, 1], [0, 0, 1, 2], [10, 100, 10], states=states), POLICY)
        assert "p1" not in {move.target for move in plan.moves}
        assert moved(plan)["key-0002"] in {"p0", "p2"}
        assert {move.reason.code for move in plan.moves if move.source == "p1"} == {"draining"}

    def test_a_drained_key_that_fits_nowhere_stays(self, world):
        states = [PartitionState.DRAINING, PartitionState.ACTIVE]
        assert not make_plan(world([9, 1], [0, 1], [20, 10], states=states), POLICY).moves


class TestShadows:
    hot = staticmethod(
        lambda world, **more: world(
            [12, 1, 1],
            [0, 1, 2],
            [10, 10, 10],
            read_share=[0.9, 0.5, 0.5],
            km=[[0, 20, 900], [20, 0, 880], [900, 880, 0]],
            **more,
        )
    )

    def test_a_read_heavy_key_too_hot_for_any_partition_is_shadowed_on_a_distant_light_one(self, world):
        plan = make_plan(self.hot(world), POLICY)
        assert not plan.moves
        assert {(shadow.key, shadow.source) for shadow in plan.shadows} == {("key-0000", "p0")}
        assert plan.shadows[0].target == "p2"
        assert plan.shadows[0].reason.code == "hot_key"
        assert plan.lps_after["p0"] <= 0.8 + 1e-9
        assert max(plan.lps_after.values()) <= 0.8 + 1e-9

    def test_a_write_heavy_key_is_not_shadowed(self, world):
        snapshot = world([12, 1], [0, 1], [10, 10], read_share=[0.4, 0.5])
        assert not make_plan(snapshot, POLICY).shadows

    def test_no_shadow_is_planned_where_one_is_being_removed(self, world):
        plan = make_plan(self.hot(world, leaving=frozenset({(0, 2)})), POLICY)
        assert {shadow.target for shadow in plan.shadows} == {"p1"}

    def test_no_more_shadows_than_the_limit(self, world):
        assert not make_plan(self.hot(world), build_policy(maximum_shadows=0, serving=serving_rule(z=0.0))).shadows

    def test_a_key_read_from_far_away_is_shadowed_near_its_readers(self, world):
        origins = OriginShares.build([0, 0], [0, 2], [1.0, 1.0], 3)
        km = [[0, 20, 9000], [20, 0, 8980], [9000, 8980, 0]]
        plan = make_plan(world([2, 1, 1], [0, 1, 2], [10, 10, 10], read_share=0.9, origins=origins, km=km), POLICY)
        (shadow,) = plan.shadows
        assert (shadow.key, shadow.target, shadow.reason.code) == ("key-0000", "p2", "far_reads")
        assert shadow.reason.facts["saved_km_per_read"] == pytest.approx(4500)

    def test_far_reads_too_few_to_matter_get_no_shadow(self, world):
        origins = OriginShares.build([0], [1], [1.0], 2)
        km = [[0, 9000], [9000, 0]]
        assert not make_plan(world([0.01, 1], [0, 1], [10, 10], read_share=1.0, origins=origins, km=km), POLICY).shadows

    def test_a_shadow_that_is_no_longer_needed_is_removed(self, world):
        current = (IndexedShadow("s-1", 0, 1, "hot_key"),)
        plan = make_plan(world([2, 1], [0, 1], [10, 10], read_share=0.9, shadows=current), POLICY)
        (removal,) = plan.removals
        assert (removal.shadow_id, removal.key, removal.target, removal.reason.code) == (
            "s-1",
            "key-0000",
            "p1",
            "no_longer_needed",
        )

    def test_a_shadow_is_kept_while_its_partition_would_pass_the_low_water_mark_without_it(self, world):
        current = (IndexedShadow("s-1", 0, 1, "hot_key"),)
        assert not make_plan(world([7, 1], [0, 1], [10, 10], read_share=0.9, shadows=current), POLICY).removals

    def test_a_young_shadow_is_kept(self, world):
        current = (IndexedShadow("s-1", 0, 1, "hot_key", removable=False),)
        assert not make_plan(world([2, 1], [0, 1], [10, 10], read_share=0.9, shadows=current), POLICY).removals

    def test_a_shadow_of_a_key_that_became_write_heavy_is_removed(self, world):
        current = (IndexedShadow("s-1", 0, 1, "hot_key"),)
        plan = make_plan(world([7, 1], [0, 1], [10, 10], read_share=[0.1, 0.5], shadows=current), POLICY)
        assert [removal.reason.code for removal in plan.removals] == ["write_heavy"]

    def test_draining_removes_shadows_on_the_partition_and_of_its_keys(self, world):
        states = [PartitionState.ACTIVE, PartitionState.DRAINING]
        current = (IndexedShadow("s-1", 0, 1, removable=False), IndexedShadow("s-2", 1, 0, removable=False))
        plan = make_plan(world([7, 1], [0, 1], [10, 10], read_share=0.9, states=states, shadows=current), POLICY)
        assert {r.shadow_id: r.reason.code for r in plan.removals} == {"s-1": "target_draining", "s-2": "primary_draining"}

    def test_shadowed_keys_are_not_moved(self, world):
        current = (IndexedShadow("s-1", 0, 1, removable=False),)
        plan = make_plan(world([4, 5, 1], [0, 0, 1], [10, 20], read_share=0.0, shadows=current), POLICY)
        assert set(moved(plan)) == {"key-0001"}
