import numpy as np
import pytest

from foreshard.lab._noise import variance_per_cost
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


WEEKS, KEYS = 8, 120
AT = np.arange(WEEKS * 168)


def timetable(random):
    """Counts that repeat every week: other hours for each key, fewer on Saturdays, closed at night and on Sundays."""
    busy = random.integers(0, 6, (KEYS, 24))[:, AT % 24]
    open_ = (AT % 24 >= 5) & (AT // 24 % 7 != 6)
    return np.where(open_, np.where(AT // 24 % 7 == 5, busy // 2, busy), 0)


def waves(random):
    """Rates with a daily wave and good and bad days."""
    level = np.exp(random.normal(0.3, 0.8, (KEYS, 1)))
    return level * (1.1 + np.sin(AT / 24 * 2 * np.pi)) * np.exp(random.normal(0, 0.2, WEEKS * 7))[AT // 24]


def levelled(counts, rates, capacity, partitions=4):
    """Overload hours of ``partitions`` with about the same rate each (keys dealt out by rate)."""
    order = np.argsort(-rates.sum(axis=1))
    deal = np.empty(len(order), int)
    deal[order] = [n % partitions if n // partitions % 2 else partitions - 1 - n % partitions for n in range(len(order))]
    load = np.stack([counts[deal == p].sum(axis=0) for p in range(partitions)])
    return int((load > capacity).sum())


def floor_of(make_log, counts, capacity):
    return noise_floor(make_log(counts), 0, np.full(4, capacity / 3600))


def test_a_timetable_has_no_chance(make_log):
    counts = timetable(np.random.default_rng(1))
    assert variance_per_cost(counts) == 0.0
    peak = counts.sum(axis=0).max() / 4
    assert floor_of(make_log, counts, 1.01 * peak) == pytest.approx(0.0, abs=1e-6)


def test_a_timetable_with_closed_days_and_a_new_season_has_hardly_any_chance():
    random = np.random.default_rng(2)
    counts = timetable(random)
    counts[:, 5 * 168 :] = timetable(random)[:, 5 * 168 :]
    counts[:, 10 * 24 : 11 * 24] = 0
    assert variance_per_cost(counts) < 0.01


@pytest.mark.parametrize("cost", [1.0, 7.0])
def test_poisson_accesses_have_the_variance_of_their_cost(cost):
    random = np.random.default_rng(3)
    assert variance_per_cost(cost * random.poisson(waves(random))) == pytest.approx(cost, rel=0.05)


def test_accesses_in_bursts_have_more(make_log):
    random = np.random.default_rng(4)
    rates = waves(random)
    counts = 5 * random.poisson(rates / 5)
    capacity = float(np.quantile(rates.sum(axis=0), 0.97)) / 4
    found = floor_of(make_log, counts, capacity)
    assert variance_per_cost(counts) == pytest.approx(5.0, rel=0.07)
    assert found == pytest.approx(levelled(counts, rates, capacity), rel=0.25)


def test_the_floor_of_poisson_accesses_is_what_a_levelled_load_has(make_log):
    random = np.random.default_rng(5)
    rates = waves(random)
    counts = random.poisson(rates)
    capacity = float(np.quantile(rates.sum(axis=0), 0.97)) / 4
    assert floor_of(make_log, counts, capacity) == pytest.approx(levelled(counts, rates, capacity), rel=0.25)


@pytest.mark.parametrize("hours", [0, 1, 23, 30, 49, 200])
def test_short_logs_have_a_finite_variance(hours):
    counts = np.random.default_rng(6).poisson(2.0, (5, hours))
    assert 0.0 <= variance_per_cost(counts) < 6.0
