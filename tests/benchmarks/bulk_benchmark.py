"""Times reads and writes of many keys, routed over four partitions and with plain pymongo on one of the same mongods.

``python tests/benchmarks/bulk_benchmark.py``: the median in milliseconds, and the ratio. The client routes from a table in its
process; 20,000 keys are spread over the partitions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from pymongo import MongoClient, UpdateOne

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.sidecar_config import local_routes
from tests.slots import slot_map

from foreshard.client import RoutedClient
from foreshard.client._partition_clients import PartitionClients
from foreshard.model import Location, Partition, RoutingTable, ShardedCollection
from foreshard.ports.routing_file import LiveClock, LiveRouting, SavedRouting
from foreshard.routing.steady import boot
from foreshard.stack._process import free_port
from foreshard.stack.mongod import Mongod
from foreshard.stores.files.live_routing import LiveRoutingFile
from foreshard.stores.files.routing_file import RoutingFile

NAMES = ("alpha", "beta", "gamma", "delta")
KEYS, RUNS = 20_000, 7
SHARDED = ShardedCollection("bench", "things", "key")

CASES: dict[str, Callable[[Any, int], Any]] = {
    "find({}).limit(1)": lambda c, _: list(c.find({}).limit(1)),
    "find({}).sort(n).limit(10)": lambda c, _: list(c.find({}).sort("n").limit(10)),
    "count_documents({})": lambda c, _: c.count_documents({}),
    "find({}), all documents": lambda c, _: sum(1 for _ in c.find({})),
    "insert_many of 1,000 keys, ordered": lambda c, i: c.insert_many(fresh(i)),
    "insert_many of 1,000 keys, unordered": lambda c, i: c.insert_many(fresh(i + 100), ordered=False),
    "bulk_write of 1,000 updates, ordered": lambda c, i: c.bulk_write(updates(i)),
    "bulk_write of 1,000 updates, unordered": lambda c, i: c.bulk_write(updates(i), ordered=False),
    "update_many of one key's 20,000 documents": lambda c, i: c.update_many({"key": "large"}, {"$set": {"m": i}}),
}


SINGLE: dict[str, Callable[[Any, int], Any]] = {
    "update_one": lambda c, i: c.update_one({"key": f"k{i}"}, {"$inc": {"m": 1}}),
    "insert_one": lambda c, i: c.insert_one({"_id": f"one {i}", "key": f"k{i}"}),
    "delete_one": lambda c, i: c.delete_one({"_id": f"one {i}", "key": f"k{i}"}),
}
"""Writes of one document, which are timed one by one, in turn."""
SINGLE_RUNS = 400


def fresh(number: int) -> list[dict[str, Any]]:
    return [{"_id": f"{number}/{i}", "key": f"k{i * 17 % KEYS}", "n": -i, "pad": "x" * 200} for i in range(1_000)]


def updates(number: int) -> list[UpdateOne]:
    return [UpdateOne({"key": f"k{i * 13 % KEYS}"}, {"$set": {"m": number}}) for i in range(1_000)]


def routed(folder: Path, mongods: list[Mongod]) -> RoutedClient:
    """A client with a table in its process that a sidecar has just confirmed."""
    partitions = tuple(Partition(m.name, "Home", 10.0, m.uri) for m in mongods)
    table = RoutingTable(5, {}, slot_map(NAMES, (1.0,) * 4), datetime.now(UTC))
    RoutingFile(folder).save(SavedRouting("t", table, partitions, (Location("Home", 0.0, 0.0),), time.time()))
    LiveRoutingFile(folder).write(LiveRouting(clock=LiveClock(boot(), 0.0, time.monotonic() + 3_600, 5)))
    local = local_routes(folder)
    return RoutedClient(local, PartitionClients(lambda uri: MongoClient(uri, w="majority")), [SHARDED], local=local)


def timed(cases: Mapping[str, Callable[[Any, int], Any]], runs: int, plain: Any, things: Any) -> dict[str, list[float]]:
    """Run every case, plain and routed in turn. Print and return the medians in milliseconds."""
    figures = {}
    for name, work in cases.items():
        times: dict[str, list[float]] = {"plain": [], "routed": []}
        for number in range(runs):
            for kind, collection in (("plain", plain), ("routed", things)):
                begun = time.perf_counter()
                work(collection, number)
                times[kind].append((time.perf_counter() - begun) * 1000)
        one, other = (median(times[kind][1:]) for kind in ("plain", "routed"))
        figures[name] = [one, other]
        print(f"{name:45} {one:9.2f} ms {other:9.2f} ms  {other / one:6.2f} x", flush=True)
    return figures


def main() -> None:
    """Print the figures, and write them to the file of ``--json``: name → [plain, routed] in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    target, figures = parser.parse_args().json, {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mongods = [Mongod(name, free_port(), folder / name) for name in NAMES]
        for mongod in mongods:
            stack.callback(mongod.stop)
            mongod.start()
        client = stack.enter_context(routed(folder / "routing", mongods))
        plain = stack.enter_context(MongoClient(mongods[0].uri, w="majority"))["plain"]["things"]
        things = client["bench"]["things"]
        everything = [{"key": f"k{i}", "n": i, "pad": "x" * 200} for i in range(KEYS)]
        everything += [{"key": "large", "n": i} for i in range(20_000)]
        for m in mongods:
            with MongoClient(m.uri) as direct:
                for one in (direct["bench"]["things"], direct["plain"]["things"]):
                    one.create_index([("key", 1)])
                    one.create_index([("n", 1)])
        for collection in (plain, things):
            collection.insert_many([dict(d) for d in everything], ordered=False)
        for cases, runs in ((CASES, RUNS), (SINGLE, SINGLE_RUNS)):
            figures.update(timed(cases, runs, plain, things))
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
