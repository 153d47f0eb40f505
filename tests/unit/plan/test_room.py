from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.plan._placement_model import PlacementModel
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.planner import make_plan

POLICY = build_policy(serving=serving_rule(z=0.0, room_mark=0.8), maximum_settled=0)
LARGE, SMALL = 11.0, 1.0


def crowded(world, share=0.9, **more):
    """A key larger than a partition, and six small keys on each of the other four, none of which has room for its shadow."""
    primary = [0, *np.repeat([1, 2, 3, 4], 6)]
    return world([LARGE, *np.full(24, SMALL)], primary, [10.0] * 5, read_share=[share, *np.zeros(24)], **more)


def made_room(plan):
    return [move for move in plan.moves if move.reason.code == "makes_room"]


def test_keys_make_room_if_the_shadow_of_a_large_key_fits_nowhere(world):
    plan = make_plan(crowded(world), POLICY)
    (shadow,) = plan.shadows
    assert (shadow.key, shadow.source, shadow.reason.code) == ("key-0000", "p0", "hot_key")
    assert made_room(plan)
    assert {move.source for move in made_room(plan)} == {shadow.target}
    assert max(plan.lps_before.values()) == pytest.approx(1.1)
    assert max(plan.lps_after.values()) < 0.95


def test_moves_that_make_room_name_the_large_key(world):
    move = made_room(make_plan(crowded(world), POLICY))[0]
    assert "with key-0000, which gets a shadow; " + move.units[0] + " makes room for it" in move.reason.sentence
    assert move.reason.facts["gain_overload_hours"] is not None


def test_if_a_shadow_fits_no_key_moves(world):
    loads = [LARGE, *np.full(6, 0.3)]
    plan = make_plan(world(loads, [0, 1, 1, 2, 2, 3, 3], [10.0] * 4, read_share=[0.9, *np.zeros(6)]), POLICY)
    assert plan.shadows
    assert not made_room(plan)


def test_no_room_is_made_for_a_key_that_is_written_too_often(world):
    plan = make_plan(crowded(world, share=0.4), POLICY)
    assert not plan.shadows
    assert not made_room(plan)
    assert plan.refusals[0].reason.code in {"key_too_large", "capacity_short"}


def test_no_room_is_made_where_it_costs_more_than_it_removes(world):
    assert not make_plan(crowded(world), replace(POLICY, minimum_gain=5.0, shadow_gain=50.0)).shadows


@pytest.mark.parametrize("limit", [{"maximum_moves": 0}, {"maximum_shadows": 0}, {"maximum_bytes": 1.0}])
def test_room_is_made_within_the_hour_s_limits(world, limit):
    plan = make_plan(crowded(world), replace(POLICY, **limit))
    assert not made_room(plan)


def test_the_existing_shadow_is_kept_and_its_room_is_not_filled_again(world):
    snapshot = crowded(world)
    plan = make_plan(snapshot, POLICY)
    index, (shadow,) = {key: k for k, key in enumerate(snapshot.keys)}, plan.shadows
    primary = snapshot.primary.copy()
    for move in plan.moves:
        primary[index[move.units[0]]] = int(move.target[1:])
    current = (IndexedShadow(shadow.shadow_id, 0, int(shadow.target[1:]), "hot_key"),)
    after = make_plan(replace(snapshot, primary=primary, shadows=current), POLICY)
    assert (after.moves, after.shadows, after.removals) == ((), (), ())


def test_rejected_attempts_leave_no_trace(world):
    snapshot = crowded(world)
    policy = replace(POLICY, minimum_gain=5.0, shadow_gain=50.0)
    plan, model = make_plan(snapshot, policy), PlacementModel(snapshot, policy)
    assert plan.lps_after == plan.lps_before
    assert [plan.lps_before[p.partition_id] for p in snapshot.partitions] == model.lps().tolist()


def test_a_key_gets_a_second_shadow_if_one_is_not_enough(world):
    snapshot = world([17.0, 0.5, 0.5, 0.5], [0, 1, 2, 3], [10.0] * 4, read_share=[0.95, 0, 0, 0])
    current = (IndexedShadow("key-0000|p1", 0, 1, "hot_key"),)
    plan = make_plan(replace(snapshot, shadows=current), POLICY)
    (shadow,) = plan.shadows
    assert (shadow.key, shadow.source) == ("key-0000", "p0")
    assert shadow.target in {"p2", "p3"}
    assert max(plan.lps_after.values()) < max(plan.lps_before.values())


def test_a_resting_key_may_get_a_shadow_except_on_its_last_source(world):
    snapshot = world([14.0, 0.5, 0.5, 0.5], [0, 1, 2, 3], [10.0] * 4, read_share=[0.95, 0, 0, 0])
    rests = replace(snapshot, movable=np.array([False, True, True, True]), last_source=np.array([1, -1, -1, -1]))
    plan = make_plan(rests, POLICY)
    assert plan.shadows
    assert {shadow.key for shadow in plan.shadows} == {"key-0000"}
    assert {shadow.target for shadow in plan.shadows} <= {"p2", "p3"}
    assert not [move for move in plan.moves if move.units[0] == "key-0000"]


def test_a_key_that_is_being_moved_gets_no_shadow(world):
    snapshot = world([14.0, 0.5, 0.5, 0.5], [0, 1, 2, 3], [10.0] * 4, read_share=[0.95, 0, 0, 0])
    moving = np.array([True, False, False, False])
    assert make_plan(snapshot, POLICY).shadows
    assert not make_plan(replace(snapshot, movable=~moving, under_way=moving), POLICY).shadows
