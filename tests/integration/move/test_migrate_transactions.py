"""Transactions of a routed client while their key is moved: each is applied once, or aborts with pymongo's label."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from tests.integration.move.conftest import World
from tests.integration.move.table_routes import TableRoutes

from foreshard.client import ClientOptions, RoutedClient
from foreshard.client._partition_clients import PartitionClients
from foreshard.stages import migrate


@pytest.fixture
def client(world: World) -> Iterator[RoutedClient]:
    connections = PartitionClients(lambda uri: MongoClient(uri, tz_aware=True, w="majority"), world.database)
    options = ClientOptions(keep_routes=60)  # so the client's table is old after every switch
    with RoutedClient(TableRoutes(world), connections, world.wiring.settings.sharded_collections, options=options) as made:
        yield made


@pytest.mark.parametrize("world", ["key", "slot"], indirect=True)
def test_transactions_during_moves_are_whole_and_applied_once(request, world: World, client: RoutedClient) -> None:
    key = world.key
    trips, stations = client[world.database]["trips"], client[world.database]["stations"]
    stations.insert_one({"_id": "s", "name": key, "done": 0})
    trips.insert_many([{"_id": n, "at": {"station": key}, "n": 100} for n in range(4)])
    ended, committed, repeated, failures = threading.Event(), [], [], []

    def transfer(number: int) -> None:
        turn = 0
        with client.start_session() as session:
            while not ended.is_set():
                turn += 1
                made = f"{number}:{turn}"

                def once(within: Any, made: str = made, turn: int = turn) -> None:
                    repeated.append(made)
                    source, target = turn % 4, (turn + 1) % 4
                    before = trips.find_one({"_id": source, "at.station": key}, session=within)
                    assert before is not None
                    of_key = {"at.station": key}
                    assert trips.update_one({"_id": source, **of_key}, {"$inc": {"n": -1}}, session=within).matched_count == 1
                    assert trips.update_one({"_id": target, **of_key}, {"$inc": {"n": 1}}, session=within).matched_count == 1
                    trips.delete_one({"_id": f"{number}:{turn - 1}", **of_key}, session=within)
                    trips.insert_one({"_id": made, "at": {"station": key}, "n": 0}, session=within)
                    stations.update_one({"name": key}, {"$inc": {"done": 1}}, session=within)

                try:
                    session.with_transaction(once)
                    committed.append(made)
                except BaseException as error:
                    failures.append(error)
                    return
                ended.wait(0.002)

    writers = [threading.Thread(target=transfer, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    request.addfinalizer(ended.set)
    places = ["alpha", "beta", "gamma", "alpha"]
    for source, target in itertools.pairwise(places):
        before = len(committed)
        while len(committed) < before + 10 and not failures:
            ended.wait(0.005)
        moved = world.move(source, target)
        assert world.owner() == target, moved
        migrate.clean_moves(world.wiring)
    before = len(committed)
    while len(committed) < before + 5 and not failures:
        ended.wait(0.005)
    ended.set()
    for writer in writers:
        writer.join()
    assert failures == []
    assert stations.find_one({"name": key})["done"] == len(committed)
    numbers = [d["n"] for d in trips.find({"at.station": key, "_id": {"$in": [0, 1, 2, 3]}})]
    assert (len(numbers), sum(numbers)) == (4, 400)
    last = {made.split(":")[0]: made for made in committed}
    assert {d["_id"] for d in trips.find({"at.station": key}) if isinstance(d["_id"], str)} == set(last.values())
    assert len(repeated) > len(committed)


def test_a_transaction_that_a_move_overtakes_aborts_and_its_repetition_is_at_the_new_owner(
    world: World, client: RoutedClient
) -> None:
    world.fill(3)
    trips, of_key = client[world.database]["trips"], {"at.station": world.key}
    assert trips.update_many(of_key, {"$set": {"n": 1}}).matched_count == 3  # the client knows the key on alpha
    assert world.move("alpha", "beta") is not None
    with client.start_session() as session:
        session.start_transaction()
        with pytest.raises(PyMongoError) as overtaken:
            trips.delete_many(of_key, session=session)
        assert overtaken.value.has_error_label("TransientTransactionError")
        session.abort_transaction()
        assert len(world.copies()["beta"]) == 3
        session.with_transaction(lambda within: trips.delete_many(of_key, session=within))
    assert world.copies()["beta"] == {}


def test_a_move_waits_for_an_open_transaction_and_takes_its_writes_along(world: World, client: RoutedClient) -> None:
    world.fill(3)
    trips = client[world.database]["trips"]
    move_id = world.plan("alpha", "beta")
    moving = threading.Thread(target=migrate.run_move, args=(world.wiring, move_id))
    with client.start_session() as session, session.start_transaction():
        trips.insert_one({"_id": "new", "at": {"station": world.key}}, session=session)
        moving.start()
        moving.join(1.0)
        trips.update_one({"_id": "new", "at.station": world.key}, {"$set": {"n": 1}}, session=session)
        assert world.owner() == "alpha"
    moving.join()
    if world.owner() == "alpha":  # the move gave up in time; it is repeated
        world.move("alpha", "beta")
    assert world.copies()["beta"]["new"]["n"] == 1
    assert trips.find_one({"_id": "new", "at.station": world.key})["n"] == 1
