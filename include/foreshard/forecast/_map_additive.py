"""The additive model, solved for all series of one design at once.

For a given σ², the coefficients with normal priors (trend base, seasonality) are eliminated in closed form. In the basis that
diagonalises their Gram matrix with respect to their priors, ``(A + σ²Λ)⁻¹`` is diagonal for *every* σ². One factorisation
therefore serves all series, although each has its own noise. The rest is a lasso in the changepoints (:mod:`._lasso`), solved
exactly. σ² then follows in closed form, and secants find the σ² that reproduces itself. The solver reads the data only through
one matrix product, ``Y·[hinges, base, features]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast._lasso import ReducedGram, solve_lassos
from foreshard.forecast._map_problem import GAP_TOLERANCE, TREND_PRIOR_SCALE, Design, MapFit, noise_variance
from foreshard.model import BoolArray, FloatArray, IntArray

MAXIMUM_ROUNDS = 50
_VARIANCE_TOLERANCE = 1e-5
"""Relative change of σ² below which it has converged. The objective is then within ¼·T·tolerance² of its minimum."""
_FIRST_SLOPE, _STEEPEST_SLOPE = 0.1, 0.9
_SECANT_ROUNDS = 10


@dataclass(frozen=True)
class Moments:
    """All that the solver reads of K scaled series.

    ``products`` (K, P) are the series times the solver's columns, ``squares`` (K,) their sums of squares, ``count`` their
    number of observations.
    """

    products: FloatArray
    squares: FloatArray
    count: int

    def hinged(self, hinges: int) -> FloatArray:
        """Return the products with the changepoints' hinges."""
        return self.products[:, :hinges]

    def rotated(self, hinges: int) -> FloatArray:
        """Return the products with the rotated quadratic columns."""
        return self.products[:, hinges:]


class AdditiveSolver:
    """One design's factorisation. ``moments`` reads the data, ``fit`` solves from the moments."""

    def __init__(self, design: Design) -> None:
        if design.is_multiplicative:
            raise ValueError("the design has multiplicative features; use the multiplicative solver")
        self.design = design
        self._used = np.flatnonzero(design.additive)
        base = design.base(design.times)
        quadratic = np.hstack([base, design.features[:, self._used]])
        self._scales = np.concatenate([np.full(base.shape[1], TREND_PRIOR_SCALE), design.prior_scales[self._used]])
        self._bases = base.shape[1]
        hinges = design.hinges(design.times)
        self._hinges = hinges.shape[1]
        whitened = quadratic * self._scales
        values, self._vectors = np.linalg.eigh(whitened.T @ whitened)
        self._values = np.maximum(values, 0.0)
        rotated = whitened @ self._vectors
        self.columns: FloatArray = np.hstack([hinges, rotated])
        self._cross = hinges.T @ rotated
        self._own = hinges.T @ hinges
        self._gram = self.columns.T @ self.columns
        self._tau = design.changepoint_prior_scale

    def moments(self, scaled: FloatArray) -> Moments:
        """Return the moments of the scaled series (K, T)."""
        return Moments(scaled @ self.columns, np.einsum("kt,kt->k", scaled, scaled), scaled.shape[1])

    def fit(self, moments: Moments) -> MapFit:
        """Solve all series. σ² is found by secants: the noise that a fit leaves must equal the noise it assumed."""
        count = len(moments.squares)
        delta = np.zeros((count, self._hinges))
        rotated = np.zeros((count, len(self._values)))
        variance = self._first_variance(moments)
        solved = np.zeros(count, dtype=np.bool_)
        rows = np.arange(count)
        slope = np.full(count, _FIRST_SLOPE)
        steps = np.zeros((2, count))
        for made in range(MAXIMUM_ROUNDS):
            assumed = variance[rows]
            delta[rows], rotated[rows], solved[rows] = self._given_variance(moments, rows, assumed, delta[rows])
            found = noise_variance(self._squares(moments, rows, delta[rows], rotated[rows]), moments.count)
            if made:
                slope[rows] = _secant(assumed - steps[0, rows], found - steps[1, rows], made)
            steps[:, rows] = assumed, found
            moving = np.abs(found - assumed) > _VARIANCE_TOLERANCE * assumed
            variance[rows] = np.where(moving, assumed + (found - assumed) / (1.0 - slope[rows]), found)
            rows = rows[moving]
            if not len(rows):
                break
        gap = self._gap(moments, delta, rotated, variance)
        return self._as_fit(delta, rotated, variance, gap, solved & (gap <= GAP_TOLERANCE))

    def _first_variance(self, moments: Moments) -> FloatArray:
        rotated = moments.rotated(self._hinges) / (self._values + 1e-2)
        none = np.zeros((len(rotated), self._hinges))
        return noise_variance(self._squares(moments, np.arange(len(rotated)), none, rotated), moments.count)

    def _given_variance(
        self, moments: Moments, rows: IntArray, variance: FloatArray, delta: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return the exact minimum for a given noise: δ, the rotated coefficients, and which problems are solved."""
        inverse = 1.0 / (self._values + variance[:, None])
        right = moments.rotated(self._hinges)[rows]
        linear = moments.hinged(self._hinges)[rows] - (right * inverse) @ self._cross.T
        penalty = variance / self._tau
        best = np.zeros_like(delta)
        solved = np.ones(len(rows), dtype=np.bool_)
        bent = np.flatnonzero((np.abs(linear) > penalty[:, None]).any(axis=1))
        if len(bent):
            gram = ReducedGram(self._own, self._cross, inverse[bent])
            best[bent], solved[bent] = solve_lassos(gram, linear[bent], penalty[bent], delta[bent])
        return best, (right - best @ self._cross) * inverse, solved

    def _squares(self, moments: Moments, rows: IntArray, delta: FloatArray, rotated: FloatArray) -> FloatArray:
        """Return the sum of squared residuals from the moments alone: ‖y‖² − 2bᵀθ + θᵀAθ."""
        theta = np.hstack([delta, rotated])
        fitted = theta @ self._gram
        squares: FloatArray = moments.squares[rows] + np.einsum("kp,kp->k", theta, fitted - 2.0 * moments.products[rows])
        return squares

    def _gap(self, moments: Moments, delta: FloatArray, rotated: FloatArray, variance: FloatArray) -> FloatArray:
        """Return an upper bound on objective − minimum (given the noise): ½ eᵀH⁻¹e/σ².

        e is the least subgradient and H the Hessian. The objective is a quadratic with Hessian H plus a convex function, so it
        is nowhere below its value plus eᵀx + ½xᵀHx. H is taken at the least noise, which can only loosen the bound.
        """
        theta = np.hstack([delta, rotated])
        gradient = theta @ self._gram - moments.products
        gradient[:, self._hinges :] += variance[:, None] * rotated
        penalty = (variance / self._tau)[:, None]
        bent = gradient[:, : self._hinges]
        bent -= np.where(delta != 0, -penalty * np.sign(delta), np.clip(bent, -penalty, penalty))
        hessian = self._gram.copy()
        hinge_range = np.arange(self._hinges)
        hessian[hinge_range, hinge_range] *= 1.0 + 1e-12
        other = np.arange(self._hinges, len(hessian))
        hessian[other, other] += variance.min(initial=np.inf) if len(variance) else 1.0
        try:
            half = gradient @ np.linalg.inv(np.linalg.cholesky(hessian)).T
        except np.linalg.LinAlgError:
            return np.full(len(delta), np.inf)
        bound: FloatArray = 0.5 * np.einsum("kp,kp->k", half, half) / variance
        return bound

    def _as_fit(
        self,
        delta: FloatArray,
        rotated: FloatArray,
        variance: FloatArray,
        gap: FloatArray,
        converged: BoolArray,
    ) -> MapFit:
        quadratic = (rotated @ self._vectors.T) * self._scales
        beta = np.zeros((len(delta), len(self.design.prior_scales)))
        beta[:, self._used] = quadratic[:, self._bases :]
        offset = quadratic[:, self._bases - 1]
        rate = quadratic[:, 0] if self.design.rate else np.zeros(len(delta))
        return MapFit(rate, offset, delta, beta, variance, gap, converged)


def _secant(assumed: FloatArray, found: FloatArray, made: int) -> FloatArray:
    """Slope of the found noise over the assumed noise, from the last two rounds; 0 (plain iteration) after many rounds."""
    if made > _SECANT_ROUNDS:
        return np.zeros_like(found)
    return np.clip(np.divide(found, assumed, out=np.zeros_like(found), where=assumed != 0), 0.0, _STEEPEST_SLOPE)
