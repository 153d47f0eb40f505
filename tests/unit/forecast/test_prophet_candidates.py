"""The Prophets that a blend may be made of."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from foreshard.errors import UnknownEngine
from foreshard.forecast._candidates import Origin
from foreshard.forecast._prophet_candidates import PROPHETS, prophet_forecasts
from foreshard.forecast.engine import forecast_keys
from foreshard.settings import ForecastSettings

FIRST, HOURS = 480_000, 28 * 24
NUMBERS = FIRST + np.arange(HOURS)
AHEAD = FIRST + HOURS + np.arange(24)


def rates(numbers: np.ndarray) -> np.ndarray:
    """A working day's wave and a flat, low weekend (day 0 of 1970 was a Thursday)."""
    weekend = (numbers // 24 + 3) % 7 >= 5
    return np.where(weekend, 12.0, 40.0 + 35.0 * np.sin(numbers / 24 * 2 * np.pi))


@pytest.mark.parametrize("name", list(PROPHETS))
def test_each_forecasts_a_week_with_weekends_better_than_its_mean(name: str) -> None:
    costs = np.random.default_rng(2).poisson(rates(NUMBERS), (3, HOURS)).astype(float)
    seen = np.ones(costs.shape, bool)
    seen[1, :300] = False
    (mean,) = prophet_forecasts([name], costs, seen, NUMBERS, Origin(HOURS, AHEAD), np.zeros((3, 24)))
    error = np.abs(mean - rates(AHEAD)).mean(axis=1)
    assert (error < 0.6 * np.abs(rates(AHEAD) - costs.mean()).mean()).all()
    assert (mean >= 0).all()


def test_a_key_that_varies_too_little_gets_what_stands_otherwise() -> None:
    otherwise = np.full((2, 24), 7.0)
    costs = np.vstack([np.full(HOURS, 3.0), rates(NUMBERS)])
    (mean,) = prophet_forecasts(["prophet_flat"], costs, np.ones(costs.shape, bool), NUMBERS, Origin(HOURS, AHEAD), otherwise)
    assert (mean[0] == 7.0).all()
    assert (mean[1] != 7.0).any()


def test_a_blend_of_named_prophets_says_which_one_leads() -> None:
    costs = np.random.default_rng(3).poisson(rates(NUMBERS), (4, HOURS)).astype(float)
    settings = ForecastSettings(prophets=("prophet_flat", "prophet_day_type"))
    batch = forecast_keys(tuple("abcd"), costs, np.zeros(costs.shape, bool), datetime(2026, 3, 1, 23, tzinfo=UTC), settings)
    assert np.isfinite(batch.upper).all()
    assert all(model.startswith("blended/") for model in batch.models)


def test_a_prophet_that_does_not_exist_is_refused_with_the_names_that_do() -> None:
    costs, hour = np.ones((1, HOURS)), datetime(2026, 3, 1, 23, tzinfo=UTC)
    with pytest.raises(UnknownEngine, match=r"prophet_lunar.*prophet_day_type.*FORESHARD_FORECAST__PROPHETS"):
        forecast_keys(("a",), costs, costs == 0, hour, ForecastSettings(prophets=("prophet_lunar",)))
