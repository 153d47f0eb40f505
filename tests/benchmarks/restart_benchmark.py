"""Time from a sidecar's restart to its first answer, without its control database, from the table in its file.

``file opened → answer``: open, check and map the table, then answer one key. ``worker killed → answer``: an app's wait if the
process that answers crashes and the supervisor forks another one. ``process started → answer``: a whole start; Python's start
and the imports in it are shown separately. Goals: 100 ms from the file, 400 ms for a whole start.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.sidecar_servers import children
from tests.sidecar_config import local_routes
from tests.slots import slot_map

from foreshard.client.routing.routes import ANYWHERE, Operation
from foreshard.model import Location, Partition, Placement, RoutingTable
from foreshard.ports.routing_file import SavedRouting
from foreshard.routing.table import locate
from foreshard.stack._process import free_port
from foreshard.stores.files.routing_file import RoutingFile

GOAL_MS = 100.0
START_GOAL_MS = 400.0
NOWHERE = "mongodb://127.0.0.1:1/?directConnection=true"
IMPORTS = "import foreshard.cli.main, foreshard.settings, foreshard.sidecar.serve"
FOUR = ("alpha", "beta", "gamma", "delta")


def save(folder: Path, keys: int) -> None:
    """Save a table as a sidecar does."""
    partitions = tuple(Partition(name, "Home", 100.0, f"mongodb://{name}:27017") for name in FOUR)
    placements = {f"key {n}": Placement(f"key {n}", FOUR[n % 4]) for n in range(keys)}
    table = RoutingTable(1, placements, slot_map(FOUR, (1.0,) * 4), datetime.now(UTC))
    RoutingFile(folder).save(SavedRouting("bench", table, partitions, (Location("Home", 0.0, 0.0),), time.time()))


def milliseconds(work: Callable[[], object], times: int) -> float:
    """The median duration of ``times`` runs."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)


def by_file(folder: Path) -> None:
    """Answer one key from the file, as a sidecar does."""
    saved = RoutingFile(folder).load()
    if saved is None or locate(saved.table, "key 7").primary != "delta":
        raise RuntimeError("the saved table does not answer")


def by_client(folder: Path) -> None:
    """Answer one key from the file, as an app that routes in process does."""
    if local_routes(folder).route("key 7", Operation.WRITE, ANYWHERE).partition != "delta":
        raise RuntimeError("the saved table does not answer")


def python(code: str) -> Callable[[], object]:
    """Run ``code`` in a new Python process."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True)


def sidecar(data: Path) -> tuple[float, float]:
    """Milliseconds to an answer over HTTP: from the sidecar's start, and from its worker's death."""
    port = free_port()
    environment = os.environ | {"FORESHARD_CONTROL_URI": NOWHERE, "FORESHARD_DATA_DIR": str(data)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    command = [str(Path(sys.executable).parent / "foreshard"), "sidecar", "--port", str(port)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until_answered(port)
        answered = time.perf_counter()
        (worker,) = children(process.pid)
        killed = time.perf_counter()
        os.kill(worker, signal.SIGKILL)
        until_answered(port)
        return (answered - begun) * 1000, (time.perf_counter() - killed) * 1000
    finally:
        process.terminate()
        process.wait(20)


def until_answered(port: int) -> None:
    """Ask over a new connection until there is an answer. Raise RuntimeError if it is wrong."""
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v1/route/key%207?op=write")
            answer = json.loads(connection.getresponse().read())
            if answer.get("partition") != "delta":
                raise RuntimeError(f"a wrong answer: {answer}")
            return
        time.sleep(0.001)
    raise RuntimeError("the sidecar does not answer")


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("var/bench/restart.json"))
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        save(data / "routing", options.keys)
        figures: dict[str, float] = {
            "file opened → answer": milliseconds(lambda: by_file(data / "routing"), options.times),
            "file opened → answer, in an app": milliseconds(lambda: by_client(data / "routing"), options.times),
            "Python started": milliseconds(python("pass"), options.times),
            "Python started, sidecar imported": milliseconds(python(IMPORTS), options.times),
        }
        runs = [sidecar(data) for _ in range(options.times)]
        figures |= {
            "worker killed → answer over HTTP": median(replaced for _, replaced in runs),
            "process started → answer over HTTP": median(started for started, _ in runs),
        }
    table = Table(
        "restart without a database",
        title=f"{options.keys:,} keys; goals {GOAL_MS:.0f} ms from the file, {START_GOAL_MS:.0f} ms for a start",
    )
    table.add_column("ms", justify="right")
    for what, value in figures.items():
        table.add_row(what, f"{value:.1f}")
    Console().print(table)
    results: dict[str, Any] = {
        "made_at": datetime.now(UTC).isoformat(),
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()},
        "keys": options.keys,
        "goal_ms": GOAL_MS,
        "milliseconds": figures,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
