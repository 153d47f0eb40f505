"""``watch`` over real moves: every change of an app once and in order, and nothing that a mover or a cleaner writes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from tests.integration.move.conftest import World
from tests.integration.move.table_routes import TableRoutes

from foreshard.client import RoutedClient
from foreshard.client._partition_clients import PartitionClients
from foreshard.stages import migrate


@pytest.fixture
def client(world: World) -> Iterator[RoutedClient]:
    connections = PartitionClients(lambda uri: MongoClient(uri, tz_aware=True, w="majority"), world.database)
    with RoutedClient(TableRoutes(world), connections, world.wiring.settings.sharded_collections) as made:
        yield made


def told(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["operationType"], event["documentKey"]["_id"], (event.get("fullDocument") or {}).get("n")


@pytest.mark.parametrize("world", ["key", "slot"], indirect=True)
def test_the_changes_of_a_key_go_on_over_its_moves(request, world: World, client: RoutedClient) -> None:
    world.fill(300)
    trips, key = client[world.database]["trips"], world.key
    ended, written, found = threading.Event(), [], []
    request.addfinalizer(ended.set)

    def write() -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            document = {"_id": f"new {number}", "at": {"station": key}, "n": number}
            trips.insert_one(document)
            written.append(("insert", document["_id"], number))
            with client.start_session() as session:
                session.with_transaction(
                    lambda within, document=document: (
                        trips.update_one({"_id": document["_id"], "at.station": key}, {"$set": {"n": -1}}, session=within),
                        trips.delete_one({"_id": document["_id"], "at.station": key}, session=within),
                    )
                )
            written.extend([("update", document["_id"], None), ("delete", document["_id"], None)])
            trips.replace_one({"_id": f"{key}:1", "at.station": key}, {"at": {"station": key}, "n": number})
            written.append(("replace", f"{key}:1", number))
            ended.wait(0.005)

    with trips.watch() as stream:
        token = stream.resume_token
        writer = threading.Thread(target=write)
        writer.start()
        for source, target in itertools.pairwise(["alpha", "beta", "gamma", "alpha"]):
            before = len(written)
            while len(written) < before + 30:
                ended.wait(0.01)
            moved = world.move(source, target)
            assert world.owner() == target, moved
            migrate.clean_moves(world.wiring)
        ended.set()
        writer.join()
        while (event := stream.try_next()) is not None:
            found.append(event)
    assert [told(event) for event in found] == written
    with trips.watch(resume_after=token) as again:
        repeated = []
        while (event := again.try_next()) is not None:
            repeated.append(told(event))
    assert repeated == written
    middle = len(found) // 2
    with trips.watch(resume_after=found[middle]["_id"]) as again:
        rest = []
        while (event := again.try_next()) is not None:
            rest.append(told(event))
    assert rest == written[middle + 1 :]
