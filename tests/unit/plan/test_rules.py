"""Plans for keys that violate placement rules and for draining partitions, and the reasons they give."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.measure.demand import OriginShares
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import PartitionState, PlacementRule, RuleKind
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.planner import make_plan

HELD = np.array([False, True])
POLICY = build_policy(high_water=0.8, reserve=0.0, serving=serving_rule(z=0.0))


@pytest.fixture
def ruled(world):
    """A world with rules: (kind, selector, partition or locations)."""

    def build(loads, primary, capacities, *rules, **more):
        snapshot = world(loads, primary, capacities, **more)
        given = [
            PlacementRule(RuleKind.PIN, selector, False, where)
            if kind == "pin"
            else PlacementRule(RuleKind.RESIDENCY, selector, False, None, where)
            for kind, selector, where in rules
        ]
        return replace(snapshot, bounds=PlacementRules(given).bounds(snapshot.keys, snapshot.partitions))

    return build


def moved(plan):
    return {move.units[0]: move.target for move in plan.moves}


def test_a_key_that_violates_its_residency_is_moved_although_nothing_is_overloaded(ruled):
    plan = make_plan(ruled([2, 2, 1], [0, 0, 1], [10, 10, 10], ("reside", "key-0001", ("town-2",))), POLICY)
    (move,) = plan.moves
    assert (move.units[0], move.target, move.reason.code) == ("key-0001", "p2", "residency")
    assert move.reason.sentence == "key-0001 must stay in town-2; it moves from p0 to p2, which is then at 0.20"
    assert move.reason.facts["rules"] == ["residency:key:key-0001"]
    assert move.reason.facts["needed_by"] == "2024-03-05T08:00:00+00:00"
    assert not plan.refusals
    assert not plan.warnings


def test_a_rule_takes_precedence_over_churn(ruled):
    snapshot = ruled(
        [2, 1], [0, 1], [10, 10], ("pin", "key-0000", "p1"), idle_hours=np.array([0.0, 0.0]), last_source=np.array([1, -1])
    )
    assert moved(make_plan(snapshot, POLICY)) == {"key-0000": "p1"}


def test_a_key_that_is_being_moved_is_left_alone(ruled):
    snapshot = ruled([2, 1], [0, 1], [10, 10], ("pin", "key-0000", "p1"), movable=HELD, under_way=~HELD)
    plan = make_plan(snapshot, POLICY)
    assert not plan.moves
    assert not plan.refusals


def test_a_pinned_key_stays_and_another_relieves_its_partition(ruled):
    free = make_plan(ruled([5, 4, 1], [0, 0, 1], [10, 10]), POLICY)
    pinned = make_plan(ruled([5, 4, 1], [0, 0, 1], [10, 10], *(("pin", key, "p0") for key in moved(free))), POLICY)
    assert moved(free)
    assert moved(pinned)
    assert not set(moved(free)) & set(moved(pinned))


def test_if_every_key_is_pinned_the_refusal_says_so(ruled):
    plan = make_plan(ruled([5, 4, 1], [0, 0, 1], [10, 10], ("pin", "key-0000", "p0"), ("pin", "key-0001", None)), POLICY)
    assert not plan.moves
    (refusal,) = plan.refusals
    assert refusal.partition_id == "p0"
    assert refusal.reason.code == "held_by_rules"
    assert refusal.reason.sentence.endswith("keys that placement rules keep there take 90% of its capacity")


def test_if_keys_must_stay_in_a_full_location_the_refusal_names_it_and_the_missing_capacity(ruled):
    rules = [("reside", f"key-000{n}", ("bay",)) for n in range(3)]
    locations = ["bay", "bay", "elsewhere"]
    plan = make_plan(ruled([5, 5, 7, 1], [0, 0, 1, 2], [10, 10, 10], *rules, locations=locations), POLICY)
    (refusal,) = plan.refusals
    assert (refusal.partition_id, refusal.reason.code) == ("p0", "capacity_short")
    assert refusal.reason.sentence == "capacity short by 1 cost/s in all of bay, where its keys must stay, from Tue 08:00"


def test_relief_uses_only_allowed_targets(ruled):
    rules = [("reside", f"key-000{n}", ("town-0", "town-2")) for n in range(3)]
    plan = make_plan(ruled([3, 3, 3, 0.1, 1], [0, 0, 0, 1, 2], [10, 10, 10], *rules), POLICY)
    assert set(moved(plan).values()) == {"p2"}


def test_a_clump_excludes_keys_that_are_not_allowed_on_its_target(ruled):
    snapshot = ruled(
        [4, 2, 2.5, 1, 1], [0, 0, 0, 1, 2], [10, 10, 10], ("pin", "key-0001", "p0"), co_access=[(0, 1, 900), (0, 2, 900)]
    )
    assert "key-0001" not in moved(make_plan(snapshot, POLICY))


def test_a_rule_that_no_active_partition_satisfies_is_refused_by_name(ruled):
    states = [PartitionState.ACTIVE, PartitionState.DRAINING]
    plan = make_plan(ruled([2, 1], [0, 0], [10, 10], ("pin", "key-0000", "p1"), states=states), POLICY)
    (refusal,) = plan.refusals
    assert (refusal.partition_id, refusal.reason.code) == ("p0", "against_rule")
    assert refusal.reason.facts["obstacle"] == "nowhere_allowed"
    assert refusal.reason.facts["rules"] == ["pin:key:key-0000"]
    assert "key-0000 is pinned to p1, but stays on p0" in refusal.reason.sentence


def test_a_rule_does_not_push_a_partition_over_its_mark(ruled):
    plan = make_plan(ruled([5, 7, 1], [0, 1, 2], [10, 10, 10], ("pin", "key-0000", "p1")), POLICY)
    assert not plan.moves
    (refusal,) = plan.refusals
    assert refusal.reason.facts["obstacle"] == "no_target_fits"


def test_violations_beyond_the_limit_are_moved_in_later_hours(ruled):
    rules = [("reside", f"key-000{n}", ("town-1",)) for n in range(4)]
    policy = replace(POLICY, maximum_moves=3)
    plan = make_plan(ruled([1, 1, 1, 1], [0] * 4, [10, 10], *rules), policy)
    assert len(plan.moves) == 3
    (refusal,) = plan.refusals
    assert (refusal.reason.code, refusal.reason.facts["obstacle"]) == ("against_rule", "limit_reached")


def test_shadows_that_violate_a_rule_are_removed_and_not_made_again(ruled):
    current = (IndexedShadow("s-1", 0, 1, "hot_key"),)
    snapshot = ruled(
        [2, 1, 1], [0, 1, 2], [10] * 3, ("reside", "key-0000", ("town-0", "town-2")), read_share=0.9, shadows=current
    )
    (removal,) = make_plan(snapshot, POLICY).removals
    assert removal.reason.code == "against_rule"
    assert removal.reason.sentence == "key-0000 must stay in town-0, town-2, so its shadow on p1 is removed"
    hot = ruled([9, 1, 1], [0, 1, 2], [10] * 3, ("reside", "key-0000", ("town-0", "town-2")), read_share=0.9)
    assert {shadow.target for shadow in make_plan(hot, POLICY).shadows} == {"p2"}


def test_a_key_that_violates_its_rule_loses_its_shadows_before_it_moves(ruled):
    current = (IndexedShadow("s-1", 0, 2, "hot_key"),)
    snapshot = ruled([2, 1, 1], [0, 1, 2], [10] * 3, ("pin", "key-0000", "p1"), read_share=0.9, shadows=current)
    plan = make_plan(snapshot, POLICY)
    assert not plan.moves
    assert [removal.reason.code for removal in plan.removals] == ["primary_against_rule"]
    (refusal,) = plan.refusals
    assert refusal.reason.facts["obstacle"] == "shadowed"
    assert refusal.reason.sentence.endswith("its shadows must be removed first; this plan removes them")


def test_a_pinned_hot_key_may_be_shadowed(ruled):
    origins = OriginShares.unknown(3)
    snapshot = ruled([9, 1, 1], [0, 1, 2], [10] * 3, ("pin", "key-0000", "p0"), read_share=0.9, origins=origins)
    assert {shadow.key for shadow in make_plan(snapshot, POLICY).shadows} == {"key-0000"}


def test_a_draining_partition_that_keeps_keys_says_how_many_and_why(ruled):
    states = [PartitionState.DRAINING, PartitionState.ACTIVE]
    plan = make_plan(ruled([1, 1], [0, 0], [10, 10], ("pin", "key-0000", "p0"), states=states), POLICY)
    codes = {refusal.reason.code: refusal.reason for refusal in plan.refusals}
    assert moved(plan) == {"key-0001": "p1"}
    assert codes["drain_unfinished"].facts["keys"] == codes["drain_unfinished"].facts["keys_under_rules"] == 1
