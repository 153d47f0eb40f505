from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast._lasso import DenseGram, ReducedGram, solve_lassos


def problems(seed: int, count: int, size: int, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    columns = random.normal(size=(count, rank, size)).cumsum(axis=1)
    gram = columns.transpose(0, 2, 1) @ columns + 1e-6 * np.eye(size)
    return gram, random.normal(size=(count, size)) * 10.0, random.uniform(0.01, 20.0, count)


def excess(gram: np.ndarray, linear: np.ndarray, penalty: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Each problem's violation of the optimality conditions of the lasso, relative to its size."""
    gradient = linear - (gram @ point[:, :, None])[:, :, 0]
    bound = penalty[:, None]
    distance = np.where(point != 0, np.abs(gradient - bound * np.sign(point)), np.maximum(np.abs(gradient) - bound, 0.0))
    return distance.max(axis=1) / (penalty + np.abs(linear).max(axis=1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 30))
def test_solutions_meet_the_optimality_conditions(seed: int, size: int, rank: int) -> None:
    gram, linear, penalty = problems(seed, 6, size, rank)
    point, solved = solve_lassos(DenseGram(gram), linear, penalty, np.zeros((6, size)))
    assert solved.all()
    assert excess(gram, linear, penalty, point).max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_result_does_not_depend_on_the_start(seed: int) -> None:
    gram, linear, penalty = problems(seed, 4, 8, 20)
    random = np.random.default_rng(seed)

    def value(point: np.ndarray) -> np.ndarray:
        squares = 0.5 * np.einsum("ki,kij,kj->k", point, gram, point)
        return squares - (linear * point).sum(axis=1) + penalty * np.abs(point).sum(axis=1)

    cold, _ = solve_lassos(DenseGram(gram), linear, penalty, np.zeros((4, 8)))
    warm, solved = solve_lassos(DenseGram(gram), linear, penalty, random.normal(size=(4, 8)) * (random.random((4, 8)) < 0.5))
    assert solved.all()
    np.testing.assert_allclose(value(warm), value(cold), rtol=1e-7, atol=1e-8)


def test_a_large_penalty_gives_zero_and_no_penalty_gives_least_squares() -> None:
    gram, linear, _ = problems(1, 3, 5, 30)
    nothing, _ = solve_lassos(DenseGram(gram), linear, np.full(3, 1e6), np.ones((3, 5)))
    assert not nothing.any()
    plain, solved = solve_lassos(DenseGram(gram), linear, np.zeros(3), np.zeros((3, 5)))
    assert solved.all()
    np.testing.assert_allclose((gram @ plain[:, :, None])[:, :, 0], linear, atol=1e-6)


def test_a_singular_problem_is_reported_and_does_not_stop_the_others() -> None:
    gram, linear, penalty = problems(2, 3, 4, 30)
    gram[1], linear[1], penalty[1] = 0.0, 5.0, 0.1
    point, solved = solve_lassos(DenseGram(gram), linear, penalty, np.zeros((3, 4)))
    assert solved.tolist() == [True, False, True]
    assert excess(gram[[0, 2]], linear[[0, 2]], penalty[[0, 2]], point[[0, 2]]).max() < 1e-8


def test_a_problem_with_nan_is_reported_as_not_solved() -> None:
    gram, linear, penalty = problems(3, 2, 4, 30)
    linear[0, 0] = np.nan
    _, solved = solve_lassos(DenseGram(gram), linear, penalty, np.zeros((2, 4)))
    assert solved.tolist() == [False, True]


def test_a_reduced_gram_equals_the_dense_matrix() -> None:
    random = np.random.default_rng(4)
    columns, cross = random.normal(size=(50, 6)), random.normal(size=(6, 3))
    own, inverse = columns.T @ columns, random.uniform(0.1, 1.0, (5, 3))
    reduced = ReducedGram(own, cross, inverse)
    dense = DenseGram(own - (cross * inverse[:, None, :]) @ cross.T)
    rows, index, value = np.array([0, 3]), np.array([[1, 4], [5, 0]]), random.normal(size=(2, 2))
    np.testing.assert_allclose(reduced.block(rows, index), dense.block(rows, index))
    np.testing.assert_allclose(reduced.times(rows, index, value), dense.times(rows, index, value))
