"""The rate of moves, their finishing times, and warnings about late moves."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.plan.input.migration_rate import MigrationRate, measure_rate
from foreshard.plan.planner import make_plan

MIB = 2.0**20
POLICY = build_policy(high_water=0.8, reserve=0.0, serving=serving_rule(z=0.0), maximum_bytes=2.0**50, churn=0.01)
DEFAULT = MigrationRate(60.0, 5 * MIB)


class TestRate:
    @given(st.floats(0, 100), st.floats(0.01, 500), st.lists(st.floats(0, 1e11), min_size=6, max_size=30, unique=True))
    def test_the_rate_of_regular_moves_is_found(self, seconds, mib_per_second, sizes):
        rate = measure_rate([(size, seconds + size / mib_per_second / MIB) for size in sizes], DEFAULT)
        assert rate.measured == len(sizes)
        for size in sizes:
            assert rate.seconds(size) == pytest.approx(seconds + size / mib_per_second / MIB, rel=1e-3, abs=1e-2)

    def test_moves_that_waited_are_ignored(self):
        sizes = [10 * MIB * n for n in range(1, 20)]
        rate = measure_rate([*((size, 2 + size / (10 * MIB)) for size in sizes), (50 * MIB, 9000.0)], DEFAULT)
        assert rate.measured == 19
        assert rate.seconds(100 * MIB) == pytest.approx(12, rel=0.05)

    def test_too_few_moves_leave_the_default(self):
        assert measure_rate([(MIB, 1.0)] * 4, DEFAULT) is DEFAULT

    def test_moves_without_bytes_give_the_fixed_time_and_the_default_bandwidth(self):
        assert measure_rate([(0.0, 3.0)] * 5, DEFAULT) == MigrationRate(pytest.approx(3.0), 5 * MIB, 5)


class TestSchedule:
    def relieved(self, world, rate, key_bytes=1000.0, quiet_hours=3):
        """A partition that needs relief after some quiet hours."""
        is_calm, busy = [1.0] * quiet_hours, [4.5] * 2
        loads = [[*is_calm, *busy], [*is_calm, *busy], [*is_calm, *[1.0] * 2]]
        snapshot = world(loads, [0, 0, 1], [10, 10], key_bytes=key_bytes)
        return make_plan(replace(snapshot, migration=rate), POLICY)

    def test_a_move_that_finishes_in_time_has_its_finishing_time(self, world):
        plan = self.relieved(world, MigrationRate(90.0, MIB))
        (move,) = plan.moves
        facts = move.reason.facts
        assert facts["needed_by"] == "2024-03-05T11:00:00+00:00"
        assert facts["finished_by"] == "2024-03-05T08:01:30+00:00"
        assert facts["in_time"]
        assert not plan.warnings

    def test_a_move_that_cannot_be_finished_in_time_is_planned_with_a_warning(self, world):
        plan = self.relieved(world, MigrationRate(0.0, MIB, 37), key_bytes=4 * 3600 * MIB)
        (move,) = plan.moves
        assert not move.reason.facts["in_time"]
        (warning,) = plan.warnings
        assert (warning.partition_id, warning.reason.code) == ("p0", "finishes_late")
        assert warning.reason.sentence == (
            "p0 needs its relief by Tue 11:00; at 1 MiB/s and 0 s per move (measured over 37 moves)"
            " it comes at Tue 12:00, 60 min late"
        )
        assert warning.reason.facts["late_seconds"] == 3600.0
        assert warning.reason.facts["measured_moves"] == 37

    def test_the_most_urgent_move_is_first_and_moves_to_one_partition_share_its_places(self, world):
        loads = [[1, 4.5], [1, 4.5], [4.6, 4.5], [4.6, 4.5], [7, 7]]
        snapshot = world(loads, [0, 0, 1, 1, 2], [10, 10, 22])
        plan = make_plan(replace(snapshot, migration=MigrationRate(100.0, MIB)), replace(POLICY, parallel_moves=1))
        assert [move.source for move in plan.moves] == ["p1", "p0"]
        assert [move.reason.facts["finished_by"][14:19] for move in plan.moves] == ["01:40", "03:20"]
        both = make_plan(replace(snapshot, migration=MigrationRate(100.0, MIB)), POLICY)
        assert [move.reason.facts["finished_by"][14:19] for move in both.moves] == ["01:40", "01:40"]
        assert "needs its relief now" in both.warnings[0].reason.sentence

    def test_moves_between_different_partitions_do_not_wait_for_each_other(self, world):
        loads = [[1, 4.5], [1, 4.5], [4.6, 4.5], [4.6, 4.5], [1, 1], [1, 1]]
        snapshot = world(loads, [0, 0, 1, 1, 2, 3], [10] * 4)
        plan = make_plan(replace(snapshot, migration=MigrationRate(100.0, MIB)), replace(POLICY, parallel_moves=1))
        assert len({move.target for move in plan.moves}) == 2
        assert [move.reason.facts["finished_by"][14:19] for move in plan.moves] == ["01:40", "01:40"]

    def test_with_one_move_allowed_the_partition_that_needs_it_first_is_relieved(self, world):
        loads = [[1, 1, 4.5], [1, 1, 4.5], [4.5, 1, 1], [4.5, 1, 1], [1, 1, 1]]
        snapshot = world(loads, [0, 0, 1, 1, 2], [10] * 3)
        plan = make_plan(snapshot, replace(POLICY, maximum_moves=1))
        assert plan.lps_before["p0"] == plan.lps_before["p1"]
        assert [move.source for move in plan.moves] == ["p1"]
        assert {refusal.partition_id: refusal.reason.code for refusal in plan.refusals} == {"p0": "limit_reached"}
        everyone = make_plan(snapshot, POLICY)
        assert {move.source for move in everyone.moves} == {"p0", "p1"}
