"""Weights that are learned from costs: what they come from, how sure they are, and what spoils them."""

import math

import numpy as np
import pytest

from foreshard.observe.weights import FEWEST_RECORDS, learned_weights

CURRENT = {"read": 1.0, "write": 2.0}


def costs(mean: float, count: int, seed: int = 1) -> np.ndarray:
    """Return skewed costs, like latencies."""
    return np.random.default_rng(seed).gamma(2.0, mean / 2, count)


def test_the_ratio_of_costs_is_found_and_the_total_cost_stays() -> None:
    found = learned_weights({"read": costs(3, 30_000), "write": costs(12, 10_000, 2)}, CURRENT)
    read, write = (one.weight or 0.0 for one in found)
    assert write / read == pytest.approx(4, rel=0.05)
    assert 30_000 * read + 10_000 * write == pytest.approx(30_000 * 1 + 10_000 * 2)


def test_the_interval_covers_the_true_cost_nearly_always() -> None:
    covered = 0
    for seed in range(200):
        one = learned_weights({"read": np.minimum(costs(3, 2_000, seed), 8.0)}, {"read": 1.0})[0]
        truth = float(np.minimum(costs(3, 1_000_000, 999), 8.0).mean())
        covered += abs(one.cost - truth) <= one.error
    assert covered >= 180


def test_a_few_stuck_requests_do_not_move_a_weight() -> None:
    calm = {"read": costs(3, 10_000), "write": costs(6, 10_000, 2)}
    stuck = {**calm, "write": np.concatenate([calm["write"], np.full(50, 60_000.0)])}
    expected, found = (learned_weights(one, CURRENT) for one in (calm, stuck))
    assert np.mean(stuck["write"]) > 40 * np.mean(calm["write"])
    assert found[1].weight == pytest.approx(expected[1].weight, rel=0.1)
    assert found[1].cut > 0.9


def test_costs_that_rise_with_the_hour_are_less_certain_than_independent_ones() -> None:
    alone = costs(3, 10_000)
    waves = alone * (1 + 0.5 * np.sin(np.arange(10_000) / 500))
    one, other = (learned_weights({"read": found}, {"read": 1.0})[0].error for found in (alone, waves))
    assert other > 3 * one


@pytest.mark.parametrize("found", [np.ones(FEWEST_RECORDS - 1), np.zeros(1_000), np.zeros(0)])
def test_a_type_of_which_little_is_known_keeps_its_weight(found: np.ndarray) -> None:
    read, write = learned_weights({"read": costs(3, 1_000), "write": found}, CURRENT)
    assert (read.weight, write.weight, write.current) == (pytest.approx(1.0), None, 2.0)


def test_without_any_cost_nothing_is_learned() -> None:
    found = learned_weights({}, CURRENT)
    assert [one.weight for one in found] == [None, None]
    assert all(math.isnan(one.error) for one in found)
