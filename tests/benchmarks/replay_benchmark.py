"""The lab's benchmark: policies on the sample log and four synthetic logs, the planner's goals, and the lab's speed.

``python tests/benchmarks/replay_benchmark.py [--json FILE] [--full] [--keys N] [--days D] [--sample-days D] [--seed N]
[--no-capacity] [--year KEYS [--only-year]]``. By default a reduced form runs (600 keys, 14 replayed days, the sample's last 60
days); ``--full`` takes 2,000 keys, 42 days and the sample's whole year. Every log is replayed on 4 and 8 partitions at
utilisations of 0.6, 0.7 and 0.8; the medians are compared with the goals. The oracle knows the rates of the synthetic logs and
the counts of the sample; ``floor`` is the overload that chance alone causes. The default seeds were never used for tuning. The
least capacities take most of the time; ``--no-capacity`` leaves them out. ``--year KEYS`` times a year of hours with that many
keys under all policies, without least capacities.
"""
# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import foreshard.demo
from foreshard.demo.stages import REQUEST_TYPES
from foreshard.settings import Settings
from foreshard.stages.experiments.replay import replay_log
from foreshard.stages.experiments.replay_input import POLICIES, ReplayRequest
from foreshard.stages.experiments.replay_synthetic import write_synthetic_log
from foreshard.wiring import Wiring

PARTITIONS, UTILISATIONS = (4, 8), (0.6, 0.7, 0.8)
COMPARED = ("static_hash", "reactive", "predictive", "oracle")
TRAINING_DAYS = 28
DAYS_PER_MONTH = 30
SEED = 100
SYNTHETIC = ("diurnal", "groups", "launches", "jobs")
BY_THE_CLOCK = ("jobs",)
"""Logs whose load is driven by the clock."""
SAMPLE = "sample"
SAMPLE_LOG = Path(foreshard.demo.__file__).parent / "data" / "bikeshare-2014.parquet"
Figures = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One log under one layout."""

    log: str
    path: Path
    rates: Path | None
    days: int | None
    partitions: int
    utilisation: float
    capacity: bool = True


@dataclass(frozen=True)
class Goal:
    """A figure's median must be at most, or at least, ``limit``."""

    name: str
    figure: str
    limit: float
    at_least: bool = False
    logs: str = "all"

    def covers(self, log: str) -> bool:
        """Whether the goal is for ``log``."""
        return {"all": True, "clock": log in BY_THE_CLOCK, "other": log not in BY_THE_CLOCK}[self.logs]

    def reached(self, value: float) -> bool:
        """Whether ``value`` meets the goal."""
        return value >= self.limit if self.at_least else value <= self.limit


GOALS = (
    Goal("capacity saved against hashing", "saved_hashing", 0.2, at_least=True),
    Goal("capacity saved against reacting", "saved_reacting", 0.03, at_least=True),
    Goal("overload hours, ours ÷ reacting, by the clock", "overload", 0.3, logs="clock"),
    Goal("overload hours, ours ÷ reacting, other logs", "overload", 1.0, logs="other"),
    Goal("moves, ours ÷ reacting (for relief and nearness)", "moves", 0.3),
    Goal("moves per key and month", "moved", 0.5),
    Goal("keys moved twice in a day", "twice", 0.01),
    Goal("co-access apart, ours ÷ hashing, overload ≤ reacting", "crossing", 0.5),
    Goal("distance served, ours ÷ hashing, overload ≤ reacting", "distance", 0.5),
)

SHOWN = ("crossing", "distance", "saved_hashing", "saved_reacting")
"""The ratios that are shown for each layout."""


def run(job: Job) -> tuple[Job, dict[str, Figures]]:
    """Replay one log under one layout."""
    request = ReplayRequest(
        partitions=job.partitions,
        utilisation=job.utilisation,
        policies=COMPARED,
        days=job.days,
        rates=job.rates,
        processes=1,
        capacity=job.capacity,
    )
    with Wiring(Settings.load(observe={"request_types": REQUEST_TYPES})) as wiring:
        document = replay_log(wiring, job.path, request).document
    more = {
        "floor": {"overload_hours": document["layout"]["noise_floor_overload_hours"]},
        "log": {"key_months": document["log"]["keys"] * document["log"]["days"] / DAYS_PER_MONTH},
    }
    return job, {name: dict(found) for name, found in document["policies"].items()} | more


def ratios(policies: dict[str, Figures]) -> Figures:
    """The figures of the goals, without those whose denominator is 0.

    Nearness counts where the overload is no worse than reacting's.
    """
    ours, reactive, oracle, hashed = (policies[name] for name in ("predictive", "reactive", "oracle", "static_hash"))
    pairs = {
        "overload": (ours["overload_hours"], reactive["overload_hours"]),
        "gain": (reactive["overload_hours"] - ours["overload_hours"], reactive["overload_hours"] - oracle["overload_hours"]),
        "moves": (ours["moves"], reactive["moves"]),
        "moved": (ours["moves"], policies["log"]["key_months"]),
        "saved_hashing": (_saved(ours, hashed), 1.0),
        "saved_reacting": (_saved(ours, reactive), 1.0),
    }
    if ours["overload_hours"] <= reactive["overload_hours"]:
        pairs["crossing"] = (ours["cross_partition_share"], hashed["cross_partition_share"])
        pairs["distance"] = (ours["mean_distance_km"], hashed["mean_distance_km"])
    return {name: part / whole for name, (part, whole) in pairs.items() if part is not None and whole > 0} | {
        "twice": ours["keys_moved_twice_a_day"]
    }


def _saved(ours: Figures, theirs: Figures) -> float | None:
    """The share of their least capacity that we do not need."""
    if ours["least_capacity"] is None or theirs["least_capacity"] is None:
        return None
    return 1.0 - ours["least_capacity"] / theirs["least_capacity"]


def judge(results: list[tuple[Job, dict[str, Figures]]]) -> list[Figures]:
    """The medians compared with the goals."""
    rows = []
    for goal in GOALS:
        chosen = [ratios(found) for job, found in results if goal.covers(job.log)]
        values = [figures[goal.figure] for figures in chosen if goal.figure in figures]
        middle = median(values) if values else float("nan")
        rows.append(
            {
                "goal": goal.name,
                "limit": goal.limit,
                "at_least": goal.at_least,
                "median": middle,
                "of": len(values),
                "reached": goal.reached(middle),
            }
        )
    return rows


def jobs(folder: Path, keys: int, days: int, sample_days: int | None, seed: int, capacity: bool = True) -> list[Job]:
    """Write the synthetic logs and list what to run."""
    logs: list[tuple[str, Path, Path | None, int | None]] = []
    for number, kind in enumerate(SYNTHETIC):
        path, rates, _ = write_synthetic_log(kind, folder / f"{kind}.parquet", keys, days + TRAINING_DAYS, seed + number)
        logs.append((kind, path, rates, days))
    logs.append((SAMPLE, SAMPLE_LOG, None, sample_days))
    return [Job(*log, partitions, share, capacity) for log, partitions, share in product(logs, PARTITIONS, UTILISATIONS)]


def time_a_year(folder: Path, keys: int) -> Figures:
    """Wall-clock seconds for a year of hours under all policies, including reading the log."""
    path, _, _ = write_synthetic_log("groups", folder / "year.parquet", keys, 365, 0)
    started = time.perf_counter()
    with Wiring() as wiring:
        replayed = replay_log(wiring, path, ReplayRequest(partitions=8, policies=POLICIES, capacity=False))
    return {"keys": keys, "hours": replayed.document["log"]["hours"], "seconds": time.perf_counter() - started}


def show(results: list[tuple[Job, dict[str, Figures]]], goals: list[Figures]) -> None:
    """Print both tables."""
    print(
        f"{'log':10} parts util   hash  react   ours oracle  floor  moves react | crossing distance shadows saved: hash react"
    )
    for job, found in results:
        hashed, reactive, ours, oracle, floor = (found[name]["overload_hours"] for name in (*COMPARED, "floor"))
        moves, part = (found["predictive"]["moves"], found["reactive"]["moves"]), ratios(found)
        hours = " ".join(f"{value:6.1f}" for value in (hashed, reactive, ours, oracle, floor))
        crossing, distance, *saved = (part.get(name, float("nan")) for name in SHOWN)
        print(
            f"{job.log:10} {job.partitions:5} {job.utilisation:4} {hours} {moves[0]:6} {moves[1]:5} |"
            f" {crossing:8.2f} {distance:8.2f} {found['predictive']['shadows']:7.1f} {saved[0]:11.1%} {saved[1]:5.1%}"
        )
    print(f"\n{'goal':53} {'goal':>7} {'median':>7}  of")
    for row in goals:
        sign, mark = ("≥" if row["at_least"] else "≤"), ("" if row["reached"] else "  missed")
        print(f"{row['goal']:53} {sign} {row['limit']:5} {row['median']:7.3f} {row['of']:3}{mark}")


def arguments() -> argparse.Namespace:
    """The command-line options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--keys", type=int)
    parser.add_argument("--days", type=int)
    parser.add_argument("--sample-days", type=int)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--no-capacity", dest="capacity", action="store_false")
    parser.add_argument("--year", type=int, metavar="KEYS")
    parser.add_argument("--only-year", action="store_true")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    keys, days, sample_days = (2000, 42, None) if chosen.full else (600, 14, 60)
    chosen.keys, chosen.days, chosen.sample_days = chosen.keys or keys, chosen.days or days, chosen.sample_days or sample_days
    return chosen


def measure(chosen: argparse.Namespace, folder: Path) -> list[tuple[Job, dict[str, Figures]]]:
    """Replay every log under every layout, and report progress."""
    todo, results = jobs(folder, chosen.keys, chosen.days, chosen.sample_days, chosen.seed, chosen.capacity), []
    with ProcessPoolExecutor(chosen.processes) as pool:
        for job, found in pool.map(run, todo):
            results.append((job, found))
            print(f"{len(results)}/{len(todo)} {job.log} {job.partitions} {job.utilisation}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    """Run and print. With ``--json``, also write the figures."""
    chosen = arguments()
    results: list[tuple[Job, dict[str, Figures]]] = []
    with tempfile.TemporaryDirectory() as name:
        if not chosen.only_year:
            results = measure(chosen, Path(name))
        speed = time_a_year(Path(name), chosen.year) if chosen.year else None
    goals = judge(results) if results else []
    if results:
        show(results, goals)
    if speed:
        print(
            f"\na year: {speed['hours']:,} hours × {speed['keys']:,} keys × {len(POLICIES)} policies: {speed['seconds']:.0f} s"
        )
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"log": j.log, "partitions": j.partitions, "utilisation": j.utilisation, "policies": f} for j, f in results]
        figures = {"keys": chosen.keys, "days": chosen.days, "seed": chosen.seed, "runs": rows, "goals": goals, "year": speed}
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
