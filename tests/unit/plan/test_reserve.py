from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._reserve import fixed_load
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.planner import make_plan

POLICY = build_policy(serving=serving_rule(z=0.0), maximum_settled=0, high_water=0.95, low_water=0.85, reserve=0.25)
BUSY = np.repeat(1.4, 6)


def three(world, busy=BUSY, others=3.0, read_share=0.9, **more):
    """Six keys on p0, one on each of p1 and p2; capacities of 10."""
    loads = np.array([*busy, others, others]) if np.ndim(busy) == 1 else np.vstack([busy, np.full((2, busy.shape[1]), others)])
    return world(loads, [0] * 6 + [1, 2], [10.0] * 3, read_share=read_share, **more)


def current(plan, snapshot):
    index = {key: k for k, key in enumerate(snapshot.keys)}
    return tuple(IndexedShadow(s.shadow_id, index[s.key], int(s.target[1:]), "reserve") for s in plan.shadows)


def test_a_partition_that_a_burst_would_overload_gets_shadows_for_enough_reads(world):
    snapshot = three(world)
    plan = make_plan(snapshot, POLICY)
    assert {(s.source, s.reason.code) for s in plan.shadows} == {("p0", "reserve")}
    fixed = fixed_load(PlacementModel(replace(snapshot, shadows=current(plan, snapshot)), POLICY))
    assert len(plan.shadows) == 1
    assert fixed.max() <= 7.5
    assert fixed_load(PlacementModel(snapshot, POLICY)).max() == pytest.approx(8.4)
    assert "a burst could overload p0: a shadow of key-0000 on p" in plan.shadows[0].reason.sentence
    assert "up to 13% of the capacity of p0" in plan.shadows[0].reason.sentence


def test_a_partition_with_room_for_a_burst_gets_no_shadows(world):
    assert not make_plan(three(world, busy=np.repeat(1.2, 6)), POLICY).shadows


def test_with_a_reserve_of_zero_no_shadow_is_made(world):
    assert not make_plan(three(world), replace(POLICY, reserve=0.0)).shadows


def test_keys_that_are_mostly_written_are_not_shadowed_for_the_reserve(world):
    assert not make_plan(three(world, read_share=0.4), POLICY).shadows


@pytest.mark.parametrize(("read_share", "made"), [(0.6, False), (0.9, True)])
def test_partitions_without_reserve_get_only_shadows_with_few_writes(world, read_share, made):
    snapshot = three(world, others=7.45, read_share=read_share)
    plan = make_plan(snapshot, POLICY)
    assert bool(plan.shadows) == made
    before, after = (
        fixed_load(PlacementModel(replace(snapshot, shadows=shadows), POLICY)).max(axis=1)
        for shadows in ((), current(plan, snapshot))
    )
    assert sum(after) <= sum(before)


@pytest.mark.parametrize(("others_busy", "made"), [(slice(0, 12), True), (slice(12, 24), False)])
def test_a_target_without_reserve_may_be_busy_at_another_time(world, others_busy, made):
    loads = np.full((8, 24), 0.1)
    loads[:6, 12:] = 1.4
    loads[6:, others_busy] = 7.6
    plan = make_plan(world(loads, [0] * 6 + [1, 2], [10.0] * 3, read_share=0.6), POLICY)
    assert bool([shadow for shadow in plan.shadows if shadow.source == "p0"]) == made


def test_a_shadow_does_not_make_its_target_as_full_as_its_primary_was(world):
    assert not make_plan(three(world, others=8.39), POLICY).shadows


def test_the_hourly_limit_of_shadows_applies_to_the_reserve(world):
    plan = make_plan(three(world), replace(POLICY, reserve=0.5, maximum_shadows=2))
    assert len(plan.shadows) == 2


def test_the_weeks_busiest_hour_counts_if_the_day_is_quieter(world):
    snapshot = three(world, busy=np.repeat(1.2, 6))
    total = float(snapshot.demand.mean.sum())
    assert make_plan(replace(snapshot, week_peak=1.2 * total), POLICY).shadows
    assert not make_plan(replace(snapshot, week_peak=1.02 * total), POLICY).shadows


def test_the_target_farthest_from_the_copies_is_chosen_among_equals(world):
    km = [[0.0, 5.0, 900.0], [5.0, 0.0, 900.0], [900.0, 900.0, 0.0]]
    assert {s.target for s in make_plan(three(world, km=km), POLICY).shadows} == {"p2"}


@pytest.mark.parametrize(("hours", "made"), [([1.4, 1.2, 1.2], False), ([1.2, 1.2, 1.4], True)])
def test_shadows_are_made_in_the_quieter_half_of_the_day(world, hours, made):
    assert bool(make_plan(three(world, busy=np.tile(hours, (6, 1))), POLICY).shadows) == made


def test_relief_takes_precedence_over_the_reserve(world):
    loads = [*np.repeat(1.4, 6), 3.0, 3.0, *np.repeat(2.0, 6)]
    plan = make_plan(world(loads, [0] * 6 + [1, 2] + [3] * 6, [10.0] * 4, read_share=0.9), POLICY)
    assert plan.moves
    assert not [shadow for shadow in plan.shadows if shadow.reason.code == "reserve"]


def test_a_shadow_is_kept_while_the_reserve_depends_on_it(world):
    snapshot = three(world)
    shadows = current(make_plan(snapshot, POLICY), snapshot)
    after = make_plan(replace(snapshot, shadows=shadows), POLICY)
    assert (after.shadows, after.removals) == ((), ())
    calmer = three(world, busy=np.repeat(1.1, 6), shadows=shadows)
    assert [removal.reason.code for removal in make_plan(calmer, POLICY).removals] == ["no_longer_needed"]


def test_small_changes_of_load_do_not_remove_a_shadow(world):
    snapshot = three(world)
    shadows = current(make_plan(snapshot, POLICY), snapshot)
    assert not make_plan(three(world, busy=np.repeat(1.22, 6), shadows=shadows), POLICY).removals
    assert not make_plan(three(world, busy=np.repeat(1.22, 6)), POLICY).shadows
