"""The expectations of the gate ``forecasts``: an hour's forecasts, before partitions are scored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median

import numpy as np
import pandas as pd

from foreshard.model import FloatArray, ForecastBatch
from foreshard.quality._suite import Expectation, Suite, between, few, figure, final, not_null, of_values, unique, warns

SANE_FACTOR = 3.0
"""The factor by which the forecast's total may exceed the range of the history's totals over as many hours."""

MAXIMUM_FALLBACK_SHARE = 0.5
"""The largest share of the forecast cost from fallbacks, if the history is long enough to fit models."""

WORSE_THAN_NAIVE = 1.1
MUCH_WORSE_THAN_NAIVE = 1.5
"""The median error of past forecasts ÷ that of the seasonal naive, above which the gate warns, and stops the hour."""

FEWEST_MEASURED = 48
"""Fewer measured forecasts than this say nothing: their horizons overlap, so one odd day is in all of them."""

_ROUNDING = 1e-9
_Valued = tuple[float, Expectation]


def suites(
    batch: ForecastBatch,
    expected_keys: Collection[str],
    horizon: int,
    history_totals: FloatArray,
    fallback_models: Collection[str],
    minimum_history_hours: int,
    past: Sequence[tuple[float, float]] = (),
) -> tuple[Suite, ...]:
    """Return the suites ``keys`` (each key's forecast), ``batch`` (form) and ``judgement``, which a person can accept.

    ``past``: the errors of forecasts whose horizon has ended, and of the seasonal naive for the same hours.
    """
    judged = (
        *_total(batch, history_totals, minimum_history_hours),
        *_fallbacks(batch, fallback_models, len(history_totals) >= minimum_history_hours),
        *_against_naive(past),
    )
    form = of_values("batch", (*_membership(batch, expected_keys), *_shape(batch, horizon)))
    return final(_keys(batch)), final(form), *((of_values("judgement", judged),) if judged else ())


def _keys(batch: ForecastBatch) -> Suite:
    finite = np.isfinite(batch.mean) & np.isfinite(batch.sigma) & np.isfinite(batch.upper)
    mean, sigma, upper = (np.where(finite, values, 0.0) for values in (batch.mean, batch.sigma, batch.upper))
    frame = pd.DataFrame(
        {
            "key": list(batch.keys),
            "model": [model or None for model in batch.models],
            "hours_without_a_number": (~finite).sum(axis=1),
            "lowest_mean": _lowest(mean),
            "lowest_sigma": _lowest(sigma),
            "lowest_upper_minus_mean": _lowest(upper - mean + _ROUNDING * np.abs(mean)),
        }
    )
    return Suite(
        "keys",
        frame,
        (
            not_null("key", "{bad} of {all} forecasts have no key"),
            unique("key", "{bad} of {all} forecasts are for a key with more than one forecast ({examples})"),
            not_null("model", "{bad} of {all} forecasts do not name their model"),
            between("hours_without_a_number", 0, 0, "no NaN, no inf", "{bad} of {all} keys have NaN or inf in their forecast"),
            between("lowest_mean", 0, None, "no mean is negative", "{bad} of {all} keys have a negative mean ({examples})"),
            between(
                "lowest_sigma", 0, None, "no spread is negative", "{bad} of {all} keys have a negative spread ({examples})"
            ),
            between(
                "lowest_upper_minus_mean",
                0,
                None,
                "no upper quantile is below the mean",
                "{bad} of {all} keys have an upper quantile below their mean (by {examples})",
            ),
        ),
    )


def _against_naive(past: Sequence[tuple[float, float]]) -> tuple[_Valued, ...]:
    """Compare past forecasts with last week's load as the forecast, by the median, which one odd day does not move."""
    ratios = [error / naive for error, naive in past if naive > 0]
    if len(ratios) < FEWEST_MEASURED:
        return ()
    worse = median(ratios)
    line = (
        f"the error of the last {len(ratios)} measured forecasts is {figure(worse)} × that of last week's load as the forecast"
    )

    def at_most(name: str, limit: float) -> Expectation:
        claim = f"past forecasts err at most {limit:g} × as much as last week's load"
        return between(name, 0, limit, claim, f"{line} (limit: {limit:g})")

    if worse > MUCH_WORSE_THAN_NAIVE:
        return ((worse, at_most("far_worse_than_naive", MUCH_WORSE_THAN_NAIVE)),)
    return ((worse, warns(at_most("worse_than_naive", WORSE_THAN_NAIVE))),)


def _lowest(matrix: FloatArray) -> FloatArray:
    lowest: FloatArray = matrix.min(axis=1, initial=np.inf)
    return np.where(np.isinf(lowest), 0.0, lowest)


def _membership(batch: ForecastBatch, expected_keys: Collection[str]) -> tuple[_Valued, ...]:
    expected, got = set(expected_keys), set(batch.keys)
    missing, unexpected = sorted(expected - got), sorted(got - expected)
    return (
        (
            float(len(missing)),
            between(
                "missing_keys",
                0,
                0,
                "every key of the history is forecast",
                f"{len(missing):,} of {len(expected):,} keys of the history have no forecast ({few(missing)})",
            ),
        ),
        (
            float(len(unexpected)),
            between(
                "unexpected_keys",
                0,
                0,
                "no other key is forecast",
                f"{len(unexpected):,} forecasts are for keys that are not in the history ({few(unexpected)})",
            ),
        ),
    )


def _shape(batch: ForecastBatch, horizon: int) -> tuple[_Valued, ...]:
    hours = batch.mean.shape[1] if batch.mean.ndim == 2 else 0
    failure = f"the horizon is {hours} hours, not {horizon}"
    return ((float(hours), between("horizon_hours", horizon, horizon, f"the horizon is {horizon} hours", failure)),)


def _total(batch: ForecastBatch, history: FloatArray, minimum_history_hours: int) -> tuple[_Valued, ...]:
    hours = batch.mean.shape[1] if batch.mean.ndim == 2 else 0
    if not len(history) or not hours:
        return ()
    low, high = believable_totals(history, hours, minimum_history_hours)
    total = float(np.nansum(batch.mean))
    claim = f"the horizon's total cost is in {figure(low)} … {figure(high)} (the history's totals ÷ and × {SANE_FACTOR:g})"
    failure = (
        f"the forecast's total cost over {hours} hours is {figure(total)}, outside {figure(low)} … {figure(high)} "
        f"(the history's totals over as many hours, ÷ and × {SANE_FACTOR:g})"
    )
    return ((total, between("total_cost", low, high, claim, failure)),)


def believable_totals(history: FloatArray, hours: int, minimum_history_hours: int) -> tuple[float, float]:
    """Return the range of plausible totals over ``hours`` hours after this history of hourly totals.

    A history shorter than ``minimum_history_hours`` or twice the horizon gives no lower bound, and its busiest hour gives the
    upper bound.
    """
    if len(history) < max(minimum_history_hours, 2 * hours):
        return 0.0, SANE_FACTOR * float(history.max()) * hours
    sums = np.convolve(history, np.ones(hours), mode="valid")
    return float(sums.min()) / SANE_FACTOR, float(sums.max()) * SANE_FACTOR


def _fallbacks(batch: ForecastBatch, fallback_models: Collection[str], history_suffices: bool) -> tuple[_Valued, ...]:
    cost = np.nansum(batch.mean, axis=1) if batch.mean.size else np.zeros(len(batch.keys))
    by_fallback = np.isin(np.array(batch.models, dtype=object), list(fallback_models))
    if not history_suffices or not cost.sum() > 0:
        return ()
    share = float(cost[by_fallback].sum() / cost.sum())
    failure = (
        f"fallbacks forecast {figure(share)} > {figure(MAXIMUM_FALLBACK_SHARE)} of the cost "
        f"({int(by_fallback.sum()):,} of {len(batch.keys):,} keys), although the history is long enough"
    )
    claim = f"fallbacks forecast at most {figure(MAXIMUM_FALLBACK_SHARE)} of the cost"
    return ((share, between("fallback_share", None, MAXIMUM_FALLBACK_SHARE, claim, failure)),)
