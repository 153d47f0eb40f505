"""The engine ``blended``: a weighted mixture per key of Prophet and seasonal means, with weights from a backtest.

1. Every candidate (:mod:`._candidates`) forecasts each of the last seven days from the history before that day.
2. Their errors give each key's weights (:mod:`._blend`).
3. The keys are scaled to agree with a separate forecast of their total.
4. The errors that this blend would have made give sigma and the upper quantile (:mod:`._quantiles`).

The weights pool errors over keys, so a key's forecast depends slightly on the keys forecast in the same batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.forecast._blend import blend_weights
from foreshard.forecast._candidates import (
    CANDIDATES,
    Origin,
    SeasonalCandidate,
    at_yesterdays_level,
    prophet_forecast,
    seasonal_forecasts,
    total_forecasts,
)
from foreshard.forecast._engine_result import EngineForecast
from foreshard.forecast._quantiles import measured_spread
from foreshard.model import HOURS_PER_DAY, BoolArray, FloatArray, IntArray

BLENDED = "blended"
BACKTEST_DAYS = 7
LEAST_BEFORE_ORIGIN = 2 * HOURS_PER_DAY
"""Hours with an observation of any key that an origin needs before it."""

MOST_RECONCILED = 2.0
"""The largest factor by which reconciliation changes an hour of a key, either way."""


@dataclass(frozen=True)
class _Day:
    """One origin with its seasonal forecasts and the forecasts of all candidates (K, H, C)."""

    origin: Origin
    seasonal: SeasonalCandidate
    candidates: FloatArray


def fit_blended(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, quantile: float) -> EngineForecast:
    """Forecast all keys. The labels name the candidate with the largest weight in each key's blend."""
    days = _days(costs, observed, numbers, ahead)
    now, past = days[-1], days[:-1]
    actual, known = _actuals(costs, observed, past)
    before = np.concatenate([day.candidates for day in past], axis=1) if past else np.zeros((len(costs), 0, len(CANDIDATES)))
    weights = blend_weights(before - actual[:, :, None], known)
    mean, fitted = _mixed(now.candidates, weights), _mixed(before, weights)
    mean, fitted = _reconciled(costs, observed, numbers, days, mean, fitted, actual, known)
    unit = _smallest_cost(costs, observed, mean)
    if past:
        spread = measured_spread(mean, fitted, actual, known, unit, quantile)
    else:
        fitted = np.repeat(mean.mean(axis=1, keepdims=True), costs.shape[1], axis=1)
        spread = measured_spread(mean, fitted, costs, observed, unit, quantile)
    leading = tuple(f"{BLENDED}/{CANDIDATES[int(place)]}" for place in weights.argmax(axis=1))
    done = np.asarray(np.isfinite(mean + spread.sigma + spread.upper).all(axis=1))
    return EngineForecast(mean, spread.sigma, done, spread.upper, leading)


def _days(costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray) -> list[_Day]:
    """Return the past origins, oldest first, and the current one."""
    length = len(numbers)
    ends = [length - back * HOURS_PER_DAY for back in range(BACKTEST_DAYS, 0, -1)]
    origins = [Origin(end, numbers[end : end + HOURS_PER_DAY]) for end in ends if end > 0 and _enough(observed[:, :end])]
    first = (origins[0].length if origins else length) - HOURS_PER_DAY
    previous = None
    if first > 0 and _enough(observed[:, :first]):
        previous = seasonal_forecasts(costs, observed, numbers, Origin(first, numbers[first : first + HOURS_PER_DAY]))
    days = []
    for origin in [*origins, Origin(length, ahead)]:
        seasonal = seasonal_forecasts(costs, observed, numbers, origin)
        made = (
            seasonal.steady,
            seasonal.recent,
            at_yesterdays_level(costs, observed, origin, seasonal, previous),
            prophet_forecast(costs, observed, numbers, origin, seasonal.steady),
        )
        days.append(_Day(origin, seasonal, np.stack(made, axis=2)))
        previous = seasonal
    return days


def _enough(observed: BoolArray) -> bool:
    return int(np.any(observed, axis=0).sum()) >= LEAST_BEFORE_ORIGIN


def _actuals(costs: FloatArray, observed: BoolArray, past: list[_Day]) -> tuple[FloatArray, BoolArray]:
    """Return the actual costs of the days that the past origins forecast, and which are observed; both (K, N)."""
    spans = [slice(day.origin.length, day.origin.length + HOURS_PER_DAY) for day in past]
    if not spans:
        return np.zeros((len(costs), 0)), np.zeros((len(costs), 0), dtype=np.bool_)
    return (
        np.concatenate([costs[:, span] for span in spans], axis=1),
        np.concatenate([observed[:, span] for span in spans], axis=1),
    )


def _mixed(candidates: FloatArray, weights: FloatArray) -> FloatArray:
    mixed: FloatArray = np.maximum((candidates @ weights[:, :, None])[:, :, 0], 0.0)
    return mixed


def _reconciled(
    costs: FloatArray,
    observed: BoolArray,
    numbers: IntArray,
    days: list[_Day],
    mean: FloatArray,
    fitted: FloatArray,
    actual: FloatArray,
    known: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    """Scale each hour of all keys, so that their sum is a blend of that sum, weekly means, and the total's own forecasts."""
    if len(days) == 1:
        return mean, fitted
    total, counted = costs.sum(axis=0), np.asarray(observed.all(axis=0))
    sums = [fitted.sum(axis=0), mean.sum(axis=0)]
    plain = [np.concatenate([day.seasonal.plain.sum(axis=0) for day in part]) for part in (days[:-1], days[-1:])]
    own = [total_forecasts(total, counted, numbers, [day.origin for day in part]) for part in (days[:-1], days[-1:])]
    before, now = (np.column_stack([sums[i], plain[i], own[i]]) for i in (0, 1))
    weights = blend_weights((before - actual.sum(axis=0)[:, None])[None], np.asarray(known.all(axis=0))[None], pool=0.0)[0]
    factors = [
        np.clip((table @ weights + 1e-12) / (table[:, 0] + 1e-12), 1.0 / MOST_RECONCILED, MOST_RECONCILED)
        for table in (now, before)
    ]
    return mean * factors[0], fitted * factors[1]


def _smallest_cost(costs: FloatArray, observed: BoolArray, mean: FloatArray) -> FloatArray:
    """Return each key's smallest hourly cost above 0, (K,). If accesses are counted, this is the cost of one access."""
    smallest = np.where(observed & (costs > 0), costs, np.inf).min(axis=1, initial=np.inf)
    unit: FloatArray = np.where(np.isfinite(smallest), smallest, np.maximum(mean.max(axis=1, initial=0.0), 1.0))
    return unit
