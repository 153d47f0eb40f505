from __future__ import annotations

import numpy as np
import pytest

from foreshard.errors import UnsupportedModel
from foreshard.forecast._configuration import Configuration, plain
from foreshard.forecast._map_batch import fit_batch
from foreshard.forecast.rolling import RollingFit

FIRST, HOURS, EXTRA = 480_000, 672, 60
STATE = ("_hinged", "_based", "_featured", "_tails", "_squares", "_scale", "_sums")


@pytest.fixture(scope="module")
def costs() -> np.ndarray:
    """Eight series with a daily wave; one of them is at its highest at its very first hour, one changes its level."""
    random = np.random.default_rng(4)
    at = np.arange(HOURS + EXTRA)
    rates = np.exp(random.normal(2, 1, (8, 1))) * (1.0 + 0.8 * np.sin(at / 24 * 2 * np.pi))
    rates[3] *= np.where(at > 400, 4.0, 1.0)
    drawn = random.poisson(rates).astype(float)
    drawn[5, 0] = drawn[5].max() * 3.0
    return drawn


@pytest.mark.parametrize("growth", ["linear", "flat"])
def test_a_window_that_moved_on_is_fitted_as_one_from_scratch(growth: str, costs: np.ndarray) -> None:
    rolling = RollingFit(plain(growth), costs[:, :HOURS], FIRST + np.arange(HOURS), 24)
    for hour in range(EXTRA):
        rolling.advance(costs[:, HOURS + hour])
    window = costs[:, EXTRA:]
    numbers = FIRST + EXTRA + np.arange(HOURS)
    np.testing.assert_array_equal(rolling.numbers, numbers)
    fresh = fit_batch(plain(growth), window, np.ones(window.shape, bool), numbers, numbers[-1] + 1 + np.arange(24))
    assert rolling.fit.converged.all()
    for rolled, fitted in zip(rolling.forecast(), fresh.forecast(), strict=True):
        np.testing.assert_allclose(rolled, fitted, atol=2e-3 * window.max())
    np.testing.assert_allclose(rolling.fit.variance, fresh.groups[0].fit.variance, rtol=1e-4)


def test_reading_again_changes_next_to_nothing(costs: np.ndarray) -> None:
    rolling = RollingFit(plain(), costs[:, :HOURS], FIRST + np.arange(HOURS), 24)
    for hour in range(5):
        rolling.advance(costs[:, HOURS + hour])
    parts = [
        getattr(rolling, name).copy() for name in ("_hinged", "_based", "_featured", "_tails", "_squares", "_scale", "_sums")
    ]
    rolling.reread()
    for name, before in zip(STATE, parts, strict=True):
        np.testing.assert_allclose(getattr(rolling, name), before, rtol=1e-9, atol=1e-7)


def test_models_that_cannot_be_refreshed_are_refused(costs: np.ndarray) -> None:
    for configuration in (plain("linear", "multiplicative"), Configuration("minmax", {"scaling": "minmax"})):
        with pytest.raises(UnsupportedModel, match="refresh"):
            RollingFit(configuration, costs[:, :HOURS], FIRST + np.arange(HOURS), 24)
