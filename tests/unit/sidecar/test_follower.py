"""The follower with its ports in memory: it applies every fact, and survives an unreachable control database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from queue import Empty, Queue
from types import SimpleNamespace

import pytest
from tests.unit.sidecar.conftest import LOCATIONS, NOW, PARTITIONS, table_as

from foreshard.errors import Unreachable
from foreshard.model import PartitionLoad, PlacementChange
from foreshard.ports.control_feed import LoadReported, RegistryChanged, ShadowFreshness, TableChanged
from foreshard.ports.routing import Publication
from foreshard.sidecar import _follower
from foreshard.sidecar._follower import Follower
from foreshard.sidecar._live_copy import LiveCopy
from foreshard.sidecar._saved_copy import SavedCopy
from foreshard.stores.files.live_routing import LiveRoutingFile
from foreshard.stores.files.routing_file import RoutingFile

GONE = Unreachable("control database", "db:1", "start it")


class FakeControl:
    """The control database's ports. ``facts`` are delivered in order; an exception among them is raised."""

    def __init__(self) -> None:
        self.facts: Queue = Queue()
        self.table, self.publications, self.acknowledged = table_as("rows"), [], []
        self.known_partitions, self.known_loads = PARTITIONS, ()
        self.withdrawn = False

    @contextmanager
    def follow(self) -> Iterator:
        yield self._facts()

    def _facts(self) -> Iterator:
        while True:
            try:
                fact = self.facts.get(timeout=0.01)
            except Empty:
                yield None
                continue
            if isinstance(fact, Exception):
                raise fact
            yield fact

    def reaching(self):
        return nullcontext()

    def freshness(self) -> tuple[ShadowFreshness, ...]:
        return (ShadowFreshness("hot", "sj-1", NOW),)

    def head(self) -> tuple[int, str]:
        return self.table.version + len(self.publications), "one"

    def since(self, version: int) -> tuple:
        return tuple(p for p in self.publications if p.version > version)

    def image(self) -> None:
        return None

    def acknowledge(self, _: str, version: int) -> datetime:
        self.acknowledged.append(version)
        return datetime.fromtimestamp(NOW + 100, UTC)

    def withdraw(self, _: str) -> None:
        self.withdrawn = True

    def publish(self, key: str, partition: str) -> None:
        version = self.table.version + len(self.publications) + 1
        change = PlacementChange(key, partition, (), 2, 3)
        self.publications.append(Publication(version, (change,), "test", datetime.now(UTC)))
        self.facts.put(TableChanged())


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def follower(control, empty_service, tmp_path) -> Iterator[Follower]:
    """A running follower."""
    routing = SimpleNamespace(
        **{name: getattr(control, name) for name in ("head", "since", "image", "acknowledge", "withdraw")}
    )
    routing.current = lambda: control.table
    registry = SimpleNamespace(partitions=lambda: control.known_partitions, locations=lambda: LOCATIONS)
    loads = SimpleNamespace(current=lambda: control.known_loads)
    saved, live = SavedCopy(empty_service, RoutingFile(tmp_path)), LiveCopy(LiveRoutingFile(tmp_path))
    found = Follower(empty_service, routing, registry, loads, control, saved, live, "tested")
    found.start()
    assert found.first_try.wait(10)
    yield found
    found.stop()


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_table_the_registry_loads_and_freshness_are_read_first(follower, control, empty_service):
    assert empty_service.connected
    assert (empty_service.table().version, empty_service.partitions) == (7, PARTITIONS)
    until(lambda: control.acknowledged[:1] == [7])


def test_every_fact_is_applied(follower, control, empty_service):
    control.publish("plain", "sj-1")
    until(lambda: empty_service.table().version == 8)
    assert empty_service.table().placements["plain"].primary == "sj-1"
    until(lambda: 8 in control.acknowledged)
    control.known_partitions = PARTITIONS[:1]
    control.facts.put(RegistryChanged())
    until(lambda: empty_service.partitions == PARTITIONS[:1])
    control.facts.put(LoadReported(PartitionLoad("sf-1", 9.0, True, datetime.fromtimestamp(NOW, UTC))))
    control.facts.put(ShadowFreshness("hot", "sj-1", None))
    until(control.facts.empty)
    until(lambda: empty_service.describe_partitions()[0]["utilisation"] == 0.9)


def test_an_unreachable_database_is_tried_again_while_the_last_table_is_used(follower, control, empty_service, monkeypatch):
    monkeypatch.setattr(control, "freshness", lambda: (_ for _ in ()).throw(GONE))
    control.facts.put(GONE)
    until(lambda: not empty_service.connected)
    assert empty_service.table().version == 7
    monkeypatch.undo()
    until(lambda: empty_service.connected)


def test_a_stopped_follower_withdraws(follower, control):
    follower.stop()
    assert control.withdrawn


def test_a_control_database_that_stays_down_is_logged_again_after_ten_minutes(follower, caplog, monkeypatch):
    caplog.set_level("WARNING", "foreshard.sidecar._follower")
    now = time.monotonic()
    for minutes in (0, 1, 9.9, 10.1, 15, 20.3):
        monkeypatch.setattr(_follower.time, "monotonic", lambda minutes=minutes: now + minutes * 60)
        follower._say_lost(GONE)
    assert caplog.text.count("not following the control database") == 3


def test_a_control_database_that_stays_down_is_logged_once(follower, control, empty_service, caplog, monkeypatch):
    caplog.set_level("INFO", "foreshard.sidecar._follower")

    @contextmanager
    def unreachable():
        raise GONE
        yield

    up = control.follow
    monkeypatch.setattr(control, "follow", unreachable)
    control.facts.put(GONE)
    until(lambda: not empty_service.connected)
    time.sleep(1.0)
    monkeypatch.setattr(control, "follow", up)
    until(lambda: empty_service.connected)
    until(lambda: "again" in caplog.text)
    assert caplog.text.count("not following the control database") == 1
