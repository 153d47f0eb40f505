"""The planner's benchmark: time and peak memory from a thousand to a million keys.

``python tests/benchmarks/plan_benchmark.py [--json FILE] [--keys 1000 10000 …]``. Each size is planned in a process of its own,
on one core: once with the default limits and once with limits that let every partition be relieved. The ratio beside each time
is to one recount of all partitions' loads from scratch, measured in the same process; a planner that recounted everything per
change would need as many of these as it tries changes.
"""
# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import multiprocessing
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from plan_world import draw_pairs, draw_snapshot

from foreshard.measure.demand import ServingRule
from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import partition_load
from foreshard.model import HOURS_PER_WEEK, Plan
from foreshard.plan.input.mean_week import MeanWeek
from foreshard.plan.input.snapshot import CoAccessGraph, PlanPolicy, Snapshot
from foreshard.plan.planner import make_plan
from foreshard.settings import MigrateSettings, PlanSettings

SIZES = {1_000: 4, 10_000: 20, 100_000: 100, 1_000_000: 1_000}
"""Keys → partitions."""
LARGE = 200_000
"""Up to this many keys the best of three runs counts; above, a single run."""
EDGES_PER_KEY = 13
"""Pairs drawn per key; about ten remain when repetitions are summed."""
MARKS = replace(
    PlanPolicy.of(PlanSettings(), MigrateSettings(), ServingRule(room_mark=0.8, apply_cost=1.0)),
    high_water=0.8,
)
"""The partitions are sized so that about one in ten exceeds this high-water mark."""
LIMITS = {10_000: (0.5, None), 1_000_000: (30.0, 6.0)}
"""Keys → the goals: seconds and GiB."""
Figures = dict[str, Any]


def draw_week(snapshot: Snapshot) -> MeanWeek:
    """A week of days like the coming one, as a snapshot keeps it, with random variation per key."""
    hours = np.arange(HOURS_PER_WEEK) % snapshot.demand.hours
    typical = snapshot.demand.mean.astype(np.float32)[:, hours]
    typical *= np.random.default_rng(1).random(typical.shape, np.float32) * np.float32(0.6) + np.float32(0.7)
    return MeanWeek(typical, np.full(len(typical), 1.6, np.float32), 4.0)


def measure(keys: int, partitions: int) -> Figures:
    """Plan one size. All times are wall-clock seconds; the plan also has its CPU time."""
    snapshot = draw_snapshot(keys, partitions)
    pairs = draw_pairs(keys, EDGES_PER_KEY * keys)
    started = time.perf_counter()
    snapshot = replace(snapshot, co_access=CoAccessGraph.build(*pairs, keys), access_cost=1.0, week=draw_week(snapshot))
    graph = time.perf_counter() - started
    edges = len(snapshot.co_access.neighbour) // 2
    del pairs
    unlimited = replace(
        MARKS, maximum_moves=partitions * 2, maximum_shadows=max(5, partitions // 5), maximum_bytes=partitions * 2**32
    )
    return {
        "keys": keys,
        "partitions": partitions,
        "hours": snapshot.demand.hours,
        "edges": edges,
        "graph_seconds": graph,
        "recount_seconds": _timed(lambda: _recount(snapshot))[0],
        "default_limits": _planned(snapshot, MARKS),
        "all_relieved": _planned(snapshot, unlimited),
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _planned(snapshot: Snapshot, policy: PlanPolicy) -> Figures:
    seconds, used, plan = min(
        (_once(snapshot, policy) for _ in range(1 if len(snapshot.keys) > LARGE else 3)), key=lambda t: t[0]
    )
    before, after = (np.array(list(lps.values())) for lps in (plan.lps_before, plan.lps_after))
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "overloaded_before": int((before > policy.high_water).sum()),
        "overloaded_after": int((after > policy.high_water).sum()),
        "worst_lps_before": float(before.max()),
        "worst_lps_after": float(after.max()),
        "moves": len(plan.moves),
        "shadows": len(plan.shadows),
        "removals": len(plan.removals),
        "refusals": len(plan.refusals),
    }


def _once(snapshot: Snapshot, policy: PlanPolicy) -> tuple[float, float, Plan]:
    used = time.process_time()
    seconds, plan = _timed(lambda: make_plan(snapshot, policy))
    return seconds, time.process_time() - used, plan


def _recount(snapshot: Snapshot) -> np.ndarray:
    rule = MARKS.serving
    pairs = [(shadow.key, shadow.partition) for shadow in snapshot.shadows]
    profile, _ = partition_load(snapshot.demand, snapshot.primary, pairs, snapshot.capacity, snapshot.distance_km, rule)
    return load_prediction_scores(profile.upper(rule), snapshot.capacity)


def _timed(work: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def goals(figures: Figures) -> dict[str, bool]:
    """Whether the size meets its goals, if it has any. The time is that of the slower plan plus building the graph."""
    seconds, memory = LIMITS.get(figures["keys"], (None, None))
    slowest = max(figures[name]["seconds"] for name in ("default_limits", "all_relieved"))
    found = {} if seconds is None else {f"plan in {seconds:g} s": slowest < seconds}
    return found if memory is None else {**found, f"peak of {memory:g} GiB": figures["peak_memory_gib"] <= memory}


def main() -> None:
    """Run all sizes, print the table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("var/bench/plan.json"))
    parser.add_argument("--keys", type=int, nargs="*", default=list(SIZES))
    options = parser.parse_args()
    machine = {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()}
    sizes = []
    heading = (
        "keys",
        "partitions",
        "edges",
        "graph s",
        "recount s",
        "limited s",
        "relieved s",
        "÷ recount",
        "over",
        "moves",
        "GiB",
    )
    print("  ".join(f"{name:>10}" for name in heading), flush=True)
    for keys in options.keys:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            figures = pool.submit(measure, keys, SIZES.get(keys, max(2, keys // 1000))).result()
        figures["goals"] = goals(figures)
        sizes.append(figures)
        every = figures["all_relieved"]
        cells = (
            f"{keys:,}", f"{figures['partitions']:,}", f"{figures['edges']:,}", f"{figures['graph_seconds']:.3f}",
            f"{figures['recount_seconds']:.4f}", f"{figures['default_limits']['seconds']:.3f}", f"{every['seconds']:.3f}",
            f"{every['seconds'] / figures['recount_seconds']:.0f}", f"{every['overloaded_before']}→{every['overloaded_after']}",
            f"{every['moves']}+{every['shadows']}", f"{figures['peak_memory_gib']:.2f}",
        )  # fmt: skip
        met = "".join(f"  {goal}: {'met' if reached else 'MISSED'}" for goal, reached in figures["goals"].items())
        print("  ".join(f"{cell:>10}" for cell in cells) + met, flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    document = {"made_at": datetime.now(UTC).isoformat(), "machine": machine, "sizes": sizes}
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
