"""What happened in past hours tells a move that helps every day from one that helps tomorrow only."""

from dataclasses import replace

import numpy as np

from foreshard.load import ServingRule
from foreshard.plan.horizon import coming_and_past
from foreshard.plan.planner import make_plan
from foreshard.plan.snapshot import PlanPolicy, past_every, past_hours

POLICY = PlanPolicy(serving=ServingRule(z=1.28), maximum_settled=0, minimum_gain=0.2, hot_share=0.9)
HOURS = 24
TOMORROW = np.ones((4, 1)) * np.r_[np.full(HOURS - 1, 0.5), 0.72][None] * np.array([[6.0], [3.0], [2.0], [1.0]])


def stage(world, past=None):
    """p0 is at some risk in one hour of tomorrow; p1 has room then."""
    snapshot = world(TOMORROW, [0, 0, 1, 1], [8, 8], sigma=0.3)
    if past is None:
        return snapshot
    return replace(snapshot, past=(np.asarray(past)[:, None] * np.ones((1, 20)) * 3600).astype(np.float32), access_cost=1.0)


def test_a_risk_of_one_hour_is_not_worth_a_move(world):
    assert not make_plan(stage(world), POLICY).moves


def test_a_risk_that_past_hours_had_as_well_is_worth_one(world):
    plan = make_plan(stage(world, [4.3, 2.2, 1.4, 0.7]), POLICY)
    assert {move.source for move in plan.moves} == {"p0"}


def test_marks_apply_to_the_coming_hours_only(world):
    quiet = replace(world(TOMORROW / 3, [0, 0, 1, 1], [8, 8]), past=np.full((4, 20), 30_000.0, np.float32), access_cost=1.0)
    plan = make_plan(quiet, POLICY)
    assert not plan.moves
    assert not plan.refusals


def test_past_hours_follow_the_coming_ones_and_weigh_as_many_days_as_asked(world):
    hours = coming_and_past(stage(world, [1.0, 2.0, 3.0, 4.0]), past_days=3.0)
    assert hours.demand.mean.shape == (4, HOURS + 20)
    assert hours.marked == HOURS
    assert np.isclose(hours.weight[HOURS:].sum(), 3.0 * hours.weight[:HOURS].sum())
    assert hours.demand.mean[3, HOURS:].tolist() == [4 * 3600.0] * 20


def test_past_hours_come_from_every_time_of_the_day():
    taken = past_hours(np.arange(28 * 24.0)[None])[0]
    assert taken[-1] == 28 * 24 - 1
    assert set(np.diff(taken)) == {past_every(1)}
    assert set(taken % 24) == set(range(24))
    assert {hour % 24 for hour in range(0, 28 * 24, past_every(1_000_000))} == set(range(24))
