"""One hour of the loop at many keys: extract → gate → tally → series → fit → gate → score → accuracy → plan, stage by stage.

``python tests/benchmarks/scale_benchmark.py [--json FILE] [--keys 20000] [--days 28] [--per-key 20] [--partitions 64]``.

The history is written as stored tallies first. Then each stage runs in a process of its own, so its peak memory is its own.
The sum of all tallies, which only a first run needs, is measured apart. The full run takes ``--keys 1000000``.
"""
# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from scale_world import HOUR, World

from foreshard.model import Location, Partition
from foreshard.settings import ForecastSettings, ObserveSettings, Settings
from foreshard.stack.mongod import Mongod
from foreshard.stack.ports import free_ports
from foreshard.wiring import Wiring

GOAL_SECONDS, GOAL_GIB = 600, 8
WRITERS = 2


@dataclass(frozen=True)
class Setup:
    """What every process needs to know."""

    world: World
    uri: str
    folder: Path

    def wiring(self) -> Wiring:
        """The installation's stores."""
        return Wiring(
            Settings.load(
                control_uri=self.uri,
                control_database="scale",
                data_dir=self.folder / "data",
                user_key="benchmark " * 4,
                observe=ObserveSettings(access_log_paths=(self.folder / "log.parquet",)),
                forecast=ForecastSettings(history_days=self.world.days),
            )
        )


def register(setup: Setup) -> None:
    """Register the partitions and publish the first table."""
    from foreshard.stages.first_table import publish_first_table

    world = setup.world
    cities = [f"city {number}" for number in range(16)]
    locations = [Location(city, 40 + number, -100 + 5 * number) for number, city in enumerate(cities)]
    partitions = [
        Partition(f"p{number}", cities[number % 16], world.capacity, uri=setup.uri) for number in range(world.partitions)
    ]
    with setup.wiring() as wiring:
        wiring.registry.register(partitions, locations)
        publish_first_table(wiring, {})


def write_history(setup: Setup, part: int) -> None:
    """Write every n-th hour of the history."""
    with setup.wiring() as wiring:
        hours = setup.world.history()[part::WRITERS]
        setup.world.write_hours(hours, setup.folder / "data", wiring.mongo.control_database["tallied_hours"])


def fit_all(wiring: Wiring, hour: datetime) -> Any:
    """Fit every chunk of the hour, one after another."""
    from foreshard.stages.forecast import fit_chunk

    chunks = sum(1 for _ in wiring.series.load(hour))
    units = sum(fit_chunk(wiring, hour, chunk).keys for chunk in range(chunks))
    return f"{units} units in {chunks} chunks"


def stages() -> dict[str, tuple[Callable[[Wiring, datetime], Any], datetime]]:
    """The stages in order: name → function and hour."""
    from foreshard.stages import accuracy, forecast, observe, plan, score
    from foreshard.stages.observing.gate import gate_access_log

    before = HOUR - timedelta(hours=1)
    return {
        "first series (once)": (forecast.prepare_chunks, before),
        "extract": (observe.extract_hour, HOUR),
        "gate log": (gate_access_log, HOUR),
        "tally": (observe.tally_hour, HOUR),
        "series": (forecast.prepare_chunks, HOUR),
        "fit": (fit_all, HOUR),
        "gate forecasts": (forecast.gate_forecasts, HOUR),
        "score": (score.score_partitions, HOUR),
        "accuracy": (accuracy.measure_accuracy, HOUR),
        "plan": (plan.plan_hour, HOUR),
    }


def run_stage(setup: Setup, name: str) -> dict[str, Any]:
    """Run one stage; its seconds, peak memory and result."""
    stage, hour = stages()[name]
    with setup.wiring() as wiring:
        started = time.perf_counter()
        result = stage(wiring, hour)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"stage": name, "seconds": round(seconds, 1), "peak_gib": round(peak, 2), "result": str(result)[:150]}


def measure(world: World, folder: Path) -> dict[str, Any]:
    """Write the world, run every stage, and print a row for each."""
    mongod = Mongod("scale", free_ports(1).mongods[0], folder / "mongod", 1.0)
    mongod.start()
    try:
        setup = Setup(world, mongod.uri, folder)
        started = time.perf_counter()
        register(setup)
        with ProcessPoolExecutor(WRITERS, get_context("spawn")) as pool:
            list(pool.map(write_history, [setup] * WRITERS, range(WRITERS)))
        records = world.write_log(folder / "log.parquet")
        print(f"{world.keys:,} keys, {world.days} days, {records:,} accesses; set up in {time.perf_counter() - started:.0f} s")
        rows = []
        for name in stages():
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                rows.append(pool.submit(run_stage, setup, name).result())
            row = rows[-1]
            print(f"  {name:20} {row['seconds']:8.1f} s {row['peak_gib']:6.2f} GiB  {row['result']}", flush=True)
    finally:
        mongod.stop()
    hourly = [row for row in rows if "once" not in row["stage"]]
    total, peak = sum(row["seconds"] for row in hourly), max(row["peak_gib"] for row in hourly)
    print(f"  one hour             {total:8.1f} s {peak:6.2f} GiB  (goal at 1,000,000 keys: {GOAL_SECONDS} s, {GOAL_GIB} GiB)")
    return {
        "keys": world.keys,
        "days": world.days,
        "records": records,
        "seconds": round(total, 1),
        "peak_gib": peak,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keys", type=int, nargs="+", default=[20_000])
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--per-key", type=float, default=20.0)
    parser.add_argument("--partitions", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where the data is written; default: a temporary folder")
    given = parser.parse_args()
    results = []
    for keys in given.keys:
        with tempfile.TemporaryDirectory(prefix="scale-", dir=given.folder) as folder:
            results.append(measure(World(keys, given.per_key, given.partitions, given.days), Path(folder)))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"machine": platform.platform(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
