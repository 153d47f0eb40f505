import numpy as np
import pytest

from foreshard.forecast.engine import hourly_forecaster
from foreshard.forecast.hourly.forecaster import HORIZON
from foreshard.lab.lab_forecaster import TrueFuture
from foreshard.lab.measures import measure
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import Past, ReplayRules
from foreshard.lab.policies import MongoBalance, Reactive, StaticGeo, StaticHash
from foreshard.lab.simulate import replay
from foreshard.model import Location, Partition
from foreshard.settings import ForecastSettings, MigrateSettings, PlanSettings, SidecarSettings

RULES = ReplayRules.of(PlanSettings(), MigrateSettings(), ForecastSettings(), SidecarSettings())


def layout_of(*capacities, places=None, locations=None):
    places = places or ["here"] * len(capacities)
    return PartitionLayout(tuple(Partition(f"p{n}", places[n], c / 3600) for n, c in enumerate(capacities)), locations or {})


@pytest.fixture(scope="module")
def busy(make_log):
    """Five days of forty keys, ten of which are hot at noon."""
    random = np.random.default_rng(3)
    rates = np.full((40, 120), 2.0)
    rates[:10] += 12 * (np.arange(120) % 24 // 6 == 2)
    return make_log(random.poisson(rates))


def test_hashing_spreads_keys_and_never_moves_them(busy):
    policy = StaticHash(layout_of(100, 100, 100, 100))
    first = policy.start(Past(busy, 24, RULES))
    assert (np.bincount(first, minlength=4) > 3).all()
    assert policy.decide(Past(busy, 30, RULES), None) == []


def test_static_geo_places_a_key_where_it_was_used_most(gather, rows_of):
    rows = [(0, "a", 5), (1, "a", 1), (0, "b", 2), (2, "b", 9), (3, "c", 1)]
    log = gather(rows_of(rows, location=["Rome", "Oslo", "Oslo", "Rome", "Oslo"]))
    known = {"Rome": Location("Rome", 41.9, 12.5), "Oslo": Location("Oslo", 59.9, 10.7)}
    layout = layout_of(9, 9, places=["Rome", "Oslo"], locations=known)
    assert StaticGeo(layout, log.locations).start(Past(log, 2, RULES))[:2].tolist() == [0, 1]


def test_the_reactive_policy_relieves_partitions_overloaded_in_the_last_hour(busy):
    layout = layout_of(80, 80, 80, 80)
    still = measure(replay(busy, layout, StaticHash(layout), 24, RULES), busy, layout.capacity)
    acted = measure(replay(busy, layout, Reactive(layout), 24, RULES), busy, layout.capacity)
    assert still.moves == 0 < acted.moves
    assert acted.overload_hours <= still.overload_hours


def test_the_size_balancer_balances_data_not_load(gather, rows_of):
    rows = [(0, f"k{n:02}", 1) for n in range(20) for _ in range(1 + 10 * n)] + [(60, "k00", 1)]
    log, layout = gather(rows_of(rows, request_type="write")), layout_of(1e6, 1e6)
    policy = MongoBalance(layout)
    run = replay(log, layout, policy, 1, RULES)
    sizes, where = Past(log, 60, RULES).sizes(), policy.start(Past(log, 1, RULES))
    before = np.bincount(where, weights=sizes, minlength=2)
    for _, key, _, target in run.moves:
        where[key] = target
    after = np.bincount(where, weights=sizes, minlength=2)
    assert abs(np.diff(after))[0] <= 0.1 * after.mean() + sizes[sizes > 0].min()
    assert abs(np.diff(after))[0] <= abs(np.diff(before))[0]


def test_the_seasonal_forecast_has_the_daily_shape_and_follows_a_new_level(rates_log):
    random = np.random.default_rng(1)
    log = rates_log(random, days=21, jump_at=24 * 18)
    forecaster = hourly_forecaster("seasonal", 28 * 24, 0)
    before = forecaster.ahead(Past(log, 24 * 17, RULES))
    after = forecaster.ahead(Past(log, 24 * 20, RULES))
    day = log.costs[:, 24 * 17 : 24 * 18].sum()
    assert before.mean.shape == (len(log.keys), HORIZON)
    assert before.mean.sum() == pytest.approx(day, rel=0.15)
    assert after.mean.sum() == pytest.approx(2 * day, rel=0.25)


def test_sigma_matches_the_forecast_errors(rates_log):
    random = np.random.default_rng(2)
    log = rates_log(random, days=28, jump_at=None)
    forecaster, scores = hourly_forecaster("seasonal", 28 * 24, 0), []
    for hour in range(24 * 21, 24 * 27, 3):
        made = forecaster.ahead(Past(log, hour, RULES))
        scores.append((log.costs[:, hour : hour + HORIZON] - made.mean) / made.sigma)
    assert np.std(np.concatenate(scores)) == pytest.approx(1.0, abs=0.12)


def test_the_oracle_sees_the_future_and_repeats_the_last_hour_at_the_end(busy):
    found = TrueFuture(busy).ahead(Past(busy, 110, RULES))
    assert np.array_equal(found.mean[:, :10], busy.costs[:, 110:120])
    assert np.array_equal(found.mean[:, 15], busy.costs[:, -1])
