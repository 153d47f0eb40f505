"""The load reporter against real mongods, one of them dead."""

from __future__ import annotations

import threading
import time

import pytest
from pymongo import MongoClient

from foreshard.model import Location, Partition
from foreshard.settings import SidecarSettings
from foreshard.stores.control.partition_loads import MongoLoadStore
from foreshard.stores.control.registry import MongoPartitionRegistry
from foreshard.stores.partition.load_reporter import LoadReporter

DEAD = "mongodb://127.0.0.1:1/?directConnection=true"


@pytest.fixture
def stores(control, unique_name, mongods):
    registry, loads = MongoPartitionRegistry(control[unique_name]), MongoLoadStore(control[unique_name])
    alive = [Partition(m.name, "here", 100.0, m.uri) for m in mongods[1:3]]
    registry.register([*alive, Partition("dead", "here", 100.0, DEAD)], [Location("here", 0, 0)])
    return registry, loads


@pytest.fixture
def connect():
    clients: dict[str, MongoClient] = {}

    def client(partition: Partition) -> MongoClient:
        if partition.partition_id not in clients:
            clients[partition.partition_id] = MongoClient(partition.uri, tz_aware=True)
        return clients[partition.partition_id]

    yield client
    for one in clients.values():
        one.close()


def settings(**more) -> SidecarSettings:
    return SidecarSettings(load_smoothing=0, load_interval=0.2, **more)


def test_what_a_partition_does_is_its_load_and_a_dead_one_is_unreachable(stores, connect, partition_clients, unique_name):
    registry, loads = stores
    reporter = LoadReporter(registry, loads, connect, settings(load_time_scale=2.0), timeout=0.5)
    assert {r.partition_id for r in reporter.report_once()} == {"dead"}
    busy = partition_clients["alpha"][unique_name]["c"]
    begun = time.monotonic()
    for number in range(200):
        busy.insert_one({"_id": number})
        busy.find_one({"_id": number})
    reported = {r.partition_id: r for r in reporter.report_once()}
    seconds = time.monotonic() - begun
    reporter.close()
    assert {name: r.reachable for name, r in reported.items()} == {"alpha": True, "beta": True, "dead": False}
    assert 0 < reported["alpha"].latency_ms < 100
    assert loads.current()[0].latency_ms == pytest.approx(reported["alpha"].latency_ms)
    assert reported["alpha"].load * seconds * 2.0 > 200 * 3 * 0.8
    assert reported["beta"].load < reported["alpha"].load / 5
    assert {r.partition_id: r.reachable for r in loads.current()} == {"alpha": True, "beta": True, "dead": False}
    assert registry.partition("alpha").current_load == pytest.approx(reported["alpha"].load)


def test_a_dead_partition_does_not_delay_the_reports_of_others(stores, connect):
    registry, _ = stores
    seen: list[tuple[str, ...]] = []

    class Recording:
        def report(self, some):
            if some:
                seen.append(tuple(sorted(r.partition_id for r in some)))

    reporter = LoadReporter(registry, Recording(), connect, settings(), timeout=1.0)
    reporter.report_once()
    seen.clear()
    reporter.report_once()
    reporter.close()
    assert seen == [("alpha", "beta"), ("dead",)]


def test_a_run_goes_on_until_it_is_stopped_and_survives_a_control_database_that_fails(stores, connect):
    from pymongo.errors import AutoReconnect

    registry, loads = stores
    stop = threading.Event()
    failures = [True, True]

    class Flaky:
        def report(self, some):
            if failures:
                failures.pop()
                raise AutoReconnect("gone for a moment")
            loads.report(some)
            if {r.partition_id for r in loads.current()} == {"alpha", "beta", "dead"}:
                stop.set()

    reporter = LoadReporter(registry, Flaky(), connect, settings(), timeout=0.3)
    thread = threading.Thread(target=reporter.run, args=(stop,))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert not failures
