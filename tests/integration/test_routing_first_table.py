"""The first routing table appears as a whole or not at all: first packed, then its rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pymongo.errors import PyMongoError
from tests.slots import slot_map

from foreshard.errors import CorruptRoutingFile, NoRoutingTable, TableLoadSuperseded, TableStillLoading
from foreshard.model import Placement, PlacementChange, RoutingTable
from foreshard.stores.control.routing import _first_table as mongo_first_table
from foreshard.stores.control.routing import _images as mongo_routing_image
from foreshard.stores.control.routing._documents import row_document
from foreshard.stores.control.routing._images import table_of
from foreshard.stores.control.routing.store import MongoRoutingStore

NOW = datetime(2025, 1, 1, tzinfo=UTC)
RULE = slot_map(("alpha", "beta"), (1.0, 3.0))


@pytest.fixture
def store(control, unique_name) -> MongoRoutingStore:
    return MongoRoutingStore(control[unique_name])


def first(keys: int, version: int = 1) -> RoutingTable:
    return RoutingTable(version, {f"k{n}": Placement(f"k{n}", "alpha") for n in range(keys)}, RULE, NOW)


def move(key: str, to: str, epoch: int, shadows: tuple[str, ...] = ()) -> PlacementChange:
    return PlacementChange(key, to, shadows, epoch, epoch + 1)


def test_a_load_that_was_killed_is_invisible_and_is_started_over(store, monkeypatch):
    monkeypatch.setattr(mongo_routing_image, "PIECE_BYTES", 200)
    batches = []

    def killed(self, session, rows):
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(rows)
        original(self, session, rows)

    original = mongo_first_table.FirstTable._load
    monkeypatch.setattr(mongo_first_table.FirstTable, "_load", killed)
    with pytest.raises(KeyboardInterrupt):
        store.initialise(first(35))
    assert store.version() == 0
    with pytest.raises(NoRoutingTable):
        store.current()
    monkeypatch.setattr(mongo_first_table.FirstTable, "_load", original)
    other = RoutingTable(1, {f"other{n}": Placement(f"other{n}", "beta") for n in range(25)}, RULE, NOW)
    store.initialise(other)
    assert store.current() == other


def test_a_superseded_loader_adds_no_row(store, control, unique_name, monkeypatch):
    monkeypatch.setattr(mongo_routing_image, "PIECE_BYTES", 200)
    monkeypatch.setattr(mongo_first_table, "PATIENCE_SECONDS", 0.2)
    original = mongo_first_table.FirstTable._load
    overtaken = []

    def overtake(self, session, rows):
        if not overtaken:
            overtaken.append(True)
            control[unique_name]["routing_state"].update_one({"_id": "initialising"}, {"$set": {"token": "another"}})
        original(self, session, rows)

    monkeypatch.setattr(mongo_first_table.FirstTable, "_load", overtake)
    with pytest.raises((TableLoadSuperseded, PyMongoError)):
        store.initialise(first(20))
    assert control[unique_name]["routing_table"].count_documents({}) == 0
    assert control[unique_name]["routing_images"].count_documents({}) == 0
    assert store.version() == 0


def test_a_first_table_answers_before_its_rows_are_there_and_publications_wait(store, control, unique_name, monkeypatch):
    def killed(self, table):
        raise KeyboardInterrupt

    original = mongo_first_table.FirstTable._fill
    monkeypatch.setattr(mongo_first_table.FirstTable, "_fill", killed)
    with pytest.raises(KeyboardInterrupt):
        store.initialise(first(35))
    assert (store.version(), store.current()) == (1, first(35))
    with pytest.raises(TableStillLoading, match="still being written"):
        store.publish([move("k1", "beta", 1)], "too early")
    control[unique_name]["routing_table"].insert_one(row_document(Placement("k3", "alpha"), 1, RULE.space))
    monkeypatch.setattr(mongo_first_table.FirstTable, "_fill", original)
    store.initialise(first(35))
    assert control[unique_name]["routing_table"].count_documents({"slot": {"$exists": True}}) == 35
    assert store.publish([move("k1", "beta", 1)], "in time") == 2
    assert store.current().placements["k1"].primary == "beta"


def test_the_packed_form_is_read_in_pieces_and_can_be_made_anew(store, control, unique_name, monkeypatch):
    monkeypatch.setattr(mongo_routing_image, "PIECE_BYTES", 200)
    assert store.image() is None
    store.initialise(first(30))
    store.publish([move("k1", "beta", 1)], "move")
    image = store.image()
    assert (image.identity, image.version) == (store.head()[1], 1)
    assert table_of(image) == first(30)
    assert control[unique_name]["routing_images"].count_documents({}) > 5
    assert store.repack() == store.repack() == 2
    assert table_of(store.image()) == store.current()
    assert {d["_id"]["version"] for d in control[unique_name]["routing_images"].find()} == {2}
    control[unique_name]["routing_images"].delete_one({"_id.piece": 3})
    with pytest.raises(CorruptRoutingFile, match="cut off"):
        table_of(store.image())
