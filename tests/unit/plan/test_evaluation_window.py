"""Past hours distinguish a move that helps every day from one that helps only tomorrow."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.plan._evaluation_window import coming_and_past, scaled
from foreshard.plan.input.past_hours import MOST_GROWTH, PastHours, past_hours, past_stride
from foreshard.plan.planner import make_plan

POLICY = build_policy(serving=serving_rule(z=1.28), maximum_settled=0, minimum_gain=0.2, hot_share=0.9)
HOURS = 24
ALL = np.arange(4)
TOMORROW = np.ones((4, 1)) * np.r_[np.full(HOURS - 1, 0.5), 0.72][None] * np.array([[6.0], [3.0], [2.0], [1.0]])


def stage(world, past=None):
    """p0 has some risk in one hour of tomorrow; p1 has room then."""
    snapshot = world(TOMORROW, [0, 0, 1, 1], [8, 8], sigma=0.3)
    if past is None:
        return snapshot
    hours = (np.asarray(past)[:, None] * np.ones((1, 20)) * 3600).astype(np.float32)
    return replace(snapshot, past=PastHours(hours), access_cost=1.0)


def test_risk_in_a_single_hour_does_not_pay_for_a_move(world):
    assert not make_plan(stage(world), POLICY).moves


def test_risk_that_past_hours_had_too_pays_for_a_move(world):
    plan = make_plan(stage(world, [4.3, 2.2, 1.4, 0.7]), POLICY)
    assert {move.source for move in plan.moves} == {"p0"}


def test_marks_apply_to_the_coming_hours_only(world):
    past = PastHours(np.full((4, 20), 30_000.0, np.float32))
    quiet = replace(world(TOMORROW / 3, [0, 0, 1, 1], [8, 8]), past=past, access_cost=1.0)
    plan = make_plan(quiet, POLICY)
    assert not plan.moves
    assert not plan.refusals


def test_past_hours_have_the_weight_of_the_given_number_of_days(world):
    hours = coming_and_past(stage(world, [1.0, 2.0, 3.0, 4.0]), past_days=3.0)
    assert hours.mean(ALL).shape == hours.sigma(ALL).shape == (4, HOURS + 20)
    assert hours.marked_hours == HOURS
    assert np.isclose(hours.weight[HOURS:].sum(), 3.0 * hours.weight[:HOURS].sum())
    assert hours.mean(3)[HOURS:].tolist() == [4 * 3600.0] * 20


def test_scaling_the_accesses_ahead_scales_mean_and_variance(world):
    hours = coming_and_past(stage(world, [1.0] * 4), past_days=5.0)
    more = scaled(hours, 1.2, past_days=1.0)
    factor = np.repeat([1.2, 1.0], [HOURS, 20])
    assert np.allclose(more.mean(ALL), factor * hours.mean(ALL))
    assert np.allclose(more.sigma(ALL) ** 2, factor * hours.sigma(ALL) ** 2)
    assert more.marked_hours == HOURS + 20
    assert np.isclose(more.weight[HOURS:].sum(), more.weight[:HOURS].sum())


def test_past_hours_cover_every_hour_of_the_day():
    hour = np.arange(28 * 24.0)
    taken = past_hours(np.stack([hour, hour[::-1]])).cost[0]
    assert taken[-1] == 28 * 24 - 1
    assert set(np.diff(taken)) == {past_stride(1)}
    assert set(taken % 24) == set(range(24))
    assert {hour % 24 for hour in range(0, 28 * 24, past_stride(1_000_000))} == set(range(24))


def weeks(*levels):
    """One key with a daily wave, at a different level each week."""
    day = 2.0 + np.sin(np.arange(24) / 24 * 2 * np.pi)
    return np.concatenate([level * np.tile(day, 7) for level in levels])[None]


def test_if_load_has_grown_past_hours_are_scaled_to_last_weeks_level():
    scaled_load, steady = past_hours(weeks(1, 1, 1, 3)).cost, past_hours(weeks(3, 3, 3, 3)).cost
    assert scaled_load.sum() == pytest.approx(steady.sum(), rel=0.02)
    assert past_hours(weeks(0, 0, 0, 1)).cost.max() <= MOST_GROWTH * 3.0


@pytest.mark.parametrize("levels", [(3, 1, 1, 1), (0, 0, 0, 0), (1,)])
def test_decreased_or_steady_load_is_not_scaled(levels):
    costs = weeks(*levels)
    assert set(past_hours(costs).cost.ravel().tolist()) <= set(costs.astype(np.float32).ravel().tolist())


def test_a_history_of_a_few_hours_is_not_scaled():
    assert past_hours(np.array([[1.0, 2.0, 30.0]])).cost.tolist() == [[30.0]]
    assert past_hours(np.zeros((2, 0))).cost.shape == (2, 0)
