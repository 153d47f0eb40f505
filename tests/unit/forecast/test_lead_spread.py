"""The spread of later hours is learnt from past forecasts."""

import numpy as np
import pytest

from foreshard.forecast.engine import hourly_forecaster
from foreshard.forecast.hourly._lead_spread import MOST, LeadSpread

KEYS, HORIZON, HOURS = 40, 6, 3000


def learnt(errors, correlation=0.0, said=1.0):
    """After ``HOURS`` hours in which the error of lead n was drawn by ``errors(random, n)`` (K); sigma ``said``."""
    random, spread = np.random.default_rng(5), LeadSpread(KEYS, HORIZON, 1.0)
    for now in range(HOURS):
        actual = np.full(KEYS, 100.0)
        mean = np.stack([actual + errors(random, lead) for lead in range(HORIZON)], axis=1)
        spread.expect(now, mean, np.full((KEYS, HORIZON), said), correlation)
        assert spread.has_expected(now)
        spread.learn(now, actual)
    return spread.factors()


def test_equally_certain_hours_ahead_get_the_spread_of_the_next_hour():
    assert learnt(lambda random, _: random.normal(size=KEYS)) == pytest.approx(np.ones(HORIZON), abs=0.03)


def test_the_factors_follow_the_observed_errors():
    factors = learnt(lambda random, lead: random.normal(size=KEYS) * (1.0 + lead / 5))
    assert factors == pytest.approx(1.0 + np.arange(HORIZON) / 5, rel=0.05)


def test_errors_common_to_all_keys_widen_the_spread():
    factors = learnt(lambda random, lead: random.normal(size=KEYS) + (random.normal() if lead > 2 else 0.0))
    assert factors[:3] == pytest.approx(np.ones(3), abs=0.03)
    assert factors[3:] == pytest.approx(np.full(3, np.sqrt(1 + KEYS / 8)), rel=0.05)


def test_a_spread_that_was_too_wide_everywhere_gives_factors_of_one():
    assert learnt(lambda random, _: random.normal(size=KEYS), said=3.0) == pytest.approx(np.ones(HORIZON), abs=0.03)


def test_the_factors_are_limited():
    assert learnt(lambda random, lead: random.normal(size=KEYS) * (50.0 if lead else 1.0)).max() <= MOST


def test_without_observations_all_factors_are_one():
    assert LeadSpread(KEYS, HORIZON, 0.99).factors() == pytest.approx(np.ones(HORIZON))


class Known:
    """A past with only costs (K, hours)."""

    def __init__(self, costs):
        self.keys, self.now, self._costs = tuple(map(str, range(len(costs)))), costs.shape[1], costs

    def before(self, hour, hours):
        return self._costs[:, max(0, hour - hours) : hour]


def widening(level):
    """The ratio of the sigma 12 hours ahead to the one that its mean implies, after 1,000 hours at these levels."""
    costs = np.random.default_rng(9).poisson(20.0 * level, (30, len(level))).astype(np.float32)
    made = hourly_forecaster("seasonal", 28 * 24, 0).ahead(Known(costs))
    relative = made.sigma**2 / made.mean
    return float(np.median(relative[:, 12] / relative[:, 0]))


def test_later_hours_have_a_wider_spread_if_levels_do_not_last():
    wandering = np.exp(np.repeat(np.random.default_rng(3).normal(0.0, 0.4, 200), 5))
    assert widening(np.ones(1000)) == pytest.approx(1.0, abs=0.25)
    assert widening(wandering) > 1.5
