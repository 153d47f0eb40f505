"""The model with multiplicative terms, solved for all series of one design at once.

``trend·(1 + X_m β) + X_a β`` is linear in (trend, β_a) for a given β_m, and in (β_m, β_a) for a given trend. The two problems
are solved alternately, each exactly, with the noise in closed form, so no round raises the objective. Each series has its own
Gram matrix, but all of them come from one matrix product of the squared factors with the design's column pairs.

Alternating minimisation is slow along narrow valleys. Each round therefore starts from a point extrapolated along the last
change, with Nesterov's growing momentum. A round that raises the objective is undone and its momentum reset (function restart:
O'Donoghue and Candès, 2015), so the objective never rises.
"""

from __future__ import annotations

import numpy as np

from foreshard.forecast._lasso import DenseGram, solve_lassos
from foreshard.forecast._map_problem import TREND_PRIOR_SCALE, Design, MapFit, from_squares, noise_variance, seasonal, trend
from foreshard.model import BoolArray, FloatArray

MAXIMUM_ROUNDS = 400
DECREASE = 1e-5
"""A series has converged when a round without momentum lowers its objective by less than this."""

_FIELDS = ("k", "m", "delta", "beta", "variance", "gap", "converged")


class MultiplicativeSolver:
    """One design's column pairs."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self._hinges = design.hinges(design.times)
        self._base = design.base(design.times)
        self._trend = np.hstack([self._hinges, self._base])
        self._added = design.features[:, design.additive]
        self._multiplied = design.features[:, design.multiplicative]
        self._trend_pairs = _pairs(self._trend, self._trend)
        self._trend_added = _pairs(self._trend, self._added)
        self._multiplied_pairs = _pairs(self._multiplied, self._multiplied)
        self._multiplied_added = _pairs(self._multiplied, self._added)
        self._added_gram = self._added.T @ self._added

    def fit(self, scaled: FloatArray, start: MapFit) -> MapFit:
        """Solve all series (K, T), starting from ``start``, where β_m may be zero."""
        fit = MapFit(*(getattr(start, name).copy() for name in _FIELDS))
        fit.converged[:] = False
        fit.gap[:] = np.inf
        last, before, streak = np.full(len(scaled), np.inf), fit.beta.copy(), np.zeros(len(scaled))
        rows = np.arange(len(scaled))
        for _ in range(MAXIMUM_ROUNDS):
            push = streak[rows] / (streak[rows] + 3.0)
            part = fit.rows(rows)  # type: ignore[arg-type]
            part.beta[:] += push[:, None] * (part.beta - before[rows])
            value, solved = self._round(scaled[rows], part)
            fell = last[rows] - value
            kept = (push == 0) | (fell > 0)
            part.gap[:] = fell
            part.converged[:] = solved & (push == 0) & (fell < DECREASE)
            taken = rows[kept]
            before[taken], last[taken] = fit.beta[taken], value[kept]
            for name in _FIELDS:
                getattr(fit, name)[taken] = getattr(part, name)[kept]
            streak[rows] = np.where(kept & (fell >= DECREASE), streak[rows] + 1.0, 0.0)
            rows = rows[~kept | (solved & np.isfinite(value) & ~part.converged)]
            if not len(rows):
                break
        return fit

    def _round(self, scaled: FloatArray, fit: MapFit) -> tuple[FloatArray, BoolArray]:
        """Update ``fit`` in place by both steps and the noise. Return the objective and which problems are solved."""
        solved = self._trend_step(scaled, fit)
        self._feature_step(scaled, fit)
        squares = self._squares(scaled, fit)
        fit.variance[:] = noise_variance(squares, scaled.shape[1])
        return from_squares(self.design, fit, squares, scaled.shape[1]), solved

    def _trend_step(self, scaled: FloatArray, fit: MapFit) -> BoolArray:
        """Update trend and additive coefficients in place for the current factor 1 + X_m β. Return which are solved."""
        factor = 1.0 + seasonal(self.design, fit, self.design.features)[1]
        hinges, bases, added = self._hinges.shape[1], self._base.shape[1], self._added.shape[1]
        size = hinges + bases
        gram = np.zeros((len(scaled), size + added, size + added))
        gram[:, :size, :size] = ((factor**2) @ self._trend_pairs).reshape(len(scaled), size, size)
        gram[:, :size, size:] = (factor @ self._trend_added).reshape(len(scaled), size, added)
        gram[:, size:, :size] = gram[:, :size, size:].transpose(0, 2, 1)
        gram[:, size:, size:] = self._added_gram
        linear = np.hstack([(scaled * factor) @ self._trend, scaled @ self._added])
        quadratic = np.arange(hinges, size + added)
        scales = np.concatenate([np.full(bases, TREND_PRIOR_SCALE), self.design.prior_scales[self.design.additive]])
        gram[:, quadratic, quadratic] += fit.variance[:, None] / scales**2
        penalty = fit.variance / self.design.changepoint_prior_scale
        coefficients, delta, solved = _eliminate(gram, linear, hinges, penalty, fit.delta)
        fit.delta[:] = delta
        fit.m[:] = coefficients[:, bases - 1]
        if self.design.rate:
            fit.k[:] = coefficients[:, 0]
        fit.beta[:, self.design.additive] = coefficients[:, bases:]
        return solved

    def _feature_step(self, scaled: FloatArray, fit: MapFit) -> None:
        """Update all seasonal coefficients in place for the current trend."""
        level = trend(self.design, fit, self.design.times)
        multiplied, added = self._multiplied.shape[1], self._added.shape[1]
        gram = np.zeros((len(scaled), multiplied + added, multiplied + added))
        gram[:, :multiplied, :multiplied] = ((level**2) @ self._multiplied_pairs).reshape(len(scaled), multiplied, multiplied)
        gram[:, :multiplied, multiplied:] = (level @ self._multiplied_added).reshape(len(scaled), multiplied, added)
        gram[:, multiplied:, :multiplied] = gram[:, :multiplied, multiplied:].transpose(0, 2, 1)
        gram[:, multiplied:, multiplied:] = self._added_gram
        rest = scaled - level
        linear = np.hstack([(rest * level) @ self._multiplied, rest @ self._added])
        priors = self.design.prior_scales
        scales = np.concatenate([priors[self.design.multiplicative], priors[self.design.additive]])
        diagonal = np.arange(multiplied + added)
        gram[:, diagonal, diagonal] += fit.variance[:, None] / scales**2
        beta = np.linalg.solve(gram, linear[:, :, None])[:, :, 0]
        fit.beta[:, self.design.multiplicative] = beta[:, :multiplied]
        fit.beta[:, self.design.additive] = beta[:, multiplied:]

    def _squares(self, scaled: FloatArray, fit: MapFit) -> FloatArray:
        added, multiplied = seasonal(self.design, fit, self.design.features)
        residuals = scaled - trend(self.design, fit, self.design.times) * (1.0 + multiplied) - added
        squares: FloatArray = np.einsum("kt,kt->k", residuals, residuals)
        return squares


def _pairs(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return the products of every column of ``left`` with every column of ``right``, (T, left × right)."""
    pairs: FloatArray = (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)
    return pairs


def _eliminate(
    gram: FloatArray, linear: FloatArray, hinges: int, penalty: FloatArray, start: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Minimise over the first ``hinges`` coefficients by lasso, and over all others in closed form."""
    inner = gram[:, hinges:, hinges:]
    right = np.concatenate([linear[:, hinges:, None], gram[:, hinges:, :hinges]], axis=2)
    eliminated = np.linalg.solve(inner, right)
    cross = gram[:, :hinges, hinges:]
    reduced = gram[:, :hinges, :hinges] - cross @ eliminated[:, :, 1:]
    target = linear[:, :hinges] - (cross @ eliminated[:, :, :1])[:, :, 0]
    if hinges:
        delta, solved = solve_lassos(DenseGram(reduced), target, penalty, start)
    else:
        delta, solved = np.zeros((len(linear), 0)), np.ones(len(linear), dtype=np.bool_)
    return eliminated[:, :, 0] - (eliminated[:, :, 1:] @ delta[:, :, None])[:, :, 0], delta, solved
