"""Forecasts of all synthetic logs and the sample, by key and by partition, against peers.

``python tests/benchmarks/forecast_comparison.py [LOG …] [--keys 200] [--origins 6] [--fast]``. A row per log, level and method:
WAPE and pinball loss at the 90% quantile, with those of the engine ``blended`` on the same keys and origins. MSTL, AutoETS and
``Prophet.fit`` forecast ``SAMPLED`` keys, or the totals of all partitions; the last two at every third origin. ``--fast`` omits
these two; ``batched`` is Prophet's model too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from forecast_benchmark import SAMPLE
from forecast_logs import counts
from forecast_shapes import SHAPES

from foreshard.forecast.accuracy import Accuracy
from foreshard.forecast.baselines import BASELINES, with_spread
from foreshard.forecast.engine import ENGINES
from foreshard.forecast.peers import AUTO_ETS, MSTL, peer_forecast
from foreshard.forecast.spread import normal_quantile, normal_upper
from foreshard.measure.demand import LoadProfile

HISTORY, AHEAD, PARTITIONS, QUANTILE, DAYS, SAMPLED = 28 * 24, 24, 4, 0.9, 63, 8
FIRST = 480_000 // 168 * 168 + 4 * 24
"""A Monday's first hour. Day 0 of 1970 was a Thursday."""
ENGINE_NAMES = ("blended", "seasonal", "batched")
LOGS = (*SHAPES, "web", "jobs", "sample")
Window = tuple[np.ndarray, np.ndarray, np.ndarray]


def costs_of(name: str, keys: int) -> np.ndarray:
    if name in SHAPES:
        return SHAPES[name](np.random.default_rng(5), keys, DAYS * 24)
    if name != "sample":
        return counts(name, keys, 70 * 24)[0]
    import pandas as pd

    log = pd.read_parquet(SAMPLE, columns=["timestamp", "partitionable_key"])
    table = log.groupby(["partitionable_key", log["timestamp"].dt.floor("h")]).size().unstack(fill_value=0)
    hours = pd.date_range(table.columns[0].floor("D"), table.columns[-1], freq="h")
    return table.reindex(columns=hours, fill_value=0).to_numpy(np.float64)


class Table:
    """Sums of errors: (level, method) → the method's own, and the blend's on the same rows."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[Accuracy, Accuracy]] = {}

    def add(self, level: str, method: str, made: Window, ours: Window) -> None:
        pair = self.rows.setdefault((level, method), (Accuracy(QUANTILE), Accuracy(QUANTILE)))
        for accuracy, (mean, upper, actual) in zip(pair, (made, ours), strict=True):
            accuracy.add(mean, upper, actual, np.zeros(len(actual)))


def compare(name: str, keys: int, origins: int, fast: bool) -> Table:
    table, costs = Table(), costs_of(name, keys)
    places = np.linspace(HISTORY + 10 * 24, costs.shape[1] - AHEAD - 1, origins).round().astype(int)
    for number, end in enumerate(places):
        history, actual = costs[:, end - HISTORY : end], costs[:, end : end + AHEAD]
        seen = history.any(axis=1)
        one_origin(table, history[seen], actual[seen], int(end), number % 3 == 0 and not fast)
    return table


def one_origin(table: Table, history: np.ndarray, actual: np.ndarray, end: int, slow: bool) -> None:
    numbers, ahead = FIRST + end - HISTORY + np.arange(HISTORY), FIRST + end + np.arange(AHEAD)
    member = (np.random.default_rng(1).permutation(len(history)) % PARTITIONS == np.arange(PARTITIONS)[:, None]).astype(float)
    made: dict[tuple[str, str], Window] = {}
    for engine in ENGINE_NAMES:
        found = ENGINES[engine](history, np.ones(history.shape, bool), numbers, ahead, QUANTILE)
        profile = LoadProfile(member @ found.mean, member @ found.sigma**2, member @ found.sigma)
        upper = profile.mean + normal_quantile(QUANTILE) * profile.deviation(found.correlation or 0.0)
        above = normal_upper(found.mean, found.sigma, QUANTILE) if found.upper is None else found.upper
        made["key", engine] = found.mean, above, actual
        made["partition", engine] = profile.mean, upper, member @ actual
    sample = np.sort(np.random.default_rng(0).permutation(len(history))[:SAMPLED])
    for level, costs, came in (("key", history, actual), ("partition", member @ history, member @ actual)):
        ours, known = made[level, "blended"], np.ones(costs.shape, bool)
        for engine in ENGINE_NAMES:
            table.add(level, engine, made[level, engine], ours)
        for baseline in ("seasonal_naive", "four_week_mean"):
            table.add(level, baseline, (*with_spread(BASELINES[baseline], costs, known, numbers, ahead, QUANTILE), came), ours)
        rows = sample if level == "key" else np.arange(PARTITIONS)
        some = (ours[0][rows], ours[1][rows], came[rows])
        for peer in (MSTL, *((AUTO_ETS, "prophet") if slow else ())):
            forecast = peer_of(peer, costs[rows], numbers, ahead)
            table.add(level, peer.removeprefix("statsforecast_"), (*forecast, came[rows]), some)


def peer_of(peer: str, costs: np.ndarray, numbers: np.ndarray, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if peer != "prophet":
        return peer_forecast(peer, costs, np.ones(costs.shape, bool), AHEAD, QUANTILE)
    found = ENGINES["prophet"](costs, np.ones(costs.shape, bool), numbers, ahead, QUANTILE)
    return found.mean, normal_upper(found.mean, found.sigma, QUANTILE)


def main() -> None:
    """Compare, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", nargs="*", default=LOGS)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--origins", type=int, default=6)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--json", type=Path, default=Path("var/bench/forecast_comparison.json"))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.logs:
        for (level, method), pair in sorted(compare(name, options.keys, options.origins, options.fast).rows.items()):
            theirs, ours = (accuracy.figures() for accuracy in pair)
            row = {figure: theirs[figure] for figure in ("wape", "pinball", "coverage", "bias")}
            row |= {f"blended_{figure}": ours[figure] for figure in ("wape", "pinball")}
            results[f"{name} {level} {method}"] = row
            shown = "  ".join(f"{figure} {value:.4f}" for figure, value in row.items() if value is not None)
            print(f"{name:10} {level:10} {method:15} {shown}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
