from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast._blend import blend_weights


def errors(seed: int, keys: int, spreads: list[float], shared: float = 0.0) -> np.ndarray:
    """Errors (keys, 168, candidates) with these spreads, plus a component that all candidates share."""
    random = np.random.default_rng(seed)
    own = random.normal(size=(keys, 168, len(spreads))) * np.array(spreads)
    return own + shared * random.normal(size=(keys, 168, 1))


def everywhere(values: np.ndarray) -> np.ndarray:
    return np.ones(values.shape[:2], bool)


def test_the_better_candidate_gets_the_weight() -> None:
    values = errors(1, 30, [1.0, 10.0])
    weights = blend_weights(values, everywhere(values))
    assert (weights[:, 0] > 0.9).all()


def test_candidates_with_equal_independent_errors_get_equal_weights() -> None:
    values = errors(2, 50, [1.0, 1.0, 1.0])
    np.testing.assert_allclose(blend_weights(values, everywhere(values)), 1 / 3, atol=0.1)


def test_a_blend_has_a_smaller_error_than_each_candidate() -> None:
    values = errors(3, 40, [1.0, 1.3, 2.0], shared=0.5)
    weights = blend_weights(values, everywhere(values))
    blended = np.abs((values @ weights[:, :, None])[:, :, 0]).mean()
    assert blended < np.abs(values).mean(axis=(0, 1)).min()


def test_a_key_that_differs_from_the_others_favours_its_own_best_candidate() -> None:
    values = errors(4, 40, [1.0, 3.0])
    values[7] = values[7][:, ::-1] * 5.0
    weights = blend_weights(values, everywhere(values))
    assert weights[7, 1] > np.delete(weights[:, 1], 7).max() + 0.15
    assert blend_weights(values, everywhere(values), pool=0.0)[7, 1] > 0.75


def test_unknown_hours_do_not_affect_the_weights() -> None:
    values = errors(5, 10, [1.0, 4.0])
    known = everywhere(values)
    known[:, ::3] = False
    spoiled = np.where(known[:, :, None], values, 1e9)
    np.testing.assert_allclose(blend_weights(spoiled, known), blend_weights(np.where(known[:, :, None], values, 0.0), known))


def test_without_errors_all_candidates_get_equal_weights() -> None:
    np.testing.assert_allclose(blend_weights(np.zeros((3, 0, 4)), np.zeros((3, 0), bool)), 0.25)
    np.testing.assert_allclose(blend_weights(np.zeros((2, 10, 4)), np.ones((2, 10), bool)), 0.25, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5), st.sampled_from([1e-9, 1.0, 1e15]))
def test_weights_are_non_negative_and_sum_to_one_at_any_scale(seed: int, keys: int, candidates: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_cauchy((keys, 24, candidates)) * scale
    weights = blend_weights(values, random.random((keys, 24)) < 0.7)
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
