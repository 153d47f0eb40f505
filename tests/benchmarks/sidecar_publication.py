"""Time from a publication to the first answer from it, with a real control database and continuous lookups.

The sidecar has a core of its own. The load, the control database and the publisher share the other core; the load has priority.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from tests.benchmarks import sidecar_load as load
from tests.benchmarks.sidecar_servers import (
    PARTITIONS,
    PLACES,
    Server,
    key_of,
    placement_of,
    save,
    sidecar,
    table_of,
)

from foreshard.model import PlacementChange
from foreshard.stack._process import free_port, running_pid
from foreshard.stack.mongod import Mongod
from foreshard.stores.control.registry import MongoPartitionRegistry
from foreshard.stores.control.routing.store import MongoRoutingStore

PROJECT = Path(__file__).parents[2]
MOVES = 60
POLL_SECONDS = 0.002
"""Seconds between two checks whether a move has arrived; measured times may be too long by this."""
RATE = 1_000.0
AROUND = 0.3
"""Seconds after a publication in which a slow request is attributed to it."""


def publications(keys: int) -> dict[str, Any]:
    """Publish a first table of ``keys`` keys, then single moves."""
    with tempfile.TemporaryDirectory() as folder:
        mongod = Mongod("bench", free_port(), Path(folder) / "mongod")
        mongod.start()
        cores = os.sched_getaffinity(0)
        try:
            _yield_core(running_pid(mongod.spec.pid_path))
            os.sched_setaffinity(0, {load.CLIENT_CORE})
            with MongoClient(mongod.uri, tz_aware=True, w="majority") as client:
                return _measure(client, mongod.uri, Path(folder), keys)
        finally:
            os.sched_setaffinity(0, cores)
            mongod.stop()


def _yield_core(pid: int | None) -> None:
    """Keep a process off the sidecar's core, with less priority than the load on the other core."""
    assert pid is not None
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {load.CLIENT_CORE})
            os.setpriority(os.PRIO_PROCESS, int(task.name), 19)


def _measure(client: MongoClient[dict[str, Any]], uri: str, folder: Path, keys: int) -> dict[str, Any]:
    database = client["bench"]
    MongoPartitionRegistry(database).register(PARTITIONS, PLACES)
    store = MongoRoutingStore(database)
    environment = {"FORESHARD_CONTROL_URI": uri, "FORESHARD_CONTROL_DATABASE": "bench"}
    store.initialise(table_of(1_000))
    with sidecar(folder, environment=environment) as server:
        figures = _moves(server, store, 1_000, "a small table")
    client.drop_database("bench")
    MongoPartitionRegistry(database).register(PARTITIONS, PLACES)
    other = folder / "whole"
    other.mkdir()
    save(other, 1_000)  # it answers from an older table until the new one is published
    with sidecar(other, environment=environment) as server:
        figures |= _whole(server, store, uri, keys)
        figures |= _moves(server, store, keys, f"{keys:,} keys")
    return figures


def _whole(server: Server, store: MongoRoutingStore, uri: str, keys: int) -> dict[str, Any]:
    """Publish the whole table from another process. It counts as published once the database reports its version."""
    command = [sys.executable, "-m", "tests.benchmarks.sidecar_publication", uri, str(keys)]
    publisher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert publisher.stdin is not None
    assert publisher.stdout is not None
    publisher.stdout.readline()
    _yield_core(publisher.pid)
    running = load.begin(server, RATE, 12.0, 1_000)
    time.sleep(3.0)
    began = time.perf_counter()
    print("go", file=publisher.stdin, flush=True)
    asked = http.client.HTTPConnection("127.0.0.1", server.port)
    named = answered = 0.0
    while not answered:
        if not named and store.head()[1]:
            named = time.perf_counter()
        if _ask(asked, "/v1/table")["keys"] == keys:
            answered = time.perf_counter()
        elif time.perf_counter() - began > 120:
            raise SystemExit("the table did not arrive")
        time.sleep(POLL_SECONDS)
    asked.close()
    waits = load.finish(running)
    publisher.communicate()
    quiet = [one.wait for one in waits if one.due < began - 0.5]
    during = [one.wait for one in waits if named - 0.1 <= one.due <= answered + AROUND]
    return {
        "whole table: packed and named by the publisher (s)": named - began,
        "whole table: from named to answered (s)": answered - named,
        "whole table: slowest request meanwhile (ms)": max(during) * 1e3,
        "whole table: requests over 10 ms meanwhile": sum(wait > 0.010 for wait in during),
        "whole table: requests meanwhile": len(during),
        "whole table: slowest request before it (ms)": max(quiet) * 1e3,
    }


def _moves(server: Server, store: MongoRoutingStore, keys: int, what: str) -> dict[str, Any]:
    """Publish single moves. Each is timed from the start and from the end of its call to the first correct answer."""
    running = load.begin(server, RATE, MOVES * 0.25 + 3.0, keys)
    time.sleep(2.0)
    asked = http.client.HTTPConnection("127.0.0.1", server.port)
    begins, from_call, from_return = [], [], []
    for number in range(MOVES):
        row = placement_of(number * 13)
        to = next(p.partition_id for p in PARTITIONS if p.partition_id != row.primary)
        begins.append(time.perf_counter())
        store.publish([PlacementChange(row.key, to, (), row.epoch, row.epoch + 1)], "benchmark")
        returned = time.perf_counter()
        while _ask(asked, f"/v1/route/{key_of(number * 13)}?op=write")["epoch"] != row.epoch + 1:
            if time.perf_counter() - returned > 30:
                raise SystemExit("the move did not arrive")
            time.sleep(POLL_SECONDS)
        answered = time.perf_counter()
        from_call.append(answered - begins[-1])
        from_return.append(max(0.0, answered - returned))
        time.sleep(max(0.0, 0.25 - (answered - begins[-1])))
    asked.close()
    waits = load.finish(running)
    quiet = [one.wait for one in waits if one.due < begins[0] - 0.5]
    during = [one.wait for one in waits if any(0 <= one.due - at <= AROUND / 3 for at in begins)]
    elsewhere = [one.wait for one in waits if not any(-0.02 <= one.due - at <= AROUND / 3 for at in begins)]
    return {
        f"one move, {what}: p50 from the call (ms)": load.quantile(from_call, 0.5) * 1e3,
        f"one move, {what}: p50 from its return (ms)": load.quantile(from_return, 0.5) * 1e3,
        f"one move, {what}: slowest from its return (ms)": max(from_return) * 1e3,
        f"one move, {what}: requests over 10 ms within 100 ms of one, of a million": _slow(during),
        f"one move, {what}: requests over 10 ms at other times, of a million": _slow([*quiet, *elsewhere]),
    }


def _slow(waits: list[float]) -> float:
    return sum(wait > 0.010 for wait in waits) / max(1, len(waits)) * 1e6


def _ask(connection: http.client.HTTPConnection, path: str) -> Any:
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def main() -> None:
    """``python -m … URI KEYS``: publish a table of KEYS keys on command."""
    uri, keys = sys.argv[1:]
    table = table_of(int(keys))
    print("ready", flush=True)
    sys.stdin.readline()
    with MongoClient(uri, tz_aware=True, w="majority") as client:
        MongoRoutingStore(client["bench"]).initialise(table)


if __name__ == "__main__":
    main()
