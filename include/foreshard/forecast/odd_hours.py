"""Weights of past hours: hours of an odd day, such as a holiday, say little about the days to come.

The load of each hour, in ``GROUPS`` groups of keys, is compared with the median of the same hour of the week. Its distance,
over the neighbouring half day, is set against the usual distance in the week around it. Hours that are ``TOLERATED`` times as
far count less, by the square of the excess, as in robust regression. A change that lasts is not odd: it raises the usual
distance.
"""

from __future__ import annotations

import warnings

import numpy as np

from foreshard.forecast.similar_days import weeks_of
from foreshard.model import HOURS_PER_WEEK, BoolArray, FloatArray, IntArray

GROUPS = 8
TOLERATED = 2.5
"""The multiple of the usual distance that still counts fully. A normal distance exceeds it about once in 100 hours."""
AROUND = 13
"""Hours over which distances are averaged: half a day, so that a single busy hour is not odd."""
CHANGED_HOURS = 36
"""If most hours of the last day and a half are odd, that is a change and no exception: the last week counts fully."""
LEAST = 0.02
"""The least weight, so that a history of odd hours alone still gives a mean."""
CLOSED = 0.25
"""An odd hour with less than this share of its usual load is closed: it says nothing about the level of open hours."""
_ODD, _MOSTLY = 0.5, 0.7
"""The weight below which an hour is odd, and the share of odd hours that is most of them."""
_LEAST_LOAD = 0.05
"""The load of an hour, as a share of the average hour's, that distances are relative to at least."""


def hour_weights(costs: FloatArray, observed: BoolArray, numbers: IntArray) -> FloatArray:
    """Return the weight (T,) of each hour of ``costs`` (K, T), between ``LEAST`` and 1. Less than two weeks weigh 1."""
    hours = costs.shape[1]
    if hours < 2 * HOURS_PER_WEEK or not costs.any():
        return np.ones(hours)
    sums = np.array([costs[group::GROUPS].sum(axis=0) for group in range(min(GROUPS, len(costs)))])
    sums[:, ~observed.any(axis=0)] = np.nan
    usual = _usual(sums, numbers)
    apart, load = np.nan_to_num(np.abs(sums - usual)).sum(axis=0), np.nan_to_num(usual).sum(axis=0)
    kernel = np.ones(AROUND)
    least = _LEAST_LOAD * max(float(load.mean()), 1e-12) * AROUND
    distance = np.convolve(apart, kernel, "same") / np.maximum(np.convolve(load, kernel, "same"), least)
    around = np.median(np.lib.stride_tricks.sliding_window_view(distance, HOURS_PER_WEEK), axis=1)
    place = np.clip(np.arange(hours) - HOURS_PER_WEEK // 2, 0, len(around) - 1)
    weights: FloatArray = np.clip((TOLERATED * around[place] / np.maximum(distance, 1e-12)) ** 2, LEAST, 1.0)
    if (weights[-CHANGED_HOURS:] < _ODD).mean() > _MOSTLY:
        weights[-HOURS_PER_WEEK:] = 1.0
    return weights


def open_weights(weights: FloatArray, costs: FloatArray, observed: BoolArray, numbers: IntArray) -> FloatArray:
    """Return the ``weights`` (T,) of :func:`hour_weights`, with 0 where an odd hour of ``costs`` (K, T) is closed."""
    total = np.where(observed.any(axis=0), costs.sum(axis=0), np.nan)
    closed = (weights < _ODD) & (total < CLOSED * _usual(total[None], numbers)[0])
    return np.where(closed, 0.0, weights)


def _usual(sums: FloatArray, numbers: IntArray) -> FloatArray:
    """Return the median of the same hour of the week for each hour (n, T)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        usual: FloatArray = np.nanmedian(weeks_of(sums, numbers, np.nan), axis=1)[:, numbers % HOURS_PER_WEEK]
    return usual
