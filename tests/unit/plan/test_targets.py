"""How full a plan may make its targets."""

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.plan._clump import Allowance
from foreshard.plan._move_search import best_move
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan.planner import make_plan

POLICY = build_policy(overload_mark=1.0, serving=serving_rule(z=0.0))


def targets(plan):
    return {move.target for move in plan.moves}


def test_no_target_is_pushed_over_its_mark_while_another_has_room(world):
    beside = [(key, 8, 5_000) for key in range(8)]
    plan = make_plan(world([2] * 8 + [6, 1], [0] * 8 + [1, 2], [10, 10, 10], co_access=beside), POLICY)
    assert targets(plan) == {"p1", "p2"}
    assert max(plan.lps_after["p1"], plan.lps_after["p2"]) <= POLICY.high_water + 1e-9


def test_load_is_levelled_if_no_target_stays_below_its_mark(world):
    plan = make_plan(world([1] * 11 + [4, 4], [0] * 11 + [1, 1], [10, 10]), POLICY)
    assert plan.lps_before == pytest.approx({"p0": 1.1, "p1": 0.8})
    assert plan.lps_after == pytest.approx({"p0": 1.0, "p1": 0.9})


def test_settling_pushes_no_target_above_its_mark_even_from_a_fuller_partition(world):
    beside = [(key, 11, 50_000) for key in range(11)]
    plan = make_plan(world([1] * 11 + [8], [0] * 11 + [1], [10, 10], co_access=beside), POLICY)
    assert {move.reason.code for move in plan.moves} <= {"overload", "co_accessed"}
    assert max(plan.lps_after.values()) == pytest.approx(1.0)


def test_a_search_with_a_higher_mark_may_fill_a_target_above_the_high_water_mark(world):
    loads = np.array([5, 3, 3, 3, 5])
    model = PlacementModel(world(loads, [0, 0, 0, 0, 1], [10, 10]), POLICY)

    def after(mark):
        option = best_move(model, 0, Allowance(20, 1e9), model.movable_on(0), set(), mark=mark).best
        return model.lps()[option.target] + loads[list(option.keys)].sum() / 10

    assert after(None) == pytest.approx(0.8)
    assert after(model.level(0)) == pytest.approx(1.0)
