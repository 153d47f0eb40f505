"""The batched MAP fit of Prophet's model for many series: scaling, groups that share a design, stragglers, forecasts.

Series observed in the same hours share one design and one factorisation. Hours missing for all keys, and keys that start later,
make a group each; so does a key with gaps of its own. A series that has not converged is finished by ``Prophet.fit``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foreshard.forecast._configuration import Configuration
from foreshard.forecast._design import Design, build_design
from foreshard.forecast._map_additive import AdditiveSolver
from foreshard.forecast._map_multiplicative import MultiplicativeSolver
from foreshard.forecast._map_problem import MapFit, evaluate, join_fits, seasonal, trend
from foreshard.forecast._stragglers import finish
from foreshard.forecast._trend_uncertainty import future_variance
from foreshard.forecast.series import IntArray, stamps
from foreshard.model import BoolArray, FloatArray

if TYPE_CHECKING:
    from prophet import Prophet

BLOCK = 1024
"""Series worked on at once: their moments and their active sets stay in the processor's cache."""

LEAST_LEVEL = 1e-3
"""Of a series' scale: a smaller mean trend is taken as this when additive terms are first read as shares of it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupFit:
    """The fit of the series ``rows`` of a batch, all observed in the hours ``seen`` (T,); scaled as Prophet scales them."""

    design: Design
    rows: IntArray
    seen: BoolArray
    fit: MapFit
    scale: FloatArray
    floor: FloatArray


@dataclass(frozen=True)
class BatchFit:
    """All groups of a batch of ``count`` series at hour ``numbers`` (T,), for the horizon ``ahead`` (H,).

    ``stragglers`` were finished by ``Prophet.fit``; ``failed`` (K,) are those on which that failed too.
    """

    configuration: Configuration
    numbers: IntArray
    ahead: IntArray
    count: int
    groups: tuple[GroupFit, ...]
    stragglers: int
    failed: BoolArray

    def forecast(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (K, H) in the series' units: Prophet's ``yhat``, and its trend and noise uncertainty."""
        mean, sigma = (np.zeros((self.count, len(self.ahead))) for _ in range(2))
        for group in self.groups:
            mean[group.rows] = unscaled(group, future=True)
            sigma[group.rows] = np.sqrt(future_variance(group.design, group.fit)) * group.scale[:, None]
        return mean, sigma

    def fitted(self) -> FloatArray:
        """``yhat`` over the history (K, T), NaN where a series was not observed."""
        values = np.full((self.count, len(self.numbers)), np.nan)
        for group in self.groups:
            values[np.ix_(group.rows, np.flatnonzero(group.seen))] = unscaled(group, future=False)
        return values

    def prophet(self, row: int, costs: FloatArray) -> Prophet:
        """One series' fit as a full ``Prophet``, given that series (T,); it can predict, plot and serialise."""
        for group in self.groups:
            place = np.flatnonzero(group.rows == row)
            if len(place):
                return _as_prophet(self.configuration, self.numbers, group, int(place[0]), costs)
        raise KeyError(row)


def fit_batch(
    configuration: Configuration, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray
) -> BatchFit:
    """Fit ``costs`` (K, T) where ``observed``; each series needs two different observations at least."""
    groups, stragglers, failed = [], 0, np.zeros(len(costs), dtype=np.bool_)
    for rows, seen in _same_hours(observed):
        design = _design(configuration, numbers[seen], ahead)
        series = costs if len(rows) == len(costs) else costs[rows]
        series = series if seen.all() else series[:, seen]
        model: Any = configuration.outline()
        low, high = series.min(axis=1), series.max(axis=1)
        floor = low if model.scaling == "minmax" else np.zeros(len(rows))
        scale = np.maximum(high - floor, floor - low)
        scale = np.where(scale > 0, scale, 1.0)
        fit = _solve(design, _blocks(series, floor, scale))
        unfinished = np.flatnonzero(~fit.converged)
        lost = finish(configuration, stamps(numbers[seen]), series, fit, unfinished)
        stragglers += len(unfinished)
        failed[rows[lost]] = True
        groups.append(GroupFit(design, rows, seen, fit, scale, floor))
    if stragglers:
        _log.info("%d of %d series were finished by Prophet.fit", stragglers, len(costs))
    return BatchFit(configuration, numbers, ahead, len(costs), tuple(groups), stragglers, failed)


def unscaled(group: GroupFit, *, future: bool) -> FloatArray:
    """Prophet's ``yhat``: the scaled mean in the series' units."""
    design = group.design
    values = evaluate(design, group.fit, future=future) * group.scale[:, None]
    if group.floor.any():
        features = design.future_features if future else design.features
        values += group.floor[:, None] * (1.0 + seasonal(design, group.fit, features)[1])
    return values


def _same_hours(observed: BoolArray) -> Iterator[tuple[IntArray, BoolArray]]:
    """Series observed in the same hours, group by group: their rows and those hours."""
    if observed.all():
        if len(observed):
            yield np.arange(len(observed)), observed[0]
        return
    patterns, group = np.unique(np.packbits(observed, axis=1), axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(group.reshape(-1), minlength=len(patterns)))[:-1]):
        yield rows, observed[rows[0]]


def _design(configuration: Configuration, numbers: IntArray, ahead: IntArray) -> Design:
    return build_design(configuration.outline, configuration.frame(stamps(numbers)), configuration.frame(stamps(ahead)))


def _blocks(series: FloatArray, floor: FloatArray, scale: FloatArray) -> Iterator[FloatArray]:
    for start in range(0, len(series), BLOCK):
        block = slice(start, start + BLOCK)
        yield (series[block] - floor[block, None]) / scale[block, None]


def _solve(design: Design, blocks: Iterator[FloatArray]) -> MapFit:
    """Fit the scaled series, block by block, with one factorisation."""
    everything = design.additive | design.multiplicative
    additive = AdditiveSolver(replace(design, additive=everything, multiplicative=np.zeros_like(everything)))
    if not design.is_multiplicative:
        return join_fits([additive.fit(additive.moments(scaled)) for scaled in blocks])
    multiplicative = MultiplicativeSolver(design)
    fits = []
    for scaled in blocks:
        guess = additive.fit(additive.moments(scaled))
        level = trend(design, guess, design.times).mean(axis=1)
        guess.beta[:, design.multiplicative] /= np.where(np.abs(level) > LEAST_LEVEL, level, LEAST_LEVEL)[:, None]
        fits.append(multiplicative.fit(scaled, guess))
    return join_fits(fits)


def _as_prophet(configuration: Configuration, numbers: IntArray, group: GroupFit, place: int, costs: FloatArray) -> Prophet:
    model: Any = configuration.new()
    frame = configuration.frame(stamps(numbers[group.seen]))
    frame["y"] = costs[group.seen]
    model.preprocess(frame)
    fit = group.fit.rows(slice(place, place + 1))
    delta = fit.delta if fit.delta.size else np.zeros((1, len(model.changepoints_t)))
    model.params = {
        "k": fit.k.reshape(1, 1),
        "m": fit.m.reshape(1, 1),
        "delta": delta,
        "beta": fit.beta,
        "sigma_obs": np.sqrt(fit.variance).reshape(1, 1),
    }
    fitted: Prophet = model
    return fitted
