import numpy as np
import pytest

from foreshard.lab.floor import cost_of_one_access, noise_floor


def test_the_floor_is_zero_far_below_capacity_and_every_hour_far_above(make_log):
    log = make_log(np.full((10, 48), 10))
    assert noise_floor(log, 24, np.full(2, 500 / 3600)) == pytest.approx(0.0, abs=1e-6)
    assert noise_floor(log, 24, np.full(2, 20 / 3600)) == pytest.approx(48.0, rel=0.2)


def test_at_capacity_half_of_the_hours_overflow(make_log):
    log = make_log(np.full((10, 48), 10))
    assert noise_floor(log, 0, np.full(2, 50 / 3600)) == pytest.approx(48.0)


def test_the_floor_agrees_with_simulated_poisson_keys(make_log):
    random = np.random.default_rng(4)
    rates = np.full((40, 2000), 4.0)
    log = make_log(random.poisson(rates))
    capacity = np.full(4, 46 / 3600)
    levelled = log.costs.reshape(4, 10, -1).sum(axis=1)
    found = noise_floor(log, 0, capacity, rates, np.sqrt(rates))
    assert found == pytest.approx(float((levelled > 46).sum()), rel=0.2)


def test_a_higher_cost_per_access_raises_the_floor(make_log):
    assert cost_of_one_access(np.full((3, 24), 4.0)) == pytest.approx(4.0)
