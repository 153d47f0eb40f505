"""The forecaster that the forecast stage builds from a history, and that the lab keeps from hour to hour."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.errors import UnknownEngine
from foreshard.forecast.engine import forecast_keys, hourly_forecaster
from foreshard.forecast.series import hour_number
from foreshard.settings import ForecastSettings

WINDOW = 28 * 24
FIRST = datetime(2026, 2, 2, tzinfo=UTC)


class Known:
    """A past with only costs (K, hours)."""

    def __init__(self, costs, now):
        self.keys, self.now, self._costs = range(len(costs)), now, costs

    def before(self, hour, hours):
        return self._costs[:, max(0, hour - hours) : hour]


def costs_of(days=30, keys=12):
    hours = np.arange(days * 24)
    wave = 1.0 + 0.8 * np.sin(hours / 24 * 2 * np.pi)
    return np.random.default_rng(8).poisson(np.geomspace(1, 60, keys)[:, None] * wave).astype(float)


def lasting(engine, costs, now):
    return hourly_forecaster(engine, WINDOW, hour_number(FIRST)).ahead(Known(costs, now))


@pytest.mark.parametrize("engine", ["blended", "seasonal"])
def test_the_lab_and_the_forecast_stage_forecast_the_same(engine):
    costs = costs_of()
    hour = FIRST + timedelta(hours=WINDOW - 1)
    keys = [str(key) for key in range(len(costs))]
    batch = forecast_keys(keys, costs[:, :WINDOW], np.zeros((12, WINDOW), bool), hour, ForecastSettings(engine=engine))
    made = lasting(engine, costs, WINDOW)
    np.testing.assert_allclose(batch.mean, made.mean)
    np.testing.assert_allclose(batch.sigma, made.sigma)
    assert batch.correlation == made.correlation


@pytest.mark.parametrize("engine", ["blended", "seasonal", "batched"])
def test_an_engine_that_is_kept_forecasts_nearly_what_a_new_one_does(engine):
    costs = costs_of()
    kept = hourly_forecaster(engine, WINDOW, hour_number(FIRST))
    for now in range(WINDOW - 30, WINDOW + 1):
        made = kept.ahead(Known(costs, now))
    new = lasting(engine, costs, WINDOW)
    assert np.abs(made.mean - new.mean).sum() < 0.1 * new.mean.sum()
    assert made.sigma.sum() == pytest.approx(new.sigma.sum(), rel=0.25)


def test_unknown_hours_teach_nothing():
    costs = costs_of()
    gapped = costs.copy()
    gapped[:, WINDOW - 30 : WINDOW - 20] = np.nan
    gapped[3, WINDOW - 60] = np.nan
    made, whole = lasting("blended", gapped, WINDOW), lasting("blended", costs, WINDOW)
    assert np.isfinite(made.mean).all()
    assert made.mean.sum() == pytest.approx(whole.mean.sum(), rel=0.1)


def test_an_engine_that_does_not_exist_is_refused():
    with pytest.raises(UnknownEngine):
        hourly_forecaster("crystal-ball", WINDOW, 0)


def test_days_that_repeat_are_forecast_by_repeating_them():
    week = np.random.default_rng(2).integers(0, 30, (10, 168)) * (np.random.default_rng(3).random((10, 168)) < 0.3)
    costs = np.tile(week, (1, 5)).astype(float)
    made = lasting("blended", costs, WINDOW)
    assert np.abs(made.mean - costs[:, WINDOW : WINDOW + 24]).sum() < 0.05 * costs[:, WINDOW : WINDOW + 24].sum()
