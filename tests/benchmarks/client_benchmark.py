"""The cost of routing for an app: ``find_one`` by key, routed and with plain pymongo, on a real mongod, interleaved.

A real sidecar runs beside it. Every round requests the same documents with each client. On a busy machine, ``by round`` (the
median of each round's ratio) and the tenth percentiles are more reliable than the medians. Goal: 1.15 times pymongo's median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import httpx
from pymongo import AsyncMongoClient, MongoClient
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.slots import slot_map

from foreshard.client import AsyncRoutedClient, ClientOptions, RoutedClient
from foreshard.client._partition_clients import PartitionClients
from foreshard.client._records import RequestScope
from foreshard.client.routing.sidecar_routes import SidecarRoutes
from foreshard.model import Location, Partition, PartitionLoad, Placement, RoutingTable
from foreshard.settings import CollectionSetting, Settings, ShadowSettings, SidecarSettings
from foreshard.stack._process import ProcessSpec, free_port, start, stop, wait_until_ready
from foreshard.stack.kafka import Kafka
from foreshard.stack.mongod import Mongod
from foreshard.stores.control.partition_loads import MongoLoadStore
from foreshard.stores.control.registry import MongoPartitionRegistry
from foreshard.stores.control.routing.store import MongoRoutingStore
from foreshard.stores.files.live_routing import LiveRoutingFile
from foreshard.stores.kafka.access_emitter import KafkaAccessEmitter

GOAL = 1.15
DOCUMENTS = 2_000
AT_ONCE, WARM_UP = 20, 10
PLAIN, ROUTED, SHADOWED, RECORDED, MEASURED, ASKING = (
    "pymongo",
    "routed, in process",
    "routed, keys with near shadows",
    "routed, with access records",
    "routed, with records and costs",
    "routed, by HTTP (kept 0.5 s)",
)
ASYNC_PLAIN, ASYNC_ROUTED = "async pymongo", "async routed, in process"

Ask = Callable[[str], Any]


@dataclass(frozen=True)
class Stage:
    """The running services of the benchmark."""

    settings: Settings
    url: str
    partition: str
    bootstrap: str


@contextmanager
def stage(keys: int) -> Iterator[Stage]:
    """Start the control database, one partition, Kafka and the sidecar, with a table of ``keys`` keys."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as cleanup:
        folder = Path(name)
        control, alpha = (Mongod(n, free_port(), folder / n) for n in ("control", "alpha"))
        kafka = Kafka(free_port(), free_port(), folder / "kafka")
        for service in (control, alpha, kafka):
            cleanup.callback(service.stop)
            service.start()
        settings = Settings(
            control_uri=control.uri,
            collections=(CollectionSetting(database="app", collection="things", key_field="k"),),
            data_dir=folder / "data",
            shadow=ShadowSettings(maximum_staleness=timedelta(hours=1)),
            sidecar=SidecarSettings(load_expiry=timedelta(hours=1)),
            user_key="s" * 32,
            kafka_bootstrap=f"127.0.0.1:{kafka.port}",
        )
        publish(settings, alpha, keys)
        spec, url = sidecar(settings, folder)
        cleanup.callback(stop, spec.pid_path)
        wait_until_ready("sidecar", url, lambda: ready(url), spec, patience=120)
        while not saved(settings.data_dir / "routing"):
            time.sleep(0.05)
        yield Stage(settings, url, alpha.uri, settings.kafka_bootstrap)


def saved(folder: Path) -> bool:
    """Whether the sidecar has saved the table and the shadows' freshness."""
    try:
        return (folder / "table.frt").exists() and len(LiveRoutingFile(folder).read().caught_up_at) == DOCUMENTS
    except OSError:
        return False


def publish(settings: Settings, alpha: Mongod, keys: int) -> None:
    """Insert the documents and publish their table.

    ``key N`` has one copy. ``twin N`` has a fresh, equally near shadow (the same server under another address), so that each
    read of it chooses between two copies.
    """
    with MongoClient(alpha.uri) as client:
        things = client["app"]["things"]
        names = [f"{kind} {n}" for kind in ("key", "twin") for n in range(DOCUMENTS)]
        things.insert_many({"_id": number, "k": name, "text": "x" * 200} for number, name in enumerate(names))
        things.create_index("k")
    with MongoClient(settings.control_uri.get_secret_value(), tz_aware=True) as client:
        database = client[settings.control_database]
        home, now = [Location("Home", 37.0, -122.0)], datetime.now(UTC)
        two = [Partition("alpha", "Home", 1e6, alpha.uri), Partition("beta", "Home", 1e6, f"{alpha.uri}&appName=beta")]
        MongoPartitionRegistry(database).register(two, home)
        MongoLoadStore(database).report([PartitionLoad(one.partition_id, 2e5, True, now, 0.2) for one in two])
        twins = [f"twin {n}" for n in range(DOCUMENTS)]
        shadow = {"target": "beta", "state": "live", "caught_up_at": now}
        database["shadows"].insert_many({"_id": f"{twin} beta", "key": twin, **shadow} for twin in twins)
        placements = {f"key {n}": Placement(f"key {n}", "alpha") for n in range(keys)}
        placements |= {twin: Placement(twin, "alpha", ("beta",)) for twin in twins}
        table = RoutingTable(1, placements, slot_map(("alpha",), (1.0,)), now)
        MongoRoutingStore(database).initialise(table)


def sidecar(settings: Settings, folder: Path) -> tuple[ProcessSpec, str]:
    """Start the sidecar."""
    port = free_port()
    environment = {
        **os.environ,
        "FORESHARD_CONTROL_URI": settings.control_uri.get_secret_value(),
        "FORESHARD_DATA_DIR": str(settings.data_dir),
    }
    command = (str(Path(sys.executable).parent / "foreshard"), "sidecar", "--port", str(port))
    spec = ProcessSpec("sidecar", command, folder / "sidecar", environment)
    start(spec)
    return spec, f"http://127.0.0.1:{port}"


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False


@dataclass
class Taken:
    """Microseconds of one client's operations: wall clock, and processor time of the app's thread."""

    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, clock_ns: int, cpu_ns: int) -> None:
        self.clock.append(clock_ns / 1000)
        self.cpu.append(cpu_ns / 1000)

    def paired(self, base: Taken) -> float:
        """The median over the rounds of (this client's median ÷ the other's in the same round)."""
        rounds = range(0, len(self.clock), AT_ONCE)
        return median(median(self.clock[r : r + AT_ONCE]) / median(base.clock[r : r + AT_ONCE]) for r in rounds)


def interleaved(clients: dict[str, Ask], rounds: int) -> dict[str, Taken]:
    """Time each client's operations. Each round runs ``AT_ONCE`` operations per client in a row; ten rounds warm up."""
    random, taken = Random(7), {name: Taken() for name in clients}
    for turn in range(rounds + WARM_UP):
        keys = [f"key {random.randrange(DOCUMENTS)}" for _ in range(AT_ONCE)]
        for name in random.sample(sorted(clients), len(clients)):
            for key in keys:
                cpu, begun = time.thread_time_ns(), time.perf_counter_ns()
                found = clients[name](key)
                ended = time.perf_counter_ns()
                if turn >= WARM_UP:
                    taken[name].add(ended - begun, time.thread_time_ns() - cpu)
                if found["k"].split()[1:] != key.split()[1:]:
                    raise RuntimeError(f"{name} answered {found!r} for {key!r}")
    return taken


def synchronous(on: Stage, rounds: int) -> dict[str, Taken]:
    """All synchronous clients."""
    with ExitStack() as cleanup:
        plain = cleanup.enter_context(MongoClient(on.partition, tz_aware=True, w="majority"))["app"]["things"]

        def routed(**options: Any) -> Ask:
            client = cleanup.enter_context(
                RoutedClient.from_settings(on.settings, sidecar_url=on.url, location="Home", **options)
            )
            return lambda key: client["app"]["things"].find_one({"k": key})

        connections = PartitionClients(lambda uri: MongoClient(uri, tz_aware=True, w="majority"))
        asking = cleanup.enter_context(
            RoutedClient(
                SidecarRoutes(on.url), connections, on.settings.sharded_collections, request=RequestScope(location="Home")
            )
        )
        plain_keys = routed(access_records=False)
        clients: dict[str, Ask] = {
            PLAIN: lambda key: plain.find_one({"k": key}),
            ROUTED: plain_keys,
            SHADOWED: lambda key: plain_keys(f"twin{key[3:]}"),
            RECORDED: routed(user="rider 17"),
            MEASURED: routed(user="rider 17", options=ClientOptions(measure_cost=True)),
            ASKING: lambda key: asking["app"]["things"].find_one({"k": key}),
        }
        return interleaved(clients, rounds)


async def asynchronous(on: Stage, rounds: int) -> dict[str, Taken]:
    """The asynchronous clients, one request at a time."""
    random, taken = Random(7), {name: Taken() for name in (ASYNC_PLAIN, ASYNC_ROUTED)}
    async with (
        AsyncMongoClient(on.partition, tz_aware=True, w="majority") as plain,
        AsyncRoutedClient.from_settings(on.settings, sidecar_url=on.url, access_records=False) as routed,
    ):
        things = {ASYNC_PLAIN: plain["app"]["things"], ASYNC_ROUTED: routed["app"]["things"]}
        for turn in range(rounds + WARM_UP):
            keys = [f"key {random.randrange(DOCUMENTS)}" for _ in range(AT_ONCE)]
            for name in random.sample(sorted(things), len(things)):
                for key in keys:
                    cpu, begun = time.thread_time_ns(), time.perf_counter_ns()
                    await things[name].find_one({"k": key})
                    ended = time.perf_counter_ns()
                    if turn >= WARM_UP:
                        taken[name].add(ended - begun, time.thread_time_ns() - cpu)
    return taken


def emitting(on: Stage, records: int = 20_000) -> dict[str, float]:
    """Microseconds that one access record costs the app's thread, and how many records were delivered."""
    from foreshard.client._records import Recorder

    emitter = KafkaAccessEmitter(on.bootstrap, "bench")
    recorder = Recorder(emitter, b"secret", RequestScope(user="rider 17", location="Home"))
    scope = recorder.current()
    begun = time.perf_counter()
    for number in range(records):
        recorder.record(scope, (f"key {number}",), "read", 0.0)
    each = (time.perf_counter() - begun) / records * 1e6
    emitter.close(30)
    return {"microseconds": each, "records": records, "dropped": emitter.dropped}


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("var/bench/client.json"))
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    with stage(options.keys) as on:
        taken = synchronous(on, options.rounds)
        taken |= asyncio.run(asynchronous(on, options.rounds))
        record = emitting(on)
    results: dict[str, Any] = {
        "made_at": datetime.now(UTC).isoformat(),
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()},
        "keys": options.keys,
        "rounds": options.rounds,
        "goal_ratio": GOAL,
        "access_record": record,
    }
    table = Table("find_one by key", title="microseconds; ratio of the medians to pymongo of the same kind")
    for name in ("p50", "p90", "p99", "ratio", "by round", "p10 ratio", "cpu ratio"):
        table.add_column(name, justify="right")
    for name, times in taken.items():
        base = taken[ASYNC_PLAIN if name.startswith("async") else PLAIN]
        cuts = quantiles(times.clock, n=100)
        ratio, cpu = median(times.clock) / median(base.clock), median(times.cpu) / median(base.cpu)
        results[name] = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "ratio": ratio}
        lowest = cuts[9] / quantiles(base.clock, n=100)[9]
        results[name] |= {"ratio_by_round": times.paired(base), "p10_ratio": lowest}
        results[name] |= {"cpu_p50": median(times.cpu), "cpu_ratio": cpu}
        ratios = (ratio, times.paired(base), lowest, cpu)
        figures = (*(f"{cuts[n]:.0f}" for n in (49, 89, 98)), *(f"{one:.3f}" for one in ratios))
        table.add_row(name, *figures)
    Console(width=110).print(table)
    print(
        f"one access record costs the app {record['microseconds']:.1f} µs; {record['dropped']} of {record['records']} dropped"
    )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
