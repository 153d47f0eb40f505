"""How sure hours farther ahead are is learnt from forecasts whose hours have come."""

import numpy as np
import pytest

from foreshard.lab._lead_spread import MOST, LeadSpread
from foreshard.lab.lab_forecaster import SeasonalShape

KEYS, HORIZON, HOURS = 40, 6, 3000


def learnt(errors, correlation=0.0, said=1.0):
    """After ``HOURS`` hours in which the error of lead n was drawn by ``errors(random, n)`` (K); sigma ``said``."""
    random, spread = np.random.default_rng(5), LeadSpread(KEYS, HORIZON, 1.0)
    for now in range(HOURS):
        came = np.full(KEYS, 100.0)
        mean = np.stack([came + errors(random, lead) for lead in range(HORIZON)], axis=1)
        spread.expect(now, mean, np.full((KEYS, HORIZON), said), correlation)
        assert spread.awaits(now)
        spread.learn(now, came)
    return spread.factors()


def test_hours_ahead_that_are_as_sure_as_the_next_are_given_its_spread():
    assert learnt(lambda random, _: random.normal(size=KEYS)) == pytest.approx(np.ones(HORIZON), abs=0.03)


def test_hours_ahead_are_as_much_less_sure_as_they_turned_out_to_be():
    factors = learnt(lambda random, lead: random.normal(size=KEYS) * (1.0 + lead / 5))
    assert factors == pytest.approx(1.0 + np.arange(HORIZON) / 5, rel=0.05)


def test_what_all_keys_have_in_common_is_seen_though_each_key_is_as_sure_as_was_said():
    factors = learnt(lambda random, lead: random.normal(size=KEYS) + (random.normal() if lead > 2 else 0.0))
    assert factors[:3] == pytest.approx(np.ones(3), abs=0.03)
    assert factors[3:] == pytest.approx(np.full(3, np.sqrt(1 + KEYS / 8)), rel=0.05)


def test_a_spread_that_was_said_too_wide_for_every_hour_makes_none_of_them_surer():
    assert learnt(lambda random, _: random.normal(size=KEYS), said=3.0) == pytest.approx(np.ones(HORIZON), abs=0.03)


def test_nothing_is_believed_to_be_hopeless():
    assert learnt(lambda random, lead: random.normal(size=KEYS) * (50.0 if lead else 1.0)).max() <= MOST


def test_before_anything_came_every_hour_is_as_sure_as_the_next():
    assert LeadSpread(KEYS, HORIZON, 0.99).factors() == pytest.approx(np.ones(HORIZON))


class Known:
    """A past of which only costs (K, hours) are known."""

    def __init__(self, costs):
        self.keys, self.now, self._costs = tuple(map(str, range(len(costs)))), costs.shape[1], costs

    def before(self, hour, hours):
        return self._costs[:, max(0, hour - hours) : hour]


def widening(level):
    """How much wider the sigma of the hour 12 hours ahead is than its mean says, after 1,000 hours at these levels."""
    costs = np.random.default_rng(9).poisson(20.0 * level, (30, len(level))).astype(np.float32)
    made = SeasonalShape(28 * 24, 0).ahead(Known(costs))
    relative = made.sigma**2 / made.mean
    return float(np.median(relative[:, 12] / relative[:, 0]))


def test_the_lab_is_less_sure_of_later_hours_where_levels_come_and_go():
    wandering = np.exp(np.repeat(np.random.default_rng(3).normal(0.0, 0.4, 200), 5))
    assert widening(np.ones(1000)) == pytest.approx(1.0, abs=0.25)
    assert widening(wandering) > 1.5
