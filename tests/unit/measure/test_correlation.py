import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.measure.correlation import error_correlation, seasonal_residuals


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.4, 0.9])
def test_the_correlation_of_a_common_factor_is_found(rho):
    rng = np.random.default_rng(7)
    common, own = rng.normal(size=2000), rng.normal(size=(40, 2000))
    residuals = (np.sqrt(rho) * common + np.sqrt(1 - rho) * own) * rng.uniform(1, 50, (40, 1))
    assert error_correlation(residuals) == pytest.approx(rho, abs=0.05)


def test_errors_that_cancel_count_as_independent():
    wave = np.sin(np.arange(100.0))
    assert error_correlation(np.stack([wave, -wave])) == 0.0


@pytest.mark.parametrize(
    "residuals",
    [np.empty((0, 0)), np.zeros((3, 500)), np.ones((1, 500)), np.full((4, 500), np.nan), np.ones((5, 3))],
    ids=["nothing", "constant", "one key", "unknown", "too short"],
)
def test_without_evidence_errors_count_as_independent(residuals):
    assert error_correlation(residuals) == 0.0


def test_hours_unknown_for_any_key_are_ignored():
    rng = np.random.default_rng(1)
    residuals = np.repeat(rng.normal(size=(1, 300)), 3, axis=0)
    residuals[1, ::7] = np.nan
    assert error_correlation(residuals) == pytest.approx(1.0)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(24, 60))
def test_the_estimate_is_always_a_correlation(seed, keys, hours):
    assert 0.0 <= error_correlation(np.random.default_rng(seed).standard_cauchy((keys, hours))) <= 1.0


def test_a_weekly_pattern_leaves_no_residual():
    costs = np.tile(np.random.default_rng(3).random((2, 168)), 4)
    assert seasonal_residuals(costs) == pytest.approx(np.zeros_like(costs))


def test_a_slot_observed_once_has_no_residual():
    costs = np.random.default_rng(3).random((2, 30))
    residuals = seasonal_residuals(costs)
    assert not np.isnan(residuals[:, :6]).any()
    assert np.isnan(residuals[:, 6:24]).all()
