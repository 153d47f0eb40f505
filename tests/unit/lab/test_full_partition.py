"""A partition that is full of small keys, beside empty ones, in the lab: hour by hour, with moves that take their time."""

import numpy as np
from tests.unit.plan.conftest import build_policy

from foreshard.forecast.engine import hourly_forecaster
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import ReplayRules
from foreshard.lab.planned import Planned, Timing
from foreshard.lab.simulate import replay
from foreshard.model import Partition
from foreshard.plan.input.migration_rate import MigrationRate
from foreshard.settings import ForecastSettings, MigrateSettings, PlanSettings, SidecarSettings

RULES = ReplayRules.of(PlanSettings(), MigrateSettings(), ForecastSettings(), SidecarSettings())

KEYS, PARTITIONS, LEARNT, PLANS = 1_000, 4, 4 * 24, 3
POLICY = build_policy()
TIMING = Timing(1, LEARNT, MigrationRate(60.0, 5.0 * 2**20))


class AllOnTheFirst(Planned):
    """The planner, with every key on the first partition at the beginning."""

    def start(self, past):
        return np.zeros(len(past.keys), np.int64)


def test_the_load_is_split_within_three_hours_plans(make_log):
    random = np.random.default_rng(5)
    rates = np.repeat(5.0 * random.lognormal(0.0, 0.5, (KEYS, 1)), LEARNT + PLANS + 3, axis=1)
    log = make_log(random.poisson(rates))
    capacity = float(rates[:, 0].sum()) / 1.2
    layout = PartitionLayout(tuple(Partition(f"p{n}", "here", capacity / 3600) for n in range(PARTITIONS)), {})
    policy = AllOnTheFirst(log, layout, hourly_forecaster("seasonal", LEARNT, 0), POLICY, TIMING)
    run = replay(log, layout, policy, LEARNT, RULES)
    worst = run.load.max(axis=0) / run.load.mean(axis=0)
    assert worst[0] > 1.3
    assert worst[PLANS:].max() < 1.15
    assert (run.load[:, PLANS:] < capacity).all()
