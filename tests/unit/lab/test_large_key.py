"""A key that fills a partition by itself: moving other keys does not end its overload; sharing its reads does."""

import numpy as np
from tests.unit.plan.conftest import build_policy

from foreshard.forecast.engine import hourly_forecaster
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import ReplayRules
from foreshard.lab.planned import Planned, Timing
from foreshard.lab.policies import Reactive
from foreshard.lab.simulate import replay
from foreshard.model import Partition
from foreshard.plan.input.migration_rate import MigrationRate
from foreshard.settings import ForecastSettings, MigrateSettings, PlanSettings, SidecarSettings

RULES = ReplayRules.of(PlanSettings(), MigrateSettings(), ForecastSettings(), SidecarSettings())

CAPACITY, DAYS, LEARNT = 200.0, 12, 7
LAYOUT = PartitionLayout(tuple(Partition(f"p{n}", "here", CAPACITY / 3600) for n in range(5)), {})
POLICY = build_policy(nearness=0.0)
TIMING = Timing(1, LEARNT * 24, MigrationRate(60.0, 5.0 * 2**20))


def test_a_shadow_with_room_made_for_it_ends_most_of_the_overload(make_log):
    random, at = np.random.default_rng(3), np.arange(DAYS * 24)
    wave = 1.0 + 0.4 * np.sin(at / 24 * 2 * np.pi)
    rates = np.r_[0.8 * CAPACITY, np.full(60, 0.5 * 4 * CAPACITY / 60)][:, None] * wave
    log = make_log(random.poisson(rates))
    policies = {
        "reactive": Reactive(LAYOUT),
        "predictive": Planned(log, LAYOUT, hourly_forecaster("seasonal", LEARNT * 24, 0), POLICY, TIMING),
    }
    runs = {
        name: replay(
            log,
            LAYOUT,
            policy,
            LEARNT * 24,
            RULES,
        )
        for name, policy in policies.items()
    }
    over = {name: int((run.load > CAPACITY).sum()) for name, run in runs.items()}
    assert over["reactive"] > 20
    assert over["predictive"] < over["reactive"] / 4
