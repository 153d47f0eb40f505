"""Reads that are open while their key is moved and the source's copy is removed: complete, or a clear error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from tests.integration.client.looped import Loop, Looped
from tests.integration.move.conftest import World
from tests.integration.move.table_routes import TableRoutes

from foreshard.client._partition_clients import PartitionClients
from foreshard.client._routed_client import AsyncRoutedClient, RoutedClient
from foreshard.errors import KeyMovedWhileReading
from foreshard.model.key_space import KeySpace
from foreshard.model.unit_set import UnitSet
from foreshard.move import _cleaning
from foreshard.stages import migrate

DOCUMENTS = 600
PATIENCE: dict[str, Any] = {"tz_aware": True, "serverSelectionTimeoutMS": 2_000}


@pytest.fixture
def trips(request, world: World) -> Iterator[Any]:
    """The routed collection, of the synchronous client unless a test asks for the other one."""
    collections = world.wiring.settings.sharded_collections
    if getattr(request, "param", "sync") == "sync":
        connections = PartitionClients(lambda uri: MongoClient(uri, **PATIENCE), world.database)
        with RoutedClient(TableRoutes(world), connections, collections) as client:
            yield client[world.database]["trips"]
        return
    loop = Loop()
    connections = PartitionClients(lambda uri: AsyncMongoClient(uri, **PATIENCE), world.database)
    client = AsyncRoutedClient(TableRoutes(world), connections, collections)
    yield Looped(client[world.database]["trips"], loop)
    loop.run(client.close())
    loop.close()


@pytest.fixture
def filled(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A key with 600 trips, and cleaners that don't wait for reads."""
    monkeypatch.setattr(_cleaning, "READS_AWAITED", timedelta())
    world.fill(DOCUMENTS)
    return world


def move_and_clean(world: World) -> None:
    world.move("alpha", "beta")
    migrate.clean_moves(world.wiring)
    assert not world.copies()["alpha"]


def read_across(world: World, cursor: Any, before: int = 150) -> list[Any]:
    """Read some documents, move and clean, and read the rest."""
    found = [next(cursor) for _ in range(before)]
    move_and_clean(world)
    return [document["_id"] for document in [*found, *cursor]]


FINDS: dict[str, Callable[[Any, World], Any]] = {
    "by id": lambda trips, world: trips.find({"at.station": world.key}, sort="_id"),
    "by id, downwards": lambda trips, world: trips.find({"at.station": world.key}, sort=[("_id", -1)]),
    "in any order": lambda trips, world: trips.find({"at.station": world.key}),
    "in any order, some fields": lambda trips, world: trips.find({"at.station": world.key}, {"n": 1}),
    "of two keys": lambda trips, world: trips.find({"at.station": {"$in": [world.key, "nobody's"]}}),
    "of two keys, by id": lambda trips, world: trips.find({"at.station": {"$in": [world.key, "nobody's"]}}, sort="_id"),
    "of all partitions": lambda trips, world: trips.find({"pad": {"$exists": True}}),
    "of all partitions, by id": lambda trips, world: trips.find({"pad": {"$exists": True}}, sort="_id"),
}


CASES = [("key", "sync", kind) for kind in FINDS] + [
    ("slot", "sync", "by id"),
    ("slot", "async", "of all partitions"),
    ("key", "async", "by id"),
    ("key", "async", "in any order"),
]


@pytest.mark.parametrize(("world", "trips", "kind"), CASES, indirect=["world", "trips"])
def test_a_find_open_across_a_move_and_its_cleaning_is_complete(filled, trips, kind):
    expected = [document["_id"] for document in filled.trips("alpha").find({"at.station": filled.key}).sort("_id", 1)]
    found = read_across(filled, FINDS[kind](trips, filled).batch_size(50))
    assert len(found) == DOCUMENTS
    if "downwards" in kind:
        assert found == expected[::-1]
    else:
        assert (found if "by id" in kind else sorted(found)) == expected


def test_a_find_goes_on_after_its_limit_and_skip(filled, trips):
    expected = [document["_id"] for document in filled.trips("alpha").find({"at.station": filled.key}).sort("_id", 1)]
    skipped = trips.find({"at.station": filled.key}, sort="_id", skip=50, limit=400).batch_size(50)
    assert read_across(filled, skipped) == expected[50:450]


def test_an_unsorted_find_with_a_limit_returns_that_many(filled, trips):
    found = read_across(filled, trips.find({"at.station": filled.key}, limit=300).batch_size(50))
    assert len(set(found)) == len(found) == 300


@pytest.mark.parametrize("trips", ["sync", "async"], indirect=True)
@pytest.mark.parametrize(
    "read",
    [
        lambda trips, key: trips.find({"at.station": key}, sort="n").batch_size(50),
        lambda trips, key: trips.aggregate([{"$match": {"at.station": key}}], batchSize=50),
        lambda trips, key: trips.aggregate([{"$match": {"n": {"$gte": 0}}}], batchSize=50),
    ],
)
def test_a_read_that_cannot_go_on_says_so_and_returns_no_short_result(filled, trips, read):
    cursor = read(trips, filled.key)
    with pytest.raises(KeyMovedWhileReading, match="has moved away from partition alpha") as raised:
        read_across(filled, cursor)
    assert raised.value.key == filled.key
    assert raised.value.namespace == f"{filled.database}.trips"
    assert raised.value.epoch == filled.wiring.routing.placement(filled.key).epoch


def test_a_key_that_came_back_is_read_without_an_alarm(filled, trips):
    move_and_clean(filled)
    filled.move("beta", "alpha")
    assert len(list(trips.find({"at.station": filled.key}, sort="n").batch_size(50))) == DOCUMENTS


def test_other_keys_of_the_partition_are_read_without_an_alarm(filled, trips):
    cursor = trips.find({"at.station": "other"}, sort="n").batch_size(50)
    assert len(read_across(filled, cursor)) == DOCUMENTS


def test_without_permission_to_read_announcements_the_changed_owner_is_enough(filled, trips, monkeypatch):
    from pymongo.errors import OperationFailure

    from foreshard.client import _doubts

    def refused(*_: Any) -> None:
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr(_doubts, "removed_since", refused)
    assert len(read_across(filled, trips.find({"at.station": filled.key}, sort="_id").batch_size(50))) == DOCUMENTS


def test_the_cleaner_waits_for_reads_that_were_opened_before_the_switch(world):
    world.fill(DOCUMENTS)
    cursor = world.trips("alpha").find({"at.station": world.key}, batch_size=50)
    next(cursor)
    move_id = world.plan("alpha", "beta")
    migrate.run_move(world.wiring, move_id)
    later = world.trips("alpha").find({"at.station": world.key}, batch_size=50)
    next(later)
    _pass(world)
    assert migrate.clean_moves(world.wiring, wait=False) == ()
    assert world.wiring.move_journal.get(move_id).notes["waiting"] == "waiting for 1 read opened on alpha before the switch"
    assert len(list(cursor)) == DOCUMENTS - 1
    migrate.clean_moves(world.wiring)
    assert world.state(move_id) == "done"
    later.close()


def test_the_cleaner_does_not_wait_for_what_a_dead_mover_was_reading(world):
    """The server keeps the cursors of a process that was killed for ten minutes."""
    world.fill(DOCUMENTS)
    copy = world.wiring.unit_copy("alpha", "of-a-dead-mover", UnitSet(KeySpace(), (world.key,)))
    batches = copy.scan(f"{world.database}.trips")
    next(batches)
    move_id = world.plan("alpha", "beta")
    migrate.run_move(world.wiring, move_id)
    _pass(world)
    migrate.clean_moves(world.wiring, wait=False)
    assert world.state(move_id) == "done"
    batches.close()
    copy.close()


def _pass(world: World) -> None:
    """Let the time pass for which the source's copy is kept."""
    import time

    time.sleep(world.wiring.settings.migrate.source_kept.total_seconds())
