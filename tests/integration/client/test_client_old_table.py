"""A client whose table is old, because its sidecar is dead, stopped or cut off, never answers for a key that has moved."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pymongo import DeleteOne, UpdateOne
from tests.integration.client.sidecar_process import switch
from tests.integration.client.test_client_lost_answers import CuttingProxy

from foreshard.client import ClientOptions, RoutedClient
from foreshard.client.routing.router import CONFIRMED
from foreshard.errors import RoutingTableOld
from foreshard.model.key_space import KeySpace
from foreshard.model.unit_set import unit_set
from foreshard.routing.fence_lists import FenceLists
from foreshard.stack._process import stop
from foreshard.stores.partition.fences.fence import MongoFence
from foreshard.stores.partition.units.removed_units import entry

ANSWERS: dict[str, Callable] = {
    "find": lambda c: list(c.find({"station": "k"})),
    "find_one": lambda c: c.find_one({"station": "k"}),
    "count": lambda c: c.count_documents({"station": "k"}),
    "distinct": lambda c: c.distinct("n", {"station": "k"}),
    "aggregate": lambda c: list(c.aggregate([{"$match": {"station": "k"}}])),
    "find all": lambda c: list(c.find()),
    "count all": lambda c: c.count_documents({}),
    "update": lambda c: c.update_one({"station": "k"}, {"$set": {"m": 1}}),
    "update many": lambda c: c.update_many({"station": "k"}, {"$set": {"m": 1}}),
    "replace": lambda c: c.replace_one({"station": "k", "_id": 1}, {"station": "k"}),
    "upsert": lambda c: c.update_one({"station": "k"}, {"$set": {"m": 1}}, upsert=True),
    "find and update": lambda c: c.find_one_and_update({"station": "k"}, {"$set": {"m": 1}}),
    "delete": lambda c: c.delete_one({"station": "k"}),
    "delete many": lambda c: c.delete_many({"station": "k"}),
    "find and delete": lambda c: c.find_one_and_delete({"station": "k"}),
    "bulk": lambda c: c.bulk_write([UpdateOne({"station": "k"}, {"$set": {"m": 1}})]),
    "bulk delete": lambda c: c.bulk_write([DeleteOne({"station": "other"}), DeleteOne({"station": "k"})], ordered=False),
}


class Relay(CuttingProxy):
    """Forwards to the control database. After ``cut_off`` nothing gets through, and no connection is accepted."""

    def cut_off(self) -> None:
        self.cut.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for end in list(self.open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay(mongods) -> Iterator[Relay]:
    host, port = mongods[0].uri.split("://")[1].split("/")[0].split(":")
    made = Relay((host, int(port)))
    yield made
    made.close()


@pytest.fixture
def sidecar_control(relay: Relay) -> str:
    return f"mongodb://127.0.0.1:{relay.port}/?directConnection=true"


@pytest.fixture
def move_and_clean(settings, store, partition_clients, unique_name):
    """Moves k from alpha to beta; its old copy is removed unless ``clean`` is False."""
    sharded = settings.sharded_collections[0]
    fences = {
        name: MongoFence(c, sharded, expected=lambda: FenceLists(KeySpace()), timeout=timedelta(seconds=5))
        for name, c in partition_clients.items()
    }
    marks = partition_clients["alpha"][settings.control_database]["removed_units"]

    def move(clean: bool = True) -> None:
        source, target = (partition_clients[name][unique_name]["things"] for name in ("alpha", "beta"))
        fences["alpha"].fence(["k"])
        target.insert_many(list(source.find({"station": "k"})))
        switch(store, "k", "beta")
        if clean:
            units = unit_set(["k"], KeySpace())
            marks.insert_one({**entry("m", units, {"k": 2}), "at": datetime.now(UTC)})
            source.delete_many({"station": "k"})

    yield move
    for c in partition_clients.values():
        c["foreshard"]["fences"].delete_one({"_id": sharded.namespace})
    partition_clients["alpha"].drop_database(settings.control_database)


@pytest.fixture
def things(settings, sidecar, unique_name) -> Iterator:
    options = ClientOptions(deadline=1.0)
    with RoutedClient.from_settings(settings, sidecar_url=sidecar[0], access_records=False, options=options) as client:
        made = client[unique_name]["things"]
        made.insert_many([{"_id": i, "station": "k", "n": i} for i in range(5)])
        made.insert_many([{"_id": 10 + i, "station": "other", "n": i} for i in range(3)])
        wait_for(lambda: client._router.age() < CONFIRMED)
        yield made


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    waiting = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        waiting.wait(0.05)
    pytest.fail("waited in vain")


@pytest.mark.parametrize("fault", ["dead", "stopped", "cut off", "dead, not cleaned"])
def test_with_an_old_table_a_moved_key_is_an_error_and_other_keys_are_served(
    things, sidecar, relay, move_and_clean, partition_clients, unique_name, fault
) -> None:
    url, spec = sidecar
    process = int(spec.pid_path.read_text().split()[0])
    if fault == "stopped":
        os.killpg(process, signal.SIGSTOP)
    elif fault == "cut off":
        relay.cut_off()
    else:
        stop(spec.pid_path)
    move_and_clean(clean="not" not in fault)
    router = things._core.reader.router.router
    wait_for(lambda: router.age() > CONFIRMED)
    stand = {name: c[unique_name]["things"] for name, c in partition_clients.items()}
    before = {name: list(c.find()) for name, c in stand.items()}
    for name, verb in ANSWERS.items():
        with pytest.raises(RoutingTableOld, match="'k' has left partition alpha"):
            pytest.fail(f"{name} answered {verb(things)}")
        if name != "bulk delete":
            assert {name: list(c.find()) for name, c in stand.items()} == before, name
    assert things.count_documents({"station": "other"}) in (2, 3)
    assert things.insert_one({"_id": 99, "station": "other"}).inserted_id == 99
    assert things.find_one({"station": "other", "_id": 99}) is not None
    if fault == "stopped":
        os.killpg(process, signal.SIGCONT)
        wait_for(lambda: router.age() < CONFIRMED)
        assert len(list(things.find({"station": "k"}))) == things.count_documents({"station": "k"}) == 5
        assert things.delete_many({"station": "k"}).deleted_count == 5
    if fault == "cut off":
        assert httpx.get(url + "/v1/table", timeout=5).json()["age_seconds"] > CONFIRMED


def test_a_cursor_of_an_old_table_raises_when_its_documents_are_removed(things, sidecar, move_and_clean) -> None:
    things.insert_many([{"_id": 100 + i, "station": "k", "n": i} for i in range(300)])
    cursors = [things.find({"station": "k"}, batch_size=50), things.find({}, sort="_id", batch_size=50)]
    for cursor in cursors:
        next(cursor)
    stop(sidecar[1].pid_path)
    move_and_clean()
    for cursor in cursors:
        with pytest.raises(Exception, match="'k' has moved away from partition alpha"):
            list(cursor)
