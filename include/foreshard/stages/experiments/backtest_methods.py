"""The methods that a backtest compares, each at one origin."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from foreshard.forecast.baselines import BASELINES, with_spread
from foreshard.forecast.engine import forecast_keys
from foreshard.forecast.peers import installed_peers, peer_forecast
from foreshard.forecast.series import history_numbers, horizon_numbers
from foreshard.model import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from foreshard.settings import ForecastSettings

FORESHARD, PROPHET, BATCHED = "foreshard", "prophet", "prophet_batched"
PROPHETS, PEERS = "prophets", "statsforecasts"
"""Kinds of slow methods. They forecast a sample of the keys at some of the origins. For comparison,
``foreshard_on_<kind>_sample`` is the configured engine on the same keys, and ``foreshard_at_<kind>_origins`` on all keys at the
same origins."""


@dataclass(frozen=True)
class BacktestWindow:
    """One origin: the history (K, T) and the ``actual`` load (K, H) of every key in either. ``known`` keys have a history."""

    hour: datetime
    keys: tuple[str, ...]
    costs: FloatArray
    observed: BoolArray
    actual: FloatArray
    partition: IntArray
    known: BoolArray


@dataclass(frozen=True)
class Forecast:
    """One method's forecast of the window's ``rows``.

    ``sigma`` is None if the method has none, and ``correlation`` if it does not measure that of its errors; ``seconds`` is
    the time it took.
    """

    method: str
    mean: FloatArray
    sigma: FloatArray | None
    upper: FloatArray
    seconds: float
    rows: IntArray
    correlation: float | None = None


def forecasts(window: BacktestWindow, settings: ForecastSettings, samples: Mapping[str, int]) -> Iterator[Forecast]:
    """Yield every method's forecast. ``samples`` is the number of keys for each kind of slow method."""
    rows = np.flatnonzero(window.known)
    ours = _by_engine(FORESHARD, settings.engine, window, settings, rows)
    yield ours
    yield _by_engine(BATCHED, "batched", window, settings, rows)
    for kind, fits in samples.items():
        sample = np.sort(np.random.default_rng(0).permutation(rows)[:fits])
        slow = list(_slow(kind, window, settings, sample))
        yield from slow
        if slow:
            yield _on_sample(f"{FORESHARD}_on_{kind}_sample", ours, np.searchsorted(rows, sample), sample)
            yield replace(ours, method=f"{FORESHARD}_at_{kind}_origins", seconds=0.0)
    numbers = history_numbers(window.hour, window.costs.shape[1])
    ahead = horizon_numbers(window.hour, settings.horizon_hours)
    for name, baseline in BASELINES.items():
        started = time.perf_counter()
        mean, upper = with_spread(baseline, window.costs[rows], window.observed[rows], numbers, ahead, settings.quantile)
        yield Forecast(name, mean, None, upper, time.perf_counter() - started, rows)


def _slow(kind: str, window: BacktestWindow, settings: ForecastSettings, sample: IntArray) -> Iterator[Forecast]:
    if kind == PROPHETS:
        yield _by_engine(PROPHET, "prophet", window, settings, sample)
        return
    for name in installed_peers():
        started = time.perf_counter()
        costs, observed = window.costs[sample], window.observed[sample]
        mean, upper = peer_forecast(name, costs, observed, settings.horizon_hours, settings.quantile)
        yield Forecast(name, mean, None, upper, time.perf_counter() - started, sample)


def _on_sample(method: str, ours: Forecast, place: IntArray, sample: IntArray) -> Forecast:
    sigma = None if ours.sigma is None else ours.sigma[place]
    return Forecast(method, ours.mean[place], sigma, ours.upper[place], 0.0, sample, ours.correlation)


def of_series(
    name: str, costs: FloatArray, observed: BoolArray, numbers: IntArray, ahead: IntArray, quantile: float
) -> tuple[FloatArray, FloatArray]:
    """Return mean and upper quantile of a baseline or peer for the given series, which are partitions' totals."""
    if name in BASELINES:
        return with_spread(BASELINES[name], costs, observed, numbers, ahead, quantile)
    return peer_forecast(name, costs, observed, len(ahead), quantile)


def _by_engine(name: str, engine: str, window: BacktestWindow, settings: ForecastSettings, rows: IntArray) -> Forecast:
    started = time.perf_counter()
    keys = [window.keys[row] for row in rows]
    chosen = settings.model_copy(update={"engine": engine})
    batch = forecast_keys(keys, window.costs[rows], ~window.observed[rows], window.hour, chosen)
    return Forecast(name, batch.mean, batch.sigma, batch.upper, time.perf_counter() - started, rows, batch.correlation)
