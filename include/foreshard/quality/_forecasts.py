"""The expectations of the gate ``forecasts``: an hour's forecasts, before partitions are scored."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from foreshard.model import FloatArray, ForecastBatch
from foreshard.quality._suite import Expectation, Suite, between, few, figure, not_null, unique

SANE_FACTOR = 3.0
"""The factor by which the forecast's total may exceed the range of the history's totals over as many hours."""

MAXIMUM_FALLBACK_SHARE = 0.5
"""The largest share of the forecast cost from fallbacks, if the history is long enough to fit models."""

_ROUNDING = 1e-9


def suites(
    batch: ForecastBatch,
    expected_keys: Collection[str],
    horizon: int,
    history_totals: FloatArray,
    fallback_models: Collection[str],
    minimum_history_hours: int,
) -> tuple[Suite, ...]:
    """Return the suites ``keys`` (each key's forecast) and ``batch`` (totals)."""
    expectations = (
        *_membership(batch, expected_keys),
        *_shape(batch, horizon),
        *_total(batch, history_totals, minimum_history_hours),
        *_fallbacks(batch, fallback_models, len(history_totals) >= minimum_history_hours),
    )
    frame = pd.DataFrame({expectation.arguments["column"]: [value] for value, expectation in expectations})
    return _keys(batch), Suite("batch", frame, tuple(expectation for _, expectation in expectations))


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


def _lowest(matrix: FloatArray) -> FloatArray:
    lowest: FloatArray = matrix.min(axis=1, initial=np.inf)
    return np.where(np.isinf(lowest), 0.0, lowest)


_Valued = tuple[float, Expectation]


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
