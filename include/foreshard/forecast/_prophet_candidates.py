"""The Prophets that a blend may be made of, by name: each fitted to all keys at once, at one origin.

``prophet_linear``        as Prophet comes: linear trend, daily and weekly seasonality
``prophet_flat``          the same without a trend
``prophet_day_type``      a daily shape for weekdays and another for weekends (conditional seasonality), linear trend
``prophet_weekly``        the week as one shape of high order, no trend
``prophet_stiff``         ``prophet_linear`` with a tenth of the changepoints' prior scale
``prophet_two_weeks``     ``prophet_linear`` on the last two weeks alone
``prophet_square_root``   ``prophet_day_type`` of the square roots, which evens out the noise of counts
``prophet_multiplicative``  seasonality that grows with the trend; a hundred times slower than the others

Where a history has less than two weeks, growth is flat in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.forecast._candidates import Origin
from foreshard.forecast._configuration import Configuration, by_day_type, plain
from foreshard.forecast._map_batch import fit_batch
from foreshard.forecast.series import HOURS_PER_DAY, HOURS_PER_WEEK, IntArray
from foreshard.model import BoolArray, FloatArray

MINIMUM_FOR_PROPHET = 3 * HOURS_PER_DAY
LONG_ENOUGH_FOR_A_TREND = 2 * HOURS_PER_WEEK


@dataclass(frozen=True)
class ProphetCandidate:
    """A configuration for either growth, the hours of history that it is fitted to (None: all), and whether to their roots."""

    configuration: Callable[[str], Configuration]
    hours: int | None = None
    roots: bool = False


def _weekly(growth: str) -> Configuration:
    del growth
    return Configuration("prophet_weekly", {"growth": "flat", "daily_seasonality": 10, "weekly_seasonality": 20})


def _stiff(growth: str) -> Configuration:
    return Configuration("prophet_stiff", {"growth": growth, "changepoint_prior_scale": 0.005})


PROPHETS: Mapping[str, ProphetCandidate] = {
    "prophet_linear": ProphetCandidate(plain),
    "prophet_flat": ProphetCandidate(lambda _: plain("flat")),
    "prophet_day_type": ProphetCandidate(by_day_type),
    "prophet_weekly": ProphetCandidate(_weekly),
    "prophet_stiff": ProphetCandidate(_stiff),
    "prophet_two_weeks": ProphetCandidate(plain, LONG_ENOUGH_FOR_A_TREND),
    "prophet_square_root": ProphetCandidate(by_day_type, roots=True),
    "prophet_multiplicative": ProphetCandidate(lambda growth: plain(growth, "multiplicative")),
}
DEFAULT_PROPHETS = ("prophet_linear",)
"""More of them change the error of the blend by less than it varies from one origin to the next, and cost a fit each."""


def prophet_forecasts(
    names: Sequence[str], costs: FloatArray, observed: BoolArray, numbers: IntArray, origin: Origin, otherwise: FloatArray
) -> list[FloatArray]:
    """Each named Prophet's mean (K, H); ``otherwise`` where a key has too little history or varies too little."""
    return [_forecast(PROPHETS[name], costs, observed, numbers, origin, otherwise) for name in names]


def _forecast(
    candidate: ProphetCandidate,
    costs: FloatArray,
    observed: BoolArray,
    numbers: IntArray,
    origin: Origin,
    otherwise: FloatArray,
) -> FloatArray:
    known = slice(0 if candidate.hours is None else max(0, origin.length - candidate.hours), origin.length)
    seen, values = observed[:, known], costs[:, known]
    low = values.min(axis=1, initial=np.inf, where=seen)
    high = values.max(axis=1, initial=-np.inf, where=seen)
    rows = np.flatnonzero((np.count_nonzero(seen, axis=1) >= MINIMUM_FOR_PROPHET) & (high > low))
    result = otherwise.copy()
    if not len(rows):
        return result
    if len(rows) < len(values):
        seen, values = seen[rows], values[rows]
    growth = "linear" if values.shape[1] >= LONG_ENOUGH_FOR_A_TREND else "flat"
    fitted = np.sqrt(np.maximum(values, 0.0)) if candidate.roots else values
    batch = fit_batch(candidate.configuration(growth), fitted, seen, numbers[known], origin.ahead)
    mean, sigma = batch.forecast()
    if candidate.roots:
        mean = np.maximum(mean, 0.0) ** 2 + sigma**2
    good = ~batch.failed & np.isfinite(mean).all(axis=1)
    result[rows[good]] = np.maximum(mean[good], 0.0)
    return result
