"""Reads over all partitions that are planned from the table: the question itself says what lives where."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.collation import Collation
from pymongo.monitoring import CommandListener
from tests.integration.client.conftest import PATIENCE
from tests.sidecar_config import local_routes
from tests.slots import slot_map

from foreshard.client import RoutedClient
from foreshard.client._partition_clients import PartitionClients
from foreshard.client.routing.sidecar_routes import SidecarRoutes
from foreshard.errors import KeyMovedWhileReading
from foreshard.model import Location, Partition, Placement, RoutingTable
from foreshard.model.key_space import KeySpace
from foreshard.model.unit_set import unit_set
from foreshard.ports.routing_file import LiveClock, LiveRouting, SavedRouting
from foreshard.routing.steady import boot
from foreshard.routing.table import locate
from foreshard.stores.files.live_routing import LiveRoutingFile
from foreshard.stores.files.routing_file import RoutingFile
from foreshard.stores.partition.units.removed_units import entry

NAMES = ("alpha", "beta", "gamma")
KEYS = [f"k{i}" for i in range(40)] + ["K0", "É", "é"]
LISTED = {"k0": "alpha", "k1": "beta", "k2": "gamma", "É": "alpha", "é": "beta"}
CASELESS = Collation("fr", strength=1)


class Commands(CommandListener):
    """Notes the commands that partitions are sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def started(self, event) -> None:
        self.sent.append(event.command_name)

    def succeeded(self, event) -> None: ...

    def failed(self, event) -> None: ...


@pytest.fixture
def table() -> RoutingTable:
    placements = {key: Placement(key, place, (), 2) for key, place in LISTED.items()}
    return RoutingTable(5, placements, slot_map(NAMES, (1.0, 1.0, 1.0)), datetime.now(UTC))


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def things(answerer, sharded, table, commands, tmp_path: Path):
    """A routed collection with a table in this process. The sidecar is never asked."""
    partitions = tuple(Partition(name, "Home", 10.0, answerer.uris[name]) for name in NAMES)
    RoutingFile(tmp_path).save(SavedRouting("t", table, partitions, (Location("Home", 0.0, 0.0),), 1_700_000_000.0))
    LiveRoutingFile(tmp_path).write(LiveRouting(clock=LiveClock(boot(), 0.0, time.monotonic() + 600, 5)))  # a fresh table
    connections = PartitionClients(lambda uri: MongoClient(uri, event_listeners=[commands], **PATIENCE))
    routes = SidecarRoutes("http://127.0.0.1:9")
    with RoutedClient(routes, connections, [sharded], local=local_routes(tmp_path)) as client:
        yield client[sharded.database][sharded.collection]


@pytest.fixture
def alone(things, stand, table):
    """A plain collection with the documents that live somewhere. The partitions have strays too."""
    documents = [{"_id": i, "station": KEYS[i % len(KEYS)], "n": i * 7 % 31, "tags": [i % 3, i % 5]} for i in range(200)]
    plain = stand["alpha"].database["alone"]
    plain.insert_many(documents)
    for document in documents:
        owner = locate(table, document["station"]).primary
        stand[owner].insert_one(document)
        for name in NAMES:
            if name != owner and document["_id"] % 4 == 0:
                stand[name].insert_one({**document, "n": -1, "stray": True})
    keyless = [
        {"_id": "null", "station": None},
        {"_id": "none"},
        {"_id": "other", "station": ObjectId()},
        {"_id": "list", "station": [1]},
    ]
    for number, document in enumerate(keyless):
        stand[NAMES[number % 3]].insert_one(document)
        plain.insert_one(document)
    return plain


FILTERS = [{}, {"n": {"$gt": 20}}, {"$or": [{"n": 3}, {"tags": 2}]}, {"station": {"$gt": "k3"}}, {"station": None}, {"n": -1}]


@pytest.mark.parametrize("collation", [None, CASELESS], ids=["plain", "collated"])
def test_every_document_is_read_once_whatever_copies_there_are(things, alone, collation) -> None:
    order = [("n", 1), ("_id", -1)]
    filters = [*FILTERS, {"station": "k0"}, {"station": {"$in": ["k1", "é"]}}]
    for filter in filters:
        expected = list(alone.find(filter, collation=collation).sort(order))
        assert list(things.find(filter, collation=collation).sort(order)) == expected
        assert list(things.find(filter, collation=collation).sort(order).skip(3).limit(9)) == expected[3:12]
        assert len(list(things.find(filter, limit=7, collation=collation))) == min(7, len(expected))
        assert things.count_documents(filter, collation=collation) == len(expected)
        grouped = [{"$match": filter}, {"$group": {"_id": "$tags", "n": {"$avg": "$n"}}}, {"$sort": {"_id": 1}}]
        assert list(things.aggregate(grouped, collation=collation)) == list(alone.aggregate(grouped, collation=collation))
        assert things.distinct("tags", filter, collation=collation) == alone.distinct("tags", filter, collation=collation)
    assert things.estimated_document_count() == 204


def test_documents_with_one_id_on_two_partitions_are_both_read_in_batches(things, stand, table) -> None:
    for key in ("k0", "k1"):
        stand[LISTED[key]].insert_many([{"_id": i, "station": key} for i in range(50)])
    assert len(list(things.find().batch_size(10))) == len(list(things.find(sort="_id", batch_size=10))) == 100


def test_a_scattered_read_whose_documents_are_removed_meanwhile_says_so(
    things, stand, table, partition_clients, answerer
) -> None:
    stand["alpha"].insert_many([{"_id": i, "station": "k0", "n": i} for i in range(50)])
    units = unit_set(["k0"], KeySpace())
    cursor = things.find({"n": {"$gte": 0}}, sort="n", batch_size=10)
    assert next(cursor)["n"] == 0
    removed = partition_clients["alpha"]["foreshard"]["removed_units"]
    removed.insert_one(entry("m1", units, {"k0": 3}))
    try:
        stand["alpha"].delete_many({})
        with pytest.raises(KeyMovedWhileReading, match="key 'k0' has moved away from partition alpha"):
            list(cursor)
    finally:
        removed.delete_one({"_id": "m1"})


def test_one_document_costs_one_question_per_partition(things, alone, commands) -> None:
    assert things.find_one({}) is not None
    commands.sent.clear()
    assert len(list(things.find({}).limit(1))) == 1
    assert len(list(things.find({}).sort("n").limit(2))) == 2
    assert commands.sent == ["find"] * 6


def test_a_table_that_the_sidecar_has_overtaken_is_not_used_for_a_scattered_read(
    answerer, sharded, table, stand, tmp_path
) -> None:
    """After the write, the client knows a newer place of the key than its file does."""
    partitions = tuple(Partition(name, "Home", 10.0, answerer.uris[name]) for name in NAMES)
    RoutingFile(tmp_path).save(SavedRouting("t", table, partitions, (Location("Home", 0.0, 0.0),), 1_700_000_000.0))
    connections = PartitionClients(lambda uri: MongoClient(uri, **PATIENCE))
    answerer.version = 9
    answerer.place("k0", "beta")
    stand["alpha"].insert_one({"_id": 1, "station": "k0", "n": "old"})
    stand["beta"].insert_one({"_id": 1, "station": "k0", "n": "new"})
    with RoutedClient(SidecarRoutes(answerer.url), connections, [sharded], local=local_routes(tmp_path)) as client:
        things = client[sharded.database][sharded.collection]
        assert [d["n"] for d in things.find()] == ["old"]
        assert things.delete_one({"station": "k0", "n": "nothing"}).deleted_count == 0  # asks the sidecar
        assert [d["n"] for d in things.find()] == ["new"]
