"""The sidecar benchmark: lookups against nginx's map and HAProxy's map, waits, batches, memory, publications.

``python tests/benchmarks/sidecar_benchmark.py [--json FILE] [--keys 1000000] [--many 10000000] [--rounds 15] [--part NAME]``.
The servers stand on one core and the load on another; figures "per CPU second" count the server's processor time alone, in
alternating short rounds; the median is shown, and the best round, which is the one that other work on the machine disturbed
least. Waits are those of an open loop (``open_loop.c``) at half of the sidecar's lookups per CPU second, in the same way: in
rounds of one second, in turn for the three servers. Each request counts from the random moment when it was due.
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
P99_GOAL_MS = 2.0


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
        figures |= _waits(servers, keys, median(own) / 2, rounds)
    return figures


def _waits(servers: list[Server], keys: int, rate: float, rounds: int) -> Figures:
    """Waits at one rate, in alternating rounds: the median round and the best one, and all rounds' requests together."""
    figures: Figures = {"requests per second for the waits": rate}
    found: dict[str, list[list[load.Request]]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers:
            running = load.begin(server, rate, SECONDS, keys, connections=load.MANY, seed=number)
            found[server.name].append(load.finish(running))
    for name, made in found.items():
        waits = [[request.wait * 1e3 for request in one] for one in made]
        for what, share in (("p50", 0.5), ("p99", 0.99)):
            of_rounds = [load.quantile(one, share) for one in waits]
            figures[f"{what} (ms), median of rounds, {name}"] = median(of_rounds)
            figures[f"{what} (ms), best round, {name}"] = min(of_rounds)
        figures[f"rounds with p99 ≤ {P99_GOAL_MS:g} ms, {name}"] = sum(load.quantile(w, 0.99) <= P99_GOAL_MS for w in waits)
        figures[f"p99 (ms), all requests, {name}"] = load.quantile([wait for one in waits for wait in one], 0.99)
        late = [(request.sent - request.due) * 1e3 for one in made for request in one]
        figures[f"sent after it was due, p50 (ms), {name}"] = load.quantile(late, 0.5)
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
        "one worker and its supervisor (MB)": alone,
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
