from io import BytesIO

import numpy as np
import pytest
from tests.unit.lab.test_policies import RULES

from foreshard.forecast.engine import hourly_forecaster
from foreshard.lab import shared_forecasts
from foreshard.lab.past import Past
from foreshard.lab.shared_forecasts import SharedForecasts

HOURS = range(24 * 8, 24 * 9)


class Counted:
    """A forecaster that counts its calls."""

    calls = 0

    def __init__(self):
        self._forecaster = hourly_forecaster("seasonal", 28 * 24, 0)

    def ahead(self, past):
        Counted.calls += 1
        return self._forecaster.ahead(past)


@pytest.fixture
def log(rates_log):
    Counted.calls = 0
    return rates_log(np.random.default_rng(1), days=9, jump_at=None)


@pytest.fixture
def shared():
    return SharedForecasts(Counted, BytesIO())


def forecasts_of(forecaster, log):
    return [forecaster.ahead(Past(log, hour, RULES)) for hour in HOURS]


@pytest.mark.parametrize(("most", "calls"), [(2**30, 24), (100_000, 24 + 24), (0, 24 + 24)])
def test_a_second_replay_sees_the_same_forecasts_whether_they_were_kept_or_made_again(log, shared, monkeypatch, most, calls):
    monkeypatch.setattr(shared_forecasts, "MOST_BYTES", most)
    for one, other in zip(forecasts_of(shared, log), forecasts_of(shared, log), strict=True):
        assert np.array_equal(one.mean, other.mean)
        assert np.array_equal(one.sigma, other.sigma)
        assert one.correlation == other.correlation
    assert Counted.calls == calls


def test_kept_forecasts_are_those_of_the_forecaster(log, shared):
    plain = hourly_forecaster("seasonal", 28 * 24, 0)
    for hour, kept in zip(HOURS, forecasts_of(shared, log), strict=True):
        assert np.allclose(kept.mean, plain.ahead(Past(log, hour, RULES)).mean, rtol=1e-6)
