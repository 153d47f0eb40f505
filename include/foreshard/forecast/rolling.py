"""The hourly refresh: a window that moves on by one hour is fitted from what the last one left, without reading it again.

All that the additive solver needs of a series are its products with the design's columns. When the window moves on by an hour,
the trend's columns keep their places in it, and the seasonal ones keep their hours: so each product changes by the hour that
came, the hour that went, and (for slopes) a running sum. That is work for P numbers per series instead of T × P, and the last
fit's changepoints and noise are almost those of the next one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foreshard.errors import UnsupportedModel
from foreshard.forecast._configuration import Configuration
from foreshard.forecast._design import Design, build_design
from foreshard.forecast._map_additive import FIRST_SLOPE, AdditiveSolver
from foreshard.forecast._map_problem import MapFit, evaluate, join_fits
from foreshard.forecast._moments import Moments
from foreshard.forecast._trend_uncertainty import future_variance
from foreshard.forecast.series import HOURS_PER_WEEK, IntArray, stamps
from foreshard.model import FloatArray

BLOCK = 4096
STANDSTILL = 1e-4
"""When a refreshed noise level stands still; its objective is then within 2e-6 of its best at 672 hours."""


class RollingFit:
    """Fits of fully observed series (K, T) that move on hour by hour.

    Additive models with Prophet's own changepoints and scaling only; others raise :class:`foreshard.errors.UnsupportedModel`.
    ``reread`` takes the products from the data again, which takes away what rounding has added up; once a week is plenty.
    """

    def __init__(self, configuration: Configuration, costs: FloatArray, numbers: IntArray, horizon: int) -> None:
        self._configuration, self._horizon = configuration, horizon
        self._window = np.ascontiguousarray(costs.T)
        self._oldest = 0
        self._numbers = numbers
        self._design = self._new_design()
        self._coming: FloatArray = np.zeros((0, self._design.features.shape[1]))
        if self._design.is_multiplicative or configuration.arguments.get("scaling", "absmax") != "absmax":
            raise UnsupportedModel("refresh of multiplicative or min–max scaled models")
        self._bends = np.round(self._design.changepoints * (len(numbers) - 1)).astype(np.int64)
        if np.abs(self._bends - self._design.changepoints * (len(numbers) - 1)).max(initial=0.0) > 1e-6:
            raise UnsupportedModel("refresh of changepoints that lie between the hours")
        self._slope: FloatArray = np.full(len(costs), FIRST_SLOPE)
        self.reread()
        self.fit = self._solve(None)

    @property
    def numbers(self) -> IntArray:
        """The hours (T,) of the window."""
        return self._numbers

    def reread(self) -> None:
        """Take all products from the data."""
        window = np.roll(self._window, -self._oldest, axis=0)
        self._window, self._oldest = window, 0
        self._scale = np.abs(window).max(axis=0)
        self._squares = np.einsum("tk,tk->k", window, window)
        self._hinged = np.asfortranarray(window.T @ self._design.hinges(self._design.times))
        self._based = window.T @ self._design.base(self._design.times)
        self._featured = np.asfortranarray(window.T @ self._design.features)
        behind = np.cumsum(window[::-1], axis=0)[::-1]
        self._tails = behind[np.minimum(self._bends + 1, len(window) - 1)].T
        self._sums = behind[0].copy()

    def advance(self, newest: FloatArray) -> MapFit:
        """Move on by an hour whose costs are ``newest`` (K,), and fit."""
        length = len(self._window)
        start = replace(self.fit, variance=self._next_variance(newest))
        went = self._window[self._oldest].copy()
        leaving = self._window[(self._oldest + self._bends + 1) % length].T
        self._window[self._oldest] = newest
        self._oldest = (self._oldest + 1) % length
        step = 1.0 / (length - 1)
        self._hinged += np.outer(1.0 - self._design.changepoints, newest).T - step * self._tails
        self._tails += newest[:, None] - leaving
        self._sums += newest - went
        if self._design.rate:
            self._based[:, 0] += newest - step * (self._sums - newest)
        self._based[:, -1] = self._sums
        self._squares += newest**2 - went**2
        old, self._numbers = self._design, self._numbers + 1
        self._design = self._next_design()
        self._featured += (np.outer(self._design.features[-1], newest) - np.outer(old.features[0], went)).T
        lost = np.flatnonzero(np.abs(went) >= self._scale)
        self._scale = np.maximum(self._scale, np.abs(newest))
        self._scale[lost] = np.abs(self._window[:, lost]).max(axis=0)
        self.fit = self._solve(start)
        return self.fit

    def forecast(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (K, H) for the hours after the window, as a fresh fit gives them."""
        scale = self._scaled_by()[:, None]
        mean = evaluate(self._design, self.fit, future=True)
        return mean * scale, np.sqrt(future_variance(self._design, self.fit)) * scale

    def _next_variance(self, newest: FloatArray) -> FloatArray:
        """σ² (K,) as it is once the oldest hour's squared residual is replaced by the newest one's, before the refit."""
        whole, scale = self._design, self._scaled_by()
        ends = replace(
            whole,
            times=whole.times[:1],
            features=whole.features[:1],
            future_times=whole.future_times[:1],
            future_features=whole.future_features[:1],
        )
        gone = self._window[self._oldest] / scale - evaluate(ends, self.fit, future=False)[:, 0]
        came = newest / scale - evaluate(ends, self.fit, future=True)[:, 0]
        variance = self.fit.variance
        return np.asarray(np.maximum(variance + (came**2 - gone**2) / len(self._window), 0.5 * variance))

    def _scaled_by(self) -> FloatArray:
        return np.where(self._scale > 0, self._scale, 1.0)

    def _new_design(self) -> Design:
        ahead = self._numbers[-1] + 1 + np.arange(self._horizon)
        frames = (self._configuration.frame(stamps(hours)) for hours in (self._numbers, ahead))
        return build_design(self._configuration.outline, *frames)

    def _next_design(self) -> Design:
        """The design moved on by an hour; an hour's features stay as they are, so only hours not yet seen are asked for."""
        if self._coming.shape[0] <= self._horizon:
            first = self._numbers[-1] + 1
            hours = first + np.arange(self._horizon + HOURS_PER_WEEK)
            frames = (self._configuration.frame(stamps(numbers)) for numbers in (self._numbers, hours))
            self._coming = build_design(self._configuration.outline, *frames).future_features
        features = np.concatenate([self._design.features[1:], self._design.future_features[:1]])
        ahead, self._coming = self._coming[: self._horizon], self._coming[1:]
        return replace(self._design, features=features, future_features=ahead)

    def _solve(self, start: MapFit | None) -> MapFit:
        solver = AdditiveSolver(self._design)
        scale = self._scaled_by()
        fits = []
        for first in range(0, len(scale), BLOCK):
            rows = slice(first, first + BLOCK)
            by = scale[rows, None]
            products = solver.from_raw(self._hinged[rows] / by, self._based[rows] / by, self._featured[rows] / by)
            moments = Moments(products, self._squares[rows] / scale[rows] ** 2, len(self._window))
            fits.append(solver.fit(moments, None if start is None else start.rows(rows), self._slope[rows], STANDSTILL))
        return join_fits(fits)
