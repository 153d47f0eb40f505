"""The batched MAP fit of Prophet's model for many series: scaling, grouping, and forecasts.

Series observed in the same hours form a group with one design and one factorisation. Keys that start later, or that have gaps
of their own, form further groups. Series that have not converged ("stragglers") are fitted by ``Prophet.fit``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foreshard.forecast._configuration import Configuration
from foreshard.forecast._map_additive import AdditiveSolver
from foreshard.forecast._map_multiplicative import MultiplicativeSolver
from foreshard.forecast._map_problem import Design, MapFit, build_design, evaluate, future_variance, join_fits, seasonal, trend
from foreshard.forecast.series import stamps
from foreshard.model import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from prophet import Prophet

BLOCK = 1024
"""Series worked on at once, so that their moments and active sets stay in the processor's cache."""

LEAST_LEVEL = 1e-3
"""The least mean trend, as a share of the series' scale, by which additive terms are divided to start multiplicative ones."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupFit:
    """The fit of the series ``rows`` of a batch, all observed in the hours ``seen`` (T,), in Prophet's scaled units."""

    design: Design
    rows: IntArray
    seen: BoolArray
    fit: MapFit
    scale: FloatArray
    floor: FloatArray


@dataclass(frozen=True)
class BatchFit:
    """All groups of a batch of ``count`` series at hour ``numbers`` (T,), for the horizon ``ahead`` (H,).

    ``stragglers`` is the number of series fitted by ``Prophet.fit``; ``failed`` (K,) marks the series on which that failed.
    """

    configuration: Configuration
    numbers: IntArray
    ahead: IntArray
    count: int
    groups: tuple[GroupFit, ...]
    stragglers: int
    failed: BoolArray

    def forecast(self) -> tuple[FloatArray, FloatArray]:
        """Return the mean (Prophet's ``yhat``) and standard deviation (trend and noise), both (K, H) in the series' units."""
        mean, sigma = (np.zeros((self.count, len(self.ahead))) for _ in range(2))
        for group in self.groups:
            mean[group.rows] = unscaled(group, future=True)
            sigma[group.rows] = np.sqrt(future_variance(group.design, group.fit)) * group.scale[:, None]
        return mean, sigma

    def fitted(self) -> FloatArray:
        """``yhat`` over the history (K, T); NaN in hours that were not observed."""
        values = np.full((self.count, len(self.numbers)), np.nan)
        for group in self.groups:
            values[np.ix_(group.rows, np.flatnonzero(group.seen))] = unscaled(group, future=False)
        return values

    def prophet(self, row: int, costs: FloatArray) -> Prophet:
        """Return the fit of one series, ``costs`` (T,), as a full ``Prophet`` object, which can predict, plot and serialise."""
        for group in self.groups:
            place = np.flatnonzero(group.rows == row)
            if len(place):
                return _as_prophet(self.configuration, self.numbers, group, int(place[0]), costs)
        raise KeyError(row)


def fit_batch(
    configuration: Configuration, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray
) -> BatchFit:
    """Fit ``costs`` (K, T) at the ``observed`` hours. Each series needs at least two different values."""
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
        lost = _finish(configuration, stamps(numbers[seen]), series, fit, unfinished)
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
    """Group the series by the hours in which they were observed: (rows, hours)."""
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


def _finish(configuration: Configuration, hours: pd.DatetimeIndex, series: FloatArray, fit: MapFit, rows: IntArray) -> IntArray:
    """Fit ``rows`` by ``Prophet.fit`` and store its parameters in ``fit``. Return the rows on which Prophet failed too."""
    lost = []
    for row in rows:
        model = configuration.new()
        frame = configuration.frame(hours)
        frame["y"] = series[row]
        try:
            model.fit(frame)
        except Exception as error:  # Stan raises many kinds of errors; one series must not stop the others
            _log.warning("Prophet.fit failed on a series that the batched solver had not finished (%s)", type(error).__name__)
            lost.append(int(row))
            continue
        finally:
            model.stan_backend.cleanup()
        fit.k[row], fit.m[row] = model.params["k"].item(), model.params["m"].item()
        if fit.delta.shape[1]:
            fit.delta[row] = model.params["delta"][0]
        fit.beta[row] = model.params["beta"][0]
        fit.variance[row] = model.params["sigma_obs"].item() ** 2
    return np.array(lost, dtype=np.int64)
