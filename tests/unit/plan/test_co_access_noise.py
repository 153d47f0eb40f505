"""The variance that co-access adds to a partition's load."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy

from foreshard.measure.demand import LoadProfile
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._risk import CoAccessCounts, with_co_access_noise
from foreshard.plan.input.snapshot import CoAccessGraph

GRAPH = CoAccessGraph.build([0, 1, 2], [1, 2, 3], [10.0, 20.0, 40.0], 4)


def test_co_accesses_between_keys_on_one_partition_are_counted_there():
    assert CoAccessCounts(GRAPH, 1.0, np.array([0, 0, 1, 1]), 2).inside.tolist() == [10.0, 40.0]


def test_moving_a_clump_moves_its_inner_co_accesses_and_joins_those_at_the_target():
    primary = np.array([0, 0, 0, 1])
    co_accesses = CoAccessCounts(GRAPH, 1.0, primary, 2)
    co_accesses.move(np.array([1, 2]), 0, 1, primary)
    assert co_accesses.inside.tolist() == [0.0, 60.0]


def test_the_added_variance_agrees_with_sampled_co_accesses():
    random, co_accesses, cost = np.random.default_rng(3), 50.0, 2.0
    alone = random.poisson(co_accesses, (2, 40_000))
    brought = random.binomial(alone, 0.5)[::-1]
    keys = cost * (alone + brought)
    expected = LoadProfile(*(np.array([[value]]) for value in (keys.sum(axis=0).mean() / 3600, (cost**2) * 150 / 3600**2, 0.0)))
    together = with_co_access_noise(expected, np.array([50.0]), cost)
    assert together.variance[0, 0] * 3600**2 == pytest.approx(keys.sum(axis=0).var(), rel=0.05)


def test_co_access_variance_follows_the_load_over_the_day():
    profile = LoadProfile(np.array([[1.0, 3.0]]), np.zeros((1, 2)), np.zeros((1, 2)))
    night, noon = with_co_access_noise(profile, np.array([3600.0]), 60.0).variance[0]
    assert noon == pytest.approx(3 * night)
    assert night + noon == pytest.approx(2 * 2 * 3600 * (60 / 3600) ** 2)


def test_an_idle_partition_gets_no_variance():
    idle = LoadProfile(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)))
    assert with_co_access_noise(idle, np.array([5.0]), 1.0).variance.tolist() == [[0.0, 0.0]]


def test_a_partition_of_co_accessed_keys_has_more_risk_than_one_of_independent_keys(world):
    loads = np.full((4, 24), 3.0)
    snapshot = world(loads, [0, 0, 1, 1], [8, 8], sigma=0.16, co_access=[(0, 1, 200)], access_cost=30.0)
    companions, strangers = PlacementModel(snapshot, build_policy()).risk_now()
    assert companions > 1.1 * strangers
    unknown = PlacementModel(replace(snapshot, access_cost=0.0), build_policy()).risk_now()
    assert unknown[0] == unknown[1] == strangers
