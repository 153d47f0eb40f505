from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.measure.demand import OriginShares
from foreshard.plan.input.past_hours import PastHours
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.planner import make_plan

POLICY = build_policy(serving=serving_rule(z=0.0))
KM = [[0, 20, 9000], [20, 0, 8980], [9000, 8980, 0]]


def moved(plan):
    return {move.units[0]: move.target for move in plan.moves}


def at_home(keys, place):
    return OriginShares.build([0], [place], [1.0], keys)


def day(loads):
    """The loads (keys,) in each of a day's hours."""
    return np.repeat(np.asarray(loads, float)[:, None], 24, axis=1)


def test_a_key_read_from_far_away_settles_near_its_users(world):
    plan = make_plan(world(day([2, 1, 1]), [0, 1, 2], [10, 10, 10], origins=at_home(3, 2), km=KM), POLICY)
    assert moved(plan) == {"key-0000": "p2"}
    (move,) = plan.moves
    assert move.reason.code == "settling"
    assert "9000 km nearer" in move.reason.sentence
    assert move.reason.facts["value_overload_hours"] > 0


def test_separated_co_accessed_keys_settle_together(world):
    plan = make_plan(world(day([2, 1, 1]), [0, 1, 2], [10, 10, 10], co_access=[(0, 1, 3600)]), POLICY)
    assert len(plan.moves) == 1
    assert moved(plan) in ({"key-0000": "p1"}, {"key-0001": "p0"})


def test_a_clump_settles_as_a_whole(world):
    origins = OriginShares.build([0, 1], [2, 2], [1.0, 1.0], 4)
    snapshot = world(day([2, 1, 1, 1]), [0, 0, 1, 2], [10, 10, 10], origins=origins, co_access=[(0, 1, 1800)], km=KM)
    assert moved(make_plan(snapshot, POLICY)) == {"key-0000": "p2", "key-0001": "p2"}


def test_a_recently_moved_key_does_not_settle_and_joins_no_clump(world):
    origins = OriginShares.build([0, 1], [2, 2], [1.0, 1.0], 4)
    snapshot = world(day([2, 1, 1, 1]), [0, 0, 1, 2], [10, 10, 10], origins=origins, co_access=[(0, 1, 1800)], km=KM)
    for tired, expected in ((0, {"key-0001": "p2"}), (1, {"key-0000": "p2"})):
        rested = np.ones(4, bool)
        rested[tired] = False
        assert moved(make_plan(replace(snapshot, rested=rested), POLICY)) == expected


def test_a_recently_moved_key_moves_again_to_relieve_overload(world):
    snapshot = world(day([5, 4, 1]), [0, 0, 1], [10, 10], rested=np.zeros(3, bool))
    assert {move.reason.code for move in make_plan(snapshot, POLICY).moves} == {"overload"}


def test_keys_do_not_settle_without_room_in_the_busiest_hours(world):
    plan = make_plan(world(day([2, 1, 6]), [0, 1, 2], [10, 10, 10], origins=at_home(3, 2), km=KM), POLICY)
    assert moved(plan) == {"key-0000": "p1"}
    assert not make_plan(world(day([2, 6, 6]), [0, 1, 2], [10, 10, 10], origins=at_home(3, 2), km=KM), POLICY).moves


def test_room_that_depends_on_passing_reads_on_is_not_used_for_settling(world):
    at_p2 = OriginShares.build([0, 2], [2, 2], [1.0, 1.0], 4)
    snapshot = world(day([1, 6, 7.5, 1]), [0, 0, 2, 1], [10, 10, 10], read_share=[0, 0, 1, 0], origins=at_p2, km=KM)
    shadow = IndexedShadow("key-0002|p1", 2, 1, "reserve", removable=False)
    early = replace(POLICY, serving=serving_rule(z=0.0, room_mark=0.5))
    assert moved(make_plan(replace(snapshot, shadows=(shadow,)), early)) == {"key-0000": "p1"}


@pytest.mark.parametrize("change", [{"settle_gain": 500.0}, {"maximum_settled": 0}])
def test_keys_stay_if_settling_does_not_pay_or_is_not_allowed(world, change):
    snapshot = world(day([2, 1, 1]), [0, 1, 2], [10, 10, 10], origins=at_home(3, 2), km=KM)
    assert make_plan(snapshot, POLICY).moves
    assert not make_plan(snapshot, replace(POLICY, **change)).moves


def test_settling_ends(world):
    rng = np.random.default_rng(0)
    keys = 40
    primary = rng.integers(0, 3, keys)
    origins = OriginShares.build(range(keys), rng.integers(0, 3, keys), np.ones(keys), keys)
    pairs = np.c_[rng.integers(0, keys, (30, 2)), rng.random(30) * 1000]
    for _ in range(20):
        snapshot = world(day(np.full(keys, 0.3)), primary, [10, 10, 10], origins=origins, co_access=pairs, km=KM)
        plan = make_plan(snapshot, POLICY)
        for move in plan.moves:
            primary[int(move.units[0][-4:])] = int(move.target[1:])
    assert not plan.moves


def test_settling_waits_for_the_quieter_half_of_the_day(world):
    busy_now = np.r_[np.full(6, 1.0), np.full(18, 0.5)]
    quiet_now = busy_now[::-1]
    for shape, moves in ((busy_now, 0), (quiet_now, 1)):
        loads = np.array([2.0, 1.0, 1.0])[:, None] * shape
        plan = make_plan(world(loads, [0, 1, 2], [10, 10, 10], origins=at_home(3, 2), km=KM), POLICY)
        assert len(plan.moves) == moves


def test_settling_needs_room_in_the_weeks_busiest_hour(world):
    snapshot = world(day([2, 1, 4]), [0, 1, 2], [10, 10, 10], origins=at_home(3, 2), km=KM)
    assert moved(make_plan(snapshot, POLICY)) == {"key-0000": "p2"}
    assert "p2" not in moved(make_plan(replace(snapshot, week_peak=1.3 * 7 * 3600), POLICY)).values()


def test_settling_needs_room_in_past_hours(world):
    snapshot = world(day([2, 1, 4]), [0, 1, 2], [10, 10, 10], origins=at_home(3, 2), km=KM)
    past = np.repeat(np.array([[2.0], [1.0], [4.0]], np.float32) * 3600, 20, axis=1)
    assert moved(make_plan(replace(snapshot, past=PastHours(past)), POLICY)) == {"key-0000": "p2"}
    past[2, 3:6] = 7.9 * 3600
    assert "p2" not in moved(make_plan(replace(snapshot, past=PastHours(past)), POLICY)).values()


def test_on_a_calm_day_keys_settle_only_with_past_hours(world):
    snapshot = world(day([2, 1, 1]), [0, 1, 2], [10, 10, 10], origins=at_home(3, 2), km=KM, week_peak=8 * 3600.0)
    assert not make_plan(snapshot, POLICY).moves
    past = np.repeat(np.array([[3.0], [1.0], [1.0]], np.float32) * 3600, 20, axis=1)
    assert moved(make_plan(replace(snapshot, past=PastHours(past)), POLICY)) == {"key-0000": "p2"}
