"""A policy sees only the past of each hour."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy
from tests.unit.serving import serving_rule

from foreshard.forecast.engine import hourly_forecaster
from foreshard.lab.lab_forecaster import TrueFuture
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import ReplayRules
from foreshard.lab.planned import Planned, Timing
from foreshard.lab.policies import MongoBalance, Reactive
from foreshard.lab.simulate import replay
from foreshard.model import Partition
from foreshard.plan.input.migration_rate import MigrationRate
from foreshard.settings import ForecastSettings, MigrateSettings, PlanSettings, SidecarSettings

LAYOUT = PartitionLayout(tuple(Partition(f"p{n}", "here", 160 / 3600) for n in range(6)), {})
POLICY = build_policy(serving=serving_rule())
TIMING = Timing(1, 14 * 24, MigrationRate(60.0, 5.0 * 2**20))
RULES = ReplayRules.of(PlanSettings(), MigrateSettings(), ForecastSettings(), SidecarSettings())


def policies(log):
    return {
        "reactive": Reactive(LAYOUT),
        "mongodb_balance": MongoBalance(LAYOUT),
        "predictive": Planned(log, LAYOUT, hourly_forecaster("seasonal", 14 * 24, 0), POLICY, TIMING),
    }


def moves_before(log, name, hour):
    run = replay(log, LAYOUT, policies(log)[name], 14 * 24, RULES)
    return [move for move in run.moves if move[0] < hour]


@pytest.mark.parametrize("name", ["reactive", "mongodb_balance", "predictive"])
def test_later_hours_do_not_change_earlier_decisions(rates_log, name):
    log = rates_log(np.random.default_rng(5), days=18, jump_at=24 * 16)
    hour = 24 * 17
    costs = log.costs.copy()
    costs[:, hour:] = np.roll(costs[:, hour:], 7, axis=0) * 3
    assert moves_before(log, name, hour) == moves_before(replace(log, costs=costs), name, hour)


def test_the_planner_acts_before_a_predictable_overload(rates_log):
    log = rates_log(np.random.default_rng(7), days=18, jump_at=None)
    wave = log.costs.copy()
    wave[:, np.arange(wave.shape[1]) % 24 == 7] *= 2
    log = replace(log, costs=wave)
    load = {}
    for name, policy in {**policies(log), "oracle": Planned(log, LAYOUT, TrueFuture(log), POLICY, TIMING)}.items():
        load[name] = replay(log, LAYOUT, policy, 14 * 24, RULES)
    first = {name: run.moves[0][0] for name, run in load.items() if run.moves}
    assert first["predictive"] == 14 * 24
    over = {name: int((run.load > 160).sum()) for name, run in load.items()}
    assert over["predictive"] <= over["reactive"]
