from functools import partial

import numpy as np
import pytest
from tests.unit.lab.test_policies import layout_of

from foreshard.lab.past import ReplayRules
from foreshard.lab.policies import Reactive, StaticHash
from foreshard.lab.side_by_side import side_by_side
from foreshard.lab.simulate import replay
from foreshard.settings import ForecastSettings, MigrateSettings, PlanSettings, SidecarSettings

RULES = ReplayRules.of(PlanSettings(), MigrateSettings(), ForecastSettings(), SidecarSettings())


@pytest.fixture(scope="module")
def starts(make_log):
    log = make_log(np.random.default_rng(2).poisson(4.0, (20, 96)))
    layout = layout_of(25, 25, 25)
    policies = {"static_hash": StaticHash(layout), "reactive": Reactive(layout)}
    return {
        name: partial(
            replay,
            log,
            layout,
            policy,
            24,
            RULES,
        )
        for name, policy in policies.items()
    }


def test_parallel_runs_give_the_same_results_as_sequential_ones(starts):
    alone, together = side_by_side(starts, 1), side_by_side(starts, 2)
    assert list(alone) == list(together) == ["static_hash", "reactive"]
    for name in alone:
        assert alone[name].moves == together[name].moves
        assert (alone[name].load == together[name].load).all()


def test_every_policy_reports_its_progress(starts):
    messages = {}
    side_by_side(starts, 2, lambda name, done, of: messages.update({name: (done, of)}))
    assert messages == {"static_hash": (72, 72), "reactive": (72, 72)}


def fails(progress):
    raise ValueError("no")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_policy_that_fails_fails_the_replay(starts, processes):
    with pytest.raises(ValueError, match="no"):
        side_by_side({**starts, "broken": fails}, processes)
