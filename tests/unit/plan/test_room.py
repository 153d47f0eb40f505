from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy

from foreshard.measure.demand import ServingRule
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan.planner import make_plan
from foreshard.plan.snapshot import IndexedShadow

POLICY = build_policy(serving=ServingRule(z=0.0, room_mark=0.8), maximum_settled=0)
LARGE, SMALL = 11.0, 1.0


def crowded(world, share=0.9, **more):
    """A key larger than a partition, and six small ones on each of the other four: none has room for its copy."""
    primary = [0, *np.repeat([1, 2, 3, 4], 6)]
    return world([LARGE, *np.full(24, SMALL)], primary, [10.0] * 5, read_share=[share, *np.zeros(24)], **more)


def made_room(plan):
    return [move for move in plan.moves if move.reason.code == "makes_room"]


def test_keys_make_room_where_a_large_key_s_copy_fits_nowhere(world):
    plan = make_plan(crowded(world), POLICY)
    (shadow,) = plan.shadows
    assert (shadow.key, shadow.source, shadow.reason.code) == ("key-0000", "p0", "hot_key")
    assert made_room(plan)
    assert {move.source for move in made_room(plan)} == {shadow.target}
    assert max(plan.lps_before.values()) == pytest.approx(1.1)
    assert max(plan.lps_after.values()) < 0.95


def test_who_makes_room_says_for_which_key(world):
    move = made_room(make_plan(crowded(world), POLICY))[0]
    assert "with key-0000, which gets a copy; " + move.key + " makes room" in move.reason.sentence
    assert move.reason.facts["gain_overload_hours"] is not None


def test_where_a_copy_fits_as_it_is_no_key_has_to_go(world):
    loads = [LARGE, *np.full(6, 0.3)]
    plan = make_plan(world(loads, [0, 1, 1, 2, 2, 3, 3], [10.0] * 4, read_share=[0.9, *np.zeros(6)]), POLICY)
    assert plan.shadows
    assert not made_room(plan)


def test_a_key_that_is_written_too_much_gets_no_room(world):
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


def test_the_copy_that_stands_is_kept_and_its_room_not_filled_again(world):
    snapshot = crowded(world)
    plan = make_plan(snapshot, POLICY)
    index, (shadow,) = {key: k for k, key in enumerate(snapshot.keys)}, plan.shadows
    primary = snapshot.primary.copy()
    for move in plan.moves:
        primary[index[move.key]] = int(move.target[1:])
    standing = (IndexedShadow(shadow.shadow_id, 0, int(shadow.target[1:]), "hot_key"),)
    after = make_plan(replace(snapshot, primary=primary, shadows=standing), POLICY)
    assert (after.moves, after.shadows, after.removals) == ((), (), ())


def test_what_was_tried_in_vain_leaves_no_trace(world):
    snapshot = crowded(world)
    policy = replace(POLICY, minimum_gain=5.0, shadow_gain=50.0)
    plan, view = make_plan(snapshot, policy), PlacementModel(snapshot, policy)
    assert plan.lps_after == plan.lps_before
    assert [plan.lps_before[p.partition_id] for p in snapshot.partitions] == view.lps().tolist()


def test_a_key_whose_copy_is_not_enough_gets_another(world):
    snapshot = world([17.0, 0.5, 0.5, 0.5], [0, 1, 2, 3], [10.0] * 4, read_share=[0.95, 0, 0, 0])
    standing = (IndexedShadow("key-0000|p1", 0, 1, "hot_key"),)
    plan = make_plan(replace(snapshot, shadows=standing), POLICY)
    (shadow,) = plan.shadows
    assert (shadow.key, shadow.source) == ("key-0000", "p0")
    assert shadow.target in {"p2", "p3"}
    assert max(plan.lps_after.values()) < max(plan.lps_before.values())


def test_a_key_that_rests_after_a_move_may_get_a_copy_but_not_where_it_came_from(world):
    snapshot = world([14.0, 0.5, 0.5, 0.5], [0, 1, 2, 3], [10.0] * 4, read_share=[0.95, 0, 0, 0])
    rests = replace(snapshot, movable=np.array([False, True, True, True]), last_source=np.array([1, -1, -1, -1]))
    plan = make_plan(rests, POLICY)
    assert plan.shadows
    assert {shadow.key for shadow in plan.shadows} == {"key-0000"}
    assert {shadow.target for shadow in plan.shadows} <= {"p2", "p3"}
    assert not [move for move in plan.moves if move.key == "key-0000"]


def test_a_key_that_is_under_way_gets_no_copy(world):
    snapshot = world([14.0, 0.5, 0.5, 0.5], [0, 1, 2, 3], [10.0] * 4, read_share=[0.95, 0, 0, 0])
    moving = np.array([True, False, False, False])
    assert make_plan(snapshot, POLICY).shadows
    assert not make_plan(replace(snapshot, movable=~moving, under_way=moving), POLICY).shadows
