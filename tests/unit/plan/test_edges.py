"""Edge cases: no data, nothing to do, or nothing that fits."""

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.plan.planner import make_plan

POLICY = build_policy(high_water=0.8, reserve=0.0, serving=serving_rule(z=0.0))


def untouched(plan):
    return not (plan.moves or plan.shadows or plan.removals)


def test_no_keys_at_all_need_no_plan(world):
    plan = make_plan(world(np.zeros((0, 3)), [], [10, 10]), POLICY)
    assert untouched(plan)
    assert not plan.refusals
    assert plan.lps_after == {"p0": 0.0, "p1": 0.0}


def test_an_empty_graph_is_relieved_key_by_key(world):
    plan = make_plan(world([3, 3, 3, 1], [0, 0, 0, 1], [10, 10]), POLICY)
    assert [move.clump for move in plan.moves] == [move.units[0] for move in plan.moves] != []


def test_a_single_overloaded_partition_keeps_its_keys_and_reports_the_missing_capacity(world):
    plan = make_plan(world([6, 4], [0, 0], [10]), POLICY)
    assert untouched(plan)
    (refusal,) = plan.refusals
    assert (refusal.partition_id, refusal.reason.code) == ("p0", "capacity_short")
    assert refusal.reason.sentence == "capacity short by 2 cost/s in all of town-0 and everywhere else from Tue 08:00"


def test_if_all_partitions_are_overloaded_nothing_moves_and_each_has_a_refusal(world):
    plan = make_plan(world([5, 5, 5, 5, 5, 5], [0, 0, 1, 1, 2, 2], [9, 9, 9]), POLICY)
    assert untouched(plan)
    assert {refusal.partition_id: refusal.reason.code for refusal in plan.refusals} == dict.fromkeys(
        ("p0", "p1", "p2"), "capacity_short"
    )


def test_if_all_partitions_are_idle_the_plan_is_empty(world):
    plan = make_plan(world(np.zeros((5, 24)), [0, 0, 1, 1, 1], [10, 10]), POLICY)
    assert untouched(plan)
    assert not plan.refusals


@pytest.mark.parametrize("read_share", [0.0, 0.4])
def test_a_key_too_large_to_move_and_too_often_written_to_shadow_is_named(world, read_share):
    plan = make_plan(world([25, 1, 1], [0, 1, 2], [10, 10, 10], read_share=read_share), POLICY)
    assert not any(move.units[0] == "key-0000" for move in plan.moves)
    (refusal,) = plan.refusals
    assert (refusal.reason.code, refusal.reason.facts["largest_key"]) == ("key_too_large", "key-0000")


def test_equal_partitions_with_equal_loads_get_an_empty_plan_each_time(world):
    snapshot = world([2] * 9, [0, 0, 0, 1, 1, 1, 2, 2, 2], [10, 10, 10])
    assert untouched(make_plan(snapshot, POLICY))
    even = world([3] * 9, [0, 0, 0, 1, 1, 1, 2, 2, 2], [10, 10, 10])
    assert make_plan(even, POLICY) == make_plan(even, POLICY)
    assert untouched(make_plan(even, POLICY))


def test_the_first_of_equal_partitions_receives_the_key(world):
    plan = make_plan(world([4, 5, 1, 1, 1], [0, 0, 1, 2, 3], [10] * 4), POLICY)
    assert {move.target for move in plan.moves} == {"p1"}
