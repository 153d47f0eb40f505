"""The speed of moves, and what apps notice of them. Ratios are of one run, on partitions of one machine.

``copy``: a move's copy and its comparison of both sides, as ratios to a loop of ``find`` and ``insert_many`` over the same
documents. ``keys``: 1,000 keys in one move against one key of the same bytes. Both run without the throttle. ``pause``: the
longest delay of a write at each cutover, at 500 writes/s by a process of apps. ``neighbours``: the delay of writes on other
keys while a key is copied, with the default throttle and without. ``killed``: how long after its lease a killed mover's key
takes writes again, if a watchdog runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from migrate_world import Apps, MoveWorld, seconds_in

from foreshard.model.move_state import MoveState
from foreshard.stages.moving.watchdog import MoveWatchdog

DOCUMENTS, ROUNDS = 60_000, 3
KEYS = 1_000
WRITES, CUTOVERS, DOCUMENTS_AT_CUTOVER = 500.0, 20, 2_000
NEIGHBOURS, NEIGHBOUR_WRITES, COPIED_BESIDE = 50, 200.0, 60_000
GOALS = {
    "copy ÷ loop": ">= 0.8", "copied documents/s": ">= 25,000",
    "comparison ÷ loop": ">= 1.5", "compared documents/s": ">= 50,000",
    "1,000 keys ÷ one key": "<= 1.2",
    "pause, 1 key, p50 ms": "<= 15", "pause, 1 key, p99 ms": "<= 50", "pause, 1 key, errors": "0",
    "pause, 100 keys, p50 ms": "<= 25", "pause, 100 keys, p99 ms": "<= 50", "pause, 100 keys, errors": "0",
    "other keys' write p50, default throttle ÷ before": "<= 1.10",
    "mover killed: s after the lease, longest": "<= 2",
}  # fmt: skip

Figures = dict[str, float]


def measure_copy(world: MoveWorld) -> Figures:
    """Copy and compare against the plain loop, in rounds that alternate."""
    loop, copied, compared = [], [], []
    for _ in range(ROUNDS):
        keys = world.new_keys(1, DOCUMENTS)
        loop.append(world.copy_plainly(keys[0]))
        with world.unpaced():
            copied.append(seconds_in(world.move(keys), MoveState.COPYING))
        compared.append(world.compare(keys))
    return {
        "copy ÷ loop": median(a / b for a, b in zip(loop, copied, strict=True)),
        "copied documents/s": DOCUMENTS / median(copied),
        "comparison ÷ loop": median(a / b for a, b in zip(loop, compared, strict=True)),
        "compared documents/s": DOCUMENTS / median(compared),
        "loop documents/s": DOCUMENTS / median(loop),
    }


def measure_keys(world: MoveWorld) -> Figures:
    """Move many keys in one move, and one key of the same bytes."""
    one, many = [], []
    for _ in range(ROUNDS):
        for taken, number in ((one, 1), (many, KEYS)):
            keys = world.new_keys(number, DOCUMENTS // number)
            begun = time.perf_counter()
            with world.unpaced():
                world.move(keys)
            taken.append(time.perf_counter() - begun)
    ratio = median(a / b for a, b in zip(many, one, strict=True))
    return {"1,000 keys ÷ one key": ratio, "one key, s": median(one), "1,000 keys, s": median(many)}


def measure_pause(world: MoveWorld) -> Figures:
    """Cut keys over while apps write on them."""
    figures: Figures = {}
    apps = Apps(world)
    try:
        for name, number in (("1 key", 1), ("100 keys", 100)):
            pauses, journalled, calm, errors, documents = [], [], [], 0, DOCUMENTS_AT_CUTOVER // number
            for _ in range(CUTOVERS):
                keys = world.new_keys(number, documents)
                with apps.writing(keys, documents, WRITES) as seen:
                    time.sleep(1)
                calm.append(max(seen.delays) * 1000)
                with apps.writing(keys, documents, WRITES) as seen:
                    time.sleep(0.5)
                    journalled.append(world.move(keys).counters.get("pause_ms", 0.0))
                    time.sleep(0.5)
                pauses.append(max(seen.delays) * 1000)
                errors += len(seen.errors)
            figures |= {
                f"pause, {name}, p50 ms": median(pauses),
                f"pause, {name}, p99 ms": percentile(pauses, 0.99),
                f"pause, {name}, errors": errors,
                f"pause by the journal, {name}, p50 ms": median(journalled),
                f"longest delay in a second without a move, {name}, p50 ms": median(calm),
            }
    finally:
        apps.close()
    return figures


def measure_neighbours(world: MoveWorld) -> Figures:
    """Write on other keys of the source, before a key is copied and meanwhile."""
    apps, figures = Apps(world), {}
    try:
        neighbours = world.new_keys(NEIGHBOURS, 20)
        for name, limits in (("default throttle", nullcontext), ("no throttle", world.unpaced)):
            before, meanwhile = [], []
            for _ in range(ROUNDS):
                keys = world.new_keys(1, COPIED_BESIDE)
                with apps.writing(neighbours, 20, NEIGHBOUR_WRITES) as seen:
                    time.sleep(3)
                before.append(median(seen.delays) * 1000)
                with limits(), apps.writing(neighbours, 20, NEIGHBOUR_WRITES) as seen:
                    world.move(keys)
                meanwhile.append(median(seen.delays) * 1000)
                world.things("alpha").delete_many({"key": keys[0]})
            figures[f"other keys' write p50, {name} ÷ before"] = median(a / b for a, b in zip(meanwhile, before, strict=True))
            figures[f"other keys' write p50, {name}, ms"] = median(meanwhile)
    finally:
        apps.close()
    return figures


def measure_killed(world: MoveWorld) -> Figures:
    """Kill a mover behind the fence, and wait until the key takes writes again."""
    waited = []
    with MoveWatchdog(world.wiring, care=False):
        for _ in range(ROUNDS):
            [key] = world.new_keys(1, DOCUMENTS_AT_CUTOVER)
            record = world.kill_a_mover(key)
            while not world.takes_writes("alpha", key):
                time.sleep(0.01)
            assert record.lease_until is not None
            waited.append((datetime.now(UTC) - record.lease_until).total_seconds())
    return {"mover killed: s after the lease, longest": max(waited), "mover killed: s after the lease, median": median(waited)}


PARTS: dict[str, Callable[[MoveWorld], Figures]] = {
    "copy": measure_copy, "keys": measure_keys, "pause": measure_pause, "neighbours": measure_neighbours,
    "killed": measure_killed,
}  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(parts: list[str]) -> tuple[Figures, dict[str, Any]]:
    """Return figure → value, each part on fresh partitions, and the load of the machine before each part."""
    figures: Figures = {}
    loads: dict[str, Any] = {}
    for part in parts:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            loads[part] = os.getloadavg()[0]
            figures |= PARTS[part](MoveWorld(Path(folder), stack))
    return figures, loads


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=sorted(PARTS))
    parser.add_argument("--json", type=Path, default=Path("var/bench/migrate.json"))
    options = parser.parse_args()
    figures, loads = measure(options.part or list(PARTS))
    table = Table(title="Moves")
    for column in ("figure", "measured", "goal"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.0f}" if value >= 1_000 else f"{value:.2f}", GOALS.get(name, ""))
    Console(width=110).print(table)
    results = {
        "made_at": datetime.now(UTC).isoformat(),
        "machine": {"cpus": os.cpu_count(), "load_before": loads},
        "goals": GOALS,
        "figures": {name: round(value, 3) for name, value in figures.items()},
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
