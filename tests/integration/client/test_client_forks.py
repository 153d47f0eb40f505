"""A process with threads that use a client forks: the client works in every child."""

from __future__ import annotations

import os
import threading
import time
import warnings
from datetime import UTC, datetime

import pytest
from pymongo import MongoClient
from tests.integration.client.conftest import PATIENCE
from tests.sidecar_config import local_routes
from tests.slots import slot_map

from foreshard.client import ClientOptions, RoutedClient
from foreshard.client._partition_clients import PartitionClients
from foreshard.client.routing.routes import FallbackRoutes
from foreshard.client.routing.sidecar_routes import SidecarRoutes
from foreshard.model import Location, Partition, RoutingTable
from foreshard.ports.routing_file import SavedRouting
from foreshard.stores.files.routing_file import RoutingFile

NAMES = ("alpha", "beta", "gamma")
FORKS = 40


@pytest.fixture
def client(answerer, sharded, tmp_path):
    partitions = tuple(Partition(name, "Home", 10.0, answerer.uris[name]) for name in NAMES)
    table = RoutingTable(5, {}, slot_map(NAMES, (1.0, 1.0, 1.0)), datetime.now(UTC))
    RoutingFile(tmp_path).save(SavedRouting("t", table, partitions, (Location("Home", 0.0, 0.0),), 1_700_000_000.0))
    connections = PartitionClients(lambda uri: MongoClient(uri, **PATIENCE))
    local = local_routes(tmp_path, check_every=0.001)
    source = FallbackRoutes(SidecarRoutes(answerer.url), local)
    with RoutedClient(source, connections, [sharded], local=local, options=ClientOptions(keep_routes=0.001)) as made:
        yield made


def work(client, things, router) -> None:
    """Use every lock: reads, writes, deletes, transactions, refreshes, avoided partitions, reads in threads."""
    things.update_one({"station": "k1"}, {"$inc": {"n": 1}})
    things.find_one({"station": "k1"})
    router.refresh(router.now())
    router.avoid("gamma")
    router.routes(["k1", "k2"], "read")
    list(things.find({}, limit=2))
    things.delete_one({"station": "nobody's"})
    with client.start_session() as session, session.start_transaction():
        things.find_one({"station": "k1"}, session=session)


def test_a_child_of_a_process_under_load_never_hangs(client, sharded) -> None:
    things = client[sharded.database][sharded.collection]
    router = things._core.reader.router.router
    things.insert_many([{"station": f"k{i}", "n": 0} for i in range(10)])
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            work(client, things, router)

    threads = [threading.Thread(target=load, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(FORKS):
            child = os.fork()
            if child == 0:
                try:
                    warnings.simplefilter("ignore")
                    work(client, things, router)
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            assert ended(child, 20.0) == 0, "a child hung or failed"
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def ended(child: int, seconds: float) -> int | None:
    """Return a child's exit code; kill it and return None after the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None
