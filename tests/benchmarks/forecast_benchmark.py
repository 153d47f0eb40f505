"""The forecast benchmark: speed, agreement with Prophet, and scale. All ratios are measured in one run.

``python tests/benchmarks/forecast_benchmark.py [--json FILE] [--keys 180000] [--series 500] [--converged 24]``. One BLAS thread
per process; figures "on one core" are those of one process.
"""
# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshard.forecast._configuration import plain
from foreshard.forecast._hourly_engine import fit_blended
from foreshard.forecast._map_batch import BatchFit, fit_batch
from foreshard.forecast._map_problem import MapFit, evaluate, objective
from foreshard.forecast.series import stamps
from foreshard.forecast.spread import normal_quantile

HOURS, AHEAD, FIRST = 672, 24, 480_000
SAMPLE = Path(__file__).parents[2] / "include/foreshard/demo/data/bikeshare-2014.parquet"
Figures = dict[str, Any]


def real_series(count: int) -> np.ndarray:
    """Windows of four weeks of real hourly counts of one station each (count, HOURS)."""
    log = pd.read_parquet(SAMPLE, columns=["timestamp", "partitionable_key"])
    table = log.groupby(["partitionable_key", log["timestamp"].dt.floor("h")]).size().unstack(fill_value=0)
    hours = pd.date_range(table.columns[0], table.columns[-1], freq="h")
    values = table.reindex(columns=hours, fill_value=0).to_numpy(dtype=np.float64)
    windows = [values[:, end - HOURS : end] for end in range(HOURS + 300, values.shape[1], 331)]
    series = np.concatenate([window[(window > 0).sum(axis=1) > 10] for window in windows])
    return series[np.random.default_rng(0).permutation(len(series))[:count]]


def numbers() -> tuple[np.ndarray, np.ndarray]:
    return FIRST + np.arange(HOURS), FIRST + HOURS + np.arange(AHEAD)


def fit(series: np.ndarray) -> BatchFit:
    return fit_batch(plain(), series, np.ones(series.shape, bool), *numbers())


def best_of(times: int, work: Callable[[], object]) -> float:
    """The least wall time of several runs, which other processes disturb least."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def prophet_seconds(series: np.ndarray) -> tuple[float, float, list[Any], np.ndarray]:
    """Seconds per key of ``Prophet.fit``, and of fit plus predict with intervals; the models, and their interval widths."""
    history, ahead = stamps(numbers()[0]), pd.DataFrame({"ds": stamps(numbers()[1])})
    fits, predictions, models, widths = 0.0, 0.0, [], []
    for values in series:
        model: Any = plain().new()
        started = time.perf_counter()
        model.fit(pd.DataFrame({"ds": history, "y": values}))
        fits += time.perf_counter() - started
        model.uncertainty_samples = 1000
        started = time.perf_counter()
        predicted = model.predict(ahead)
        predictions += time.perf_counter() - started
        models.append(model)
        widths.append(predicted["yhat_upper"] - predicted["yhat_lower"])
    return fits / len(series), (fits + predictions) / len(series), models, np.array(widths)


def speed_and_agreement(count: int) -> Figures:
    """Keys per second on one core compared with Prophet in the same run, and which objective is lower."""
    series = real_series(count)
    many = np.tile(series, (max(1, 8192 // len(series)), 1))
    alone = best_of(5, lambda: fit(many)) / len(many)
    with_intervals = best_of(5, lambda: fit(many).forecast()) / len(many)
    columns = np.random.default_rng(0).random((HOURS, 41))
    product = best_of(5, lambda: many @ columns) / len(many)
    blended = best_of(2, lambda: fit_blended(many, np.ones(many.shape, bool), *numbers(), 0.9)) / len(many)
    prophet_fit, prophet_all, models, widths = prophet_seconds(series)
    batch = fit(series)
    group, ours_to_theirs = batch.groups[0], 2 * normal_quantile(0.9) * batch.forecast()[1] / widths
    scaled = series / group.scale[:, None]
    ours = objective(group.design, group.fit, scaled)
    theirs = np.array([objective(group.design, as_fit(model), scaled[i : i + 1])[0] for i, model in enumerate(models)])
    return {
        "series": len(series),
        "fit_keys_per_second": 1 / alone,
        "fit_and_intervals_keys_per_second": 1 / with_intervals,
        "product_share_of_fit": product / alone,
        "prophet_fit_keys_per_second": 1 / prophet_fit,
        "prophet_fit_and_predict_keys_per_second": 1 / prophet_all,
        "ratio_fit": prophet_fit / alone,
        "ratio_fit_and_intervals": prophet_all / with_intervals,
        "blended_keys_per_second": 1 / blended,
        "ratio_blended": prophet_all / blended,
        "objective_not_above_prophet_share": float((ours <= theirs + 1e-3).mean()),
        "objective_difference_median": float(np.median(ours - theirs)),
        "objective_difference_worst": float((ours - theirs).max()),
        "interval_width_to_prophets_sampled_median": float(np.median(ours_to_theirs)),
        "interval_width_to_prophets_sampled_5_to_95_percent": np.quantile(ours_to_theirs, [0.05, 0.95]).round(3).tolist(),
        "largest_gap_bound": float(group.fit.gap.max()),
    }


def as_fit(model: Any) -> MapFit:
    values = model.params
    one = np.ones(1)
    variance = values["sigma_obs"].reshape(1) ** 2
    return MapFit(values["k"].reshape(1), values["m"].reshape(1), values["delta"], values["beta"], variance, 0 * one, one > 0)


def converged_difference(count: int) -> Figures:
    """The largest difference of yhat from Prophet run to convergence by Newton's method, as a share of the series' scale."""
    series = real_series(count)
    group = fit(series).groups[0]
    worst = []
    for row, values in enumerate(series):
        model: Any = plain().new()
        model.fit(pd.DataFrame({"ds": stamps(numbers()[0]), "y": values}), algorithm="Newton")
        one = group.fit.rows(slice(row, row + 1))
        both = [np.hstack([evaluate(group.design, f, future=future) for future in (False, True)]) for f in (one, as_fit(model))]
        worst.append(float(np.abs(both[0] - both[1]).max()))
    return {"series": count, "median": float(np.median(worst)), "largest": max(worst)}


def _synthetic(seed: int, count: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    at = np.arange(HOURS)
    phase = random.uniform(0, 24, (count, 1))
    rates = np.exp(random.normal(0.5, 1.5, (count, 1))) * (1.02 + np.sin((at - phase) / 24 * 2 * np.pi))
    return random.poisson(rates, (count, HOURS)).astype(np.float64)


def _chunk(work: tuple[str, int, int]) -> tuple[float, float, int]:
    """Seconds to forecast one chunk (without making it), the process's peak memory in GiB, and stragglers."""
    engine, seed, count = work
    series = _synthetic(seed, count)
    started = time.perf_counter()
    stragglers = 0
    if engine == "batched":
        batch = fit(series)
        batch.forecast()
        stragglers = batch.stragglers
    else:
        fit_blended(series, np.ones(series.shape, bool), *numbers(), 0.9)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, stragglers


def at_scale(engine: str, keys: int, processes: int = 2, chunk: int = 8192) -> Figures:
    """Forecast all keys in chunks over the processes: seconds per process, and the peak memory of all."""
    work = [(engine, start, min(chunk, keys - start)) for start in range(0, keys, chunk)]
    started = time.perf_counter()
    with ProcessPoolExecutor(processes) as pool:
        results = list(pool.map(_chunk, work))
    wall = time.perf_counter() - started
    busy = sum(seconds for seconds, _, _ in results) / processes
    memory = max(peak for _, peak, _ in results) * processes
    return {
        "keys": keys,
        "seconds": busy,
        "seconds_with_making_the_data": wall,
        "peak_memory_gib": memory,
        "stragglers": sum(count for _, _, count in results),
    }


def main() -> None:
    """Run all parts, print the figures, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("var/bench/forecast.json"))
    parser.add_argument("--keys", type=int, default=180_000)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--converged", type=int, default=24)
    options = parser.parse_args()
    parts: dict[str, Callable[[], Figures]] = {
        "one core": lambda: speed_and_agreement(options.series),
        "against Prophet run to convergence": lambda: converged_difference(options.converged),
        "at scale, Prophet's model": lambda: at_scale("batched", options.keys),
        "at scale, blended": lambda: at_scale("blended", options.keys),
    }
    machine = {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()}
    results: Figures = {"made_at": datetime.now(UTC).isoformat(), "machine": machine}
    for name, part in parts.items():
        print(f"forecast: {name} …", flush=True)
        results[name] = part()
        for figure, value in results[name].items():
            print(f"  {figure:50} {value if isinstance(value, list) else format(value, ',.6g')}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
