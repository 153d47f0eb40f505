from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nbinom, norm, poisson

from foreshard.forecast._quantiles import FAMILIES, gamma, measured_spread, negative_binomial, normal, pinball


def one(value: float) -> np.ndarray:
    return np.array([[value]])


@settings(max_examples=80, deadline=None)
@given(st.floats(0.01, 45.0), st.floats(1.05, 20.0), st.sampled_from([0.75, 0.9, 0.99]), st.sampled_from([1.0, 2.5]))
def test_the_negative_binomial_quantile_is_scipys(mean: float, dispersion: float, quantile: float, unit: float) -> None:
    ours = negative_binomial(one(mean * unit), one(mean * dispersion * unit**2), one(unit), quantile)[0, 0] / unit
    expected = nbinom.ppf(quantile, mean / (dispersion - 1.0), 1.0 / dispersion)
    assert ours == pytest.approx(expected)


def test_counts_that_are_not_overdispersed_are_poisson() -> None:
    for mean in (0.05, 0.7, 3.0, 20.0):
        assert negative_binomial(one(mean), one(mean * 0.5), one(1.0), 0.9)[0, 0] == poisson.ppf(0.9, mean)


def test_large_counts_are_nearly_normal_in_every_family() -> None:
    mean, variance = one(1e6), one(4e6)
    expected = norm.ppf(0.9, 1e6, 2e3)
    for family in FAMILIES.values():
        assert family(mean, variance, one(1.0), 0.9)[0, 0] == pytest.approx(expected, rel=1e-4)


def test_the_upper_quantile_of_zero_is_zero() -> None:
    for family in (gamma, negative_binomial):
        assert family(one(0.0), one(1.0), one(1.0), 0.9)[0, 0] == 0.0
    assert normal(one(0.0), one(0.0), one(1.0), 0.9)[0, 0] == 0.0


@pytest.mark.parametrize("kind", ["poisson", "overdispersed", "normal", "sparse"])
def test_the_measured_quantile_covers_about_nine_of_ten_new_hours(kind: str) -> None:
    random = np.random.default_rng(3)
    level = np.exp(random.normal(0.0 if kind == "sparse" else 3.0, 0.5, 120))[:, None]
    shape = 1.0 + 0.8 * np.sin(np.arange(192) / 24 * 2 * np.pi)
    truth = level * shape
    drawn = {
        "poisson": lambda: random.poisson(truth),
        "overdispersed": lambda: random.negative_binomial(3, 3 / (3 + truth)),
        "normal": lambda: np.maximum(random.normal(truth, 0.1 * truth), 0.0),
        "sparse": lambda: random.poisson(truth * 0.2),
    }[kind]().astype(float)
    mean = truth * (0.2 if kind == "sparse" else 1.0)
    past, known = mean[:, :168], np.ones((120, 168), bool)
    spread = measured_spread(mean[:, 168:], past, drawn[:, :168], known, np.ones(120), 0.9)
    covered = (drawn[:, 168:] <= spread.upper).mean()
    assert 0.87 < covered < (0.99 if kind == "sparse" else 0.95)
    assert (spread.upper >= mean[:, 168:]).all()


def test_small_counts_get_the_family_with_the_least_pinball_loss() -> None:
    random = np.random.default_rng(4)
    mean = np.full((200, 192), 0.4)
    drawn = random.poisson(mean).astype(float)
    spread = measured_spread(mean[:, 168:], mean[:, :168], drawn[:, :168], np.ones((200, 168), bool), np.ones(200), 0.9)
    assert set(spread.families) == {"negative_binomial"}
    as_normal = normal(mean[:, 168:], spread.sigma**2, np.ones((200, 1)), 0.9)
    assert pinball(drawn[:, 168:], spread.upper, 0.9).sum() <= pinball(drawn[:, 168:], as_normal, 0.9).sum()


def test_a_key_that_was_silent_has_a_finite_spread() -> None:
    mean = np.vstack([np.zeros(24), np.full(24, 3.0)])
    spread = measured_spread(mean, np.zeros((2, 48)), np.zeros((2, 48)), np.ones((2, 48), bool), np.ones(2), 0.9)
    assert np.isfinite(spread.sigma).all()
    assert np.isfinite(spread.upper).all()


def test_pinball_loss_weighs_errors_above_and_below_by_the_quantile() -> None:
    assert pinball(one(10.0), one(8.0), 0.9)[0, 0] == pytest.approx(1.8)
    assert pinball(one(8.0), one(10.0), 0.9)[0, 0] == pytest.approx(0.2)
