"""The sidecar benchmark: lookups compared with nginx's and HAProxy's maps, waits, batches, memory, publications.

``python tests/benchmarks/sidecar_benchmark.py [--json FILE] [--keys 1000000] [--many 10000000] [--rounds 15] [--part NAME]``.
The servers run on one core and the load on another. Figures "per CPU second" count only the server's processor time, in short,
alternating rounds; the median and the best round (the least disturbed one) are shown. Waits are measured in an open loop at
half of the sidecar's lookups per CPU second; each request counts from the random time when it was due
(:mod:`tests.benchmarks.sidecar_waits`). The table also shows stalls of the machine itself, and the time taken by other
processes (:mod:`tests.benchmarks.sidecar_hiccups`).
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import sidecar_load as load
from tests.benchmarks import sidecar_publication as publication
from tests.benchmarks.sidecar_crowd import crowd
from tests.benchmarks.sidecar_in_process import batches, in_process
from tests.benchmarks.sidecar_servers import Server, haproxy, nginx, save, sidecar
from tests.benchmarks.sidecar_waits import waits

from foreshard.stores.files.routing_file import FILES

Figures = dict[str, Any]
SECONDS = 1.0


@cache
def _folder(keys: int) -> Path:
    """A folder with the saved table, for all parts of this run."""
    folder = Path(tempfile.mkdtemp(prefix="foreshard-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save(folder, keys)
    return folder


@contextmanager
def _four(keys: int) -> Iterator[list[Server]]:
    """The servers to compare. One sidecar lists every key that is asked for, the other one none."""
    with tempfile.TemporaryDirectory() as peers, ExitStack() as running:
        servers = [running.enter_context(start(Path(peers), keys)) for start in (nginx, haproxy)]
        by_slot = running.enter_context(sidecar(_folder(0), name="sidecar by slot"))
        yield [*servers, by_slot, running.enter_context(sidecar(_folder(keys)))]


def waits_at(rate: float, keys: int, rounds: int) -> Figures:
    """Measure waits only."""
    with _four(keys) as servers:
        return waits(servers, keys, rate, rounds)


def lookups(keys: int, rounds: int) -> Figures:
    """Measure lookups per second of the server's processor time, and waits at half of that load."""
    with _four(keys) as servers:
        found: dict[str, list[float]] = {server.name: [] for server in servers}
        for number in range(rounds):
            for server in servers:
                found[server.name].append(load.lookups_per_cpu_second(server, keys, SECONDS, number))
        figures: Figures = {f"lookups per CPU second, {name}": median(rates) for name, rates in found.items()}
        figures |= {f"best round, {name}": max(rates) for name, rates in found.items()}
        own = found["sidecar"]
        for mine, name in product(("sidecar", "sidecar by slot"), ("nginx map", "HAProxy map")):
            pairs = zip(found[mine], found[name], strict=True)
            figures[f"{mine} ÷ {name}, median of rounds"] = median(a / b for a, b in pairs)
            figures[f"{mine} ÷ {name}, best rounds"] = max(found[mine]) / max(found[name])
        figures |= waits(servers, keys, median(own) / 2, rounds)
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
    parser.add_argument("--rate", type=float, help="requests per second of the part 'waits' (without it, that part is skipped)")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Figures]] = {
        "lookups": lambda: lookups(options.keys, options.rounds),
        **({"waits": lambda: waits_at(options.rate, options.keys, options.rounds)} if options.rate else {}),
        "in process": lambda: in_process(_folder(options.keys), options.keys),
        "batches": lambda: batches(_folder(options.keys), options.keys),
        "crowd": lambda: crowd(_folder(options.keys), options.keys),
        "memory": lambda: memory(options.keys),
        "memory, many keys": lambda: memory(options.many),
        "publication": lambda: publication.publications(options.keys),
        "publication, 100,000 listed": lambda: {
            "size of the mapped table (MB)": (_folder(100_000) / "routing" / FILES[0]).stat().st_size / 1e6,
            **publication.publications(100_000),
        },
    }
    machine = {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()}
    results: Figures = {"made_at": datetime.now(UTC).isoformat(), "machine": machine}
    for name, part in parts.items():
        if options.part and name not in options.part:
            continue
        print(f"sidecar: {name} …", flush=True)
        results[name] = part()
        for figure, value in results[name].items():
            print(f"  {figure:60} {'none' if value is None else f'{value:,.6g}'}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
