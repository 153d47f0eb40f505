"""Slots in the control database: their moves, listing and delisting of keys, limits, and tables of an earlier release."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import MongoClient
from tests.slots import slot_map

from foreshard.errors import InvalidChange, SlotIsMoving, StaleEpoch, TableNotUpgradable, TooManyListedKeys
from foreshard.model import Placement, PlacementChange, RoutingTable
from foreshard.model.key_space import slot_unit
from foreshard.routing.table import apply_changes, locate
from foreshard.stores.control.routing.store import MongoRoutingStore

NOW = datetime(2025, 1, 1, tzinfo=UTC)
SLOTS = slot_map(("alpha", "beta"), (1.0, 1.0))
AT_ALPHA = [f"k{n}" for n in range(200) if SLOTS.of(f"k{n}").primary == "alpha"]


@pytest.fixture
def store(control: MongoClient[Any], unique_name: str) -> MongoRoutingStore:
    made = MongoRoutingStore(control[unique_name], maximum_listed=5)
    made.initialise(RoutingTable(1, {"a": Placement("a", "gamma", (), 3)}, SLOTS, NOW))
    return made


@pytest.fixture
def moves(control: MongoClient[Any], unique_name: str) -> Any:
    return control[unique_name]["moves"]


def listing(key: str, primary: str, epoch: int = 2, why: str = "hot") -> PlacementChange:
    return PlacementChange(key, primary, (), 0, epoch, why=why)


def test_a_slot_moves_with_the_keys_that_are_not_listed(store: MongoRoutingStore) -> None:
    key = AT_ALPHA[0]
    unit = slot_unit(SLOTS.space.slot_of(key))
    store.publish([PlacementChange(unit, "beta", (), 1, 2)], "move")
    assert store.placement(key) == Placement(key, "beta", (), 2)
    assert store.placement(unit) == Placement(unit, "beta", (), 2)
    assert store.placement("a") == Placement("a", "gamma", (), 3)
    assert locate(store.current(), key) == store.placement(key)
    with pytest.raises(StaleEpoch):
        store.publish([PlacementChange(unit, "alpha", (), 1, 2)], "late move")


def test_a_follower_that_applies_publications_has_the_same_table(store: MongoRoutingStore) -> None:
    table, key = store.current(), AT_ALPHA[0]
    store.publish([listing(key, "beta", 7)], "list")
    store.publish([PlacementChange(slot_unit(3), "gamma", (), 1, 2)], "move a slot")
    store.publish([PlacementChange(key, "alpha", (), 7, 8)], "move back")
    store.publish([PlacementChange(key, "alpha", (), 8, 8, delist=True)], "delist")
    for publication in store.since(1):
        table = apply_changes(table, publication.changes, publication.version, publication.published_at)
    assert (dict(table.placements), table.slots) == (dict(store.current().placements), store.current().slots)


def test_a_delisted_key_keeps_its_epoch_or_gets_a_higher_one(store: MongoRoutingStore) -> None:
    key = AT_ALPHA[0]
    store.publish([listing(key, "alpha", 7)], "list")
    store.publish([PlacementChange(key, "alpha", (), 7, 7, delist=True)], "delist")
    assert store.placement(key) == Placement(key, "alpha", (), 7)
    assert key not in store.current().placements


def test_a_key_away_from_its_slot_is_not_delisted(store: MongoRoutingStore) -> None:
    key = AT_ALPHA[0]
    store.publish([listing(key, "beta")], "list")
    with pytest.raises(InvalidChange, match="its slot is on alpha, so it must stay listed on beta"):
        store.publish([PlacementChange(key, "beta", (), 2, 2, delist=True)], "delist")
    assert store.placement(key).primary == "beta"


def test_a_key_is_delisted_by_the_publication_that_moves_its_slot_to_it(store: MongoRoutingStore) -> None:
    key = AT_ALPHA[0]
    slot = slot_unit(SLOTS.space.slot_of(key))
    store.publish([listing(key, "beta", 9)], "list")
    moved = PlacementChange(slot, "beta", (), 1, 2)
    store.publish([moved, PlacementChange(key, "beta", (), 9, 9, delist=True)], "move")
    assert store.placement(key) == Placement(key, "beta", (), 9)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (PlacementChange(slot_unit(1), "alpha", ("beta",), 1, 2), "a slot has no shadows"),
        (PlacementChange(slot_unit(1), "alpha", (), 0, 2), "always has a row"),
        (PlacementChange(slot_unit(1), "alpha", (), 1, 2, delist=True), "always has a row"),
        (PlacementChange("a", "gamma", ("beta",), 3, 3, delist=True), "without shadows"),
    ],
)
def test_rows_that_make_no_sense_are_refused(store: MongoRoutingStore, change: PlacementChange, problem: str) -> None:
    with pytest.raises(InvalidChange, match=problem):
        store.publish([change], "nonsense")


def test_while_a_slot_moves_only_its_move_lists_and_delists_keys_of_it(store: MongoRoutingStore, moves: Any) -> None:
    key = AT_ALPHA[0]
    slot = slot_unit(SLOTS.space.slot_of(key))
    moves.insert_one({"_id": "m1", "active": True, "units": [slot]})
    with pytest.raises(SlotIsMoving, match="move m1 moves its slot"):
        store.publish([listing(key, "alpha")], "list")
    store.publish([listing(key, "alpha")], "list", move_id="m1")
    with pytest.raises(SlotIsMoving):
        store.publish([PlacementChange(key, "alpha", (), 2, 2, delist=True)], "delist")
    store.publish([PlacementChange(key, "alpha", ("beta",), 2, 2)], "a shadow of a listed key is not refused")


def test_the_number_of_listed_keys_is_limited(store: MongoRoutingStore) -> None:
    store.publish([listing(key, "beta") for key in AT_ALPHA[:4]], "four")
    with pytest.raises(TooManyListedKeys, match="6 keys would be listed, at most 5 may be"):
        store.publish([listing(AT_ALPHA[5], "beta")], "one too many")
    store.publish([PlacementChange("a", "beta", (), 3, 4)], "listed keys still move")


def test_counts_and_listed_keys_of_slots_are_known_without_reading_the_table(store: MongoRoutingStore) -> None:
    key = AT_ALPHA[0]
    slot = SLOTS.space.slot_of(key)
    store.publish([listing(key, "beta"), PlacementChange(slot_unit(slot), "gamma", (), 1, 2)], "both")
    owners = [placement.primary for placement in store.current().slots.placements]
    assert store.counts() == ({name: owners.count(name) for name in ("alpha", "beta", "gamma")}, {"beta": 1, "gamma": 1})
    assert store.listed_in([slot]) == (Placement(key, "beta", (), 2),)
    assert store.why_listed(key) == "hot"
    store.publish([PlacementChange(key, "beta", ("alpha",), 2, 2)], "a change without a reason keeps the old one")
    assert store.why_listed(key) == "hot"
    assert store.why_listed("never listed") == ""


def old_table(control: MongoClient[Any], name: str, partitions: list[str]) -> None:
    """Write a table as the release before slots wrote it."""
    rows = [{"_id": f"k{n}", "primary": "beta", "shadows": [], "epoch": 4, "version": 9} for n in range(3)]
    control[name]["routing_table"].insert_many(rows)
    rule = {"partitions": partitions, "weights": [1.0] * len(partitions)}
    head = {"_id": "table", "version": 9, "identity": "old", "default_rule": rule, "published_at": NOW}
    control[name]["routing_state"].insert_one({**head, "image": {"version": 1, "pieces": 1}})


def test_an_old_table_is_read_and_rewritten_by_the_first_publication(control: MongoClient[Any], unique_name: str) -> None:
    old_table(control, unique_name, ["alpha"])
    store = MongoRoutingStore(control[unique_name])
    read = store.current()
    assert (read.version, locate(read, "new").primary, locate(read, "k1")) == (9, "alpha", Placement("k1", "beta", (), 4))
    assert store.placements(("new", "k1")) == {unit: locate(read, unit) for unit in ("new", "k1")}
    assert store.image() is None
    assert store.publish([listing("new", "beta")], "first publication") == 11
    table = store.current()
    assert (len(table.slots.placements), len(table.placements), table.version) == (4096, 4, 11)
    assert store.head()[1] != "old"
    assert store.counts() == ({"alpha": 4096}, {"beta": 4})
    assert {p.key for p in store.listed_in([SLOTS.space.slot_of("k1")])} == {"k1"}
    assert store.upgrade() is False


def test_an_old_table_that_hashes_keys_over_several_partitions_is_refused_in_one_line(
    control: MongoClient[Any], unique_name: str
) -> None:
    old_table(control, unique_name, ["alpha", "beta"])
    store = MongoRoutingStore(control[unique_name])
    for attempt in (store.current, store.upgrade, lambda: store.publish([listing("new", "beta")], "x")):
        with pytest.raises(TableNotUpgradable, match="hashes unlisted keys over 2 partitions"):
            attempt()
