"""The sidecar benchmark: lookups against nginx's map and HAProxy's map, waits, batches, memory, publications.

``python tests/benchmarks/sidecar_benchmark.py [--json FILE] [--keys 1000000] [--many 10000000] [--rounds 15] [--part NAME]``.
The servers stand on one core and the load on another; figures "per CPU second" count the server's processor time alone, in
alternating short rounds; the median is shown, and the best round, which is the one that other work on the machine disturbed
least. Waits come from h2load at a fixed rate.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import sidecar_load as load
from tests.benchmarks import sidecar_publication as publication
from tests.benchmarks.sidecar_crowd import crowd
from tests.benchmarks.sidecar_in_process import batches, in_process
from tests.benchmarks.sidecar_servers import Server, haproxy, nginx, save, sidecar

Figures = dict[str, Any]
SECONDS = 1.0


@cache
def _folder(keys: int) -> Path:
    """A folder with the saved table, for all parts of this run."""
    folder = Path(tempfile.mkdtemp(prefix="foreshard-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save(folder, keys)
    return folder


def lookups(keys: int, rounds: int) -> Figures:
    """Lookups per second of the server's processor time, and waits at half of that load."""
    with tempfile.TemporaryDirectory() as peers, ExitStack() as running:
        folder = _folder(keys)
        servers = [running.enter_context(start(Path(peers), keys)) for start in (nginx, haproxy)]
        servers.append(running.enter_context(sidecar(folder)))
        found: dict[str, list[float]] = {server.name: [] for server in servers}
        for number in range(rounds):
            for server in servers:
                found[server.name].append(load.lookups_per_cpu_second(server, keys, SECONDS, number))
        figures: Figures = {f"lookups per CPU second, {name}": median(rates) for name, rates in found.items()}
        figures |= {f"best round, {name}": max(rates) for name, rates in found.items()}
        own = found["sidecar"]
        for name in ("nginx map", "HAProxy map"):
            figures[f"sidecar ÷ {name}, median of rounds"] = median(a / b for a, b in zip(own, found[name], strict=True))
            figures[f"sidecar ÷ {name}, best rounds"] = max(own) / max(found[name])
        figures |= _waits(servers, keys, median(own) / 2)
    return figures


def _waits(servers: list[Server], keys: int, rate: float) -> Figures:
    """Alternating, three times; the median of the three."""
    figures: Figures = {"requests per second for the waits": rate}
    found: dict[str, list[list[float]]] = {server.name: [] for server in servers}
    for _ in range(3):
        for server in servers:
            found[server.name].append(load.waits_at(server, rate, 3, keys))
    for server in servers:
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            figures[f"{name} (ms), {server.name}"] = median(load.quantile(w, share) for w in found[server.name]) * 1e3
        figures[f"requests answered per second, {server.name}"] = median(len(w) / 3 for w in found[server.name])
    return figures


def memory(keys: int, workers: int = 3) -> Figures:
    """Proportional memory after every part of the table was read."""
    folder = _folder(keys)
    with sidecar(folder, core=None) as one:
        load.finish(load.begin(one, 2_000, 5.0, keys))
        alone = one.memory()
    with sidecar(folder, workers=workers, core=None) as several:
        load.finish(load.begin(several, 2_000, 5.0, keys))
        together = several.memory()
    return {
        "keys": keys,
        "one worker (MB)": alone,
        f"{workers} workers and their supervisor (MB)": together,
        "per extra worker (MB)": (together - alone) / (workers - 1),
    }


def main() -> None:
    """Run everything, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("var/bench/sidecar.json"))
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--many", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--part", action="append")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Figures]] = {
        "lookups": lambda: lookups(options.keys, options.rounds),
        "in process": lambda: in_process(_folder(options.keys), options.keys),
        "batches": lambda: batches(_folder(options.keys), options.keys),
        "crowd": lambda: crowd(_folder(options.keys), options.keys),
        "memory": lambda: memory(options.keys),
        "memory, many keys": lambda: memory(options.many),
        "publication": lambda: publication.publications(options.keys),
    }
    machine = {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()}
    results: Figures = {"made_at": datetime.now(UTC).isoformat(), "machine": machine}
    for name, part in parts.items():
        if options.part and name not in options.part:
            continue
        print(f"sidecar: {name} …", flush=True)
        results[name] = part()
        for figure, value in results[name].items():
            print(f"  {figure:52} {value:,.6g}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
