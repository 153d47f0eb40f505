"""If everything is full, shadows are removed whose writes cost more than they save."""

from dataclasses import replace

import pytest
from hypothesis import given
from tests.unit.plan.conftest import build_policy
from tests.unit.plan.test_properties import LOOK, SEEDS
from tests.unit.serving import serving_rule

from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._removals import SHED_GAIN
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.planner import make_plan

POLICY = build_policy(serving=serving_rule(z=0.0), maximum_settled=0, high_water=0.95, low_water=0.85, reserve=0.25)


def copied(world, p0, p1, removable=True, read_share=0.5):
    """A key of 2, half of it writes, on p0 beside one of ``p0``, with a copy on p1 beside a key of ``p1``; capacities of 10."""
    current = (IndexedShadow("s-1", 0, 1, "reserve", removable),)
    return world([2.0, p0, p1], [0, 0, 1], [10.0, 10.0], read_share=[read_share, 0.0, 0.0], shadows=current)


def removed(snapshot):
    return [(removal.shadow_id, removal.reason.code) for removal in make_plan(snapshot, POLICY).removals]


def test_a_shadow_whose_writes_overload_its_partition_is_removed_if_the_primary_is_as_full(world):
    plan = make_plan(copied(world, 7.3, 9.2), POLICY)
    assert [(removal.shadow_id, removal.reason.code) for removal in plan.removals] == [("s-1", "writes_cost_more")]
    assert "hardly any partition has room" in plan.removals[0].reason.sentence
    assert max(plan.lps_after.values()) < max(plan.lps_before.values())
    assert not plan.shadows


@pytest.mark.parametrize(
    ("p0", "p1", "more"),
    [
        pytest.param(9.2, 5.0, {}, id="it takes reads away from a partition that is overloaded"),
        pytest.param(6.5, 8.3, {}, id="no overload is foreseen"),
        pytest.param(7.3, 9.2, {"removable": False}, id="it has only just been made"),
    ],
)
def test_a_shadow_is_kept_if(world, p0, p1, more):
    assert not removed(copied(world, p0, p1, **more))


def test_a_shadow_without_writes_is_kept(world):
    assert not removed(copied(world, 7.3, 10.2, read_share=1.0))


@LOOK
@given(SEEDS)
def test_each_removed_shadow_saves_at_least_the_minimum(drawn, seed):
    snapshot, policy = drawn(seed)
    plan = make_plan(snapshot, policy)
    given_up = {removal.shadow_id for removal in plan.removals if removal.reason.code == "writes_cost_more"}
    if not given_up or plan.moves or plan.shadows or len(given_up) < len(plan.removals):
        return
    left = tuple(shadow for shadow in snapshot.shadows if shadow.shadow_id not in given_up)
    before, after = (
        PlacementModel(replace(snapshot, shadows=shadows), policy).total_risk() for shadows in (snapshot.shadows, left)
    )
    assert after <= before - SHED_GAIN * len(given_up) + 1e-6
