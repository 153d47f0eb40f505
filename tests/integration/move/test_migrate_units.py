"""Moves of sets of units: slots and keys together, what excludes each other, and keys that are not strings."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from bson import Int64

from foreshard.errors import MoveRefused, SlotIsMoving
from foreshard.model import Move, PlacementChange, Plan, Reason
from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.routing.table import locate
from foreshard.stages import manual_moves, migrate
from foreshard.stores.control.move_journal import MongoMoveJournal

HOUR = datetime(2026, 1, 5, 8, tzinfo=UTC)
WHY = Reason("r", "s", {})
SPACE = KeySpace()
by_slot = pytest.mark.parametrize("world", ["slot"], indirect=True)


def neighbours(world, count: int) -> list[str]:
    """Other keys of the slot of the world's key."""
    slot, found, number = SPACE.slot_of(world.key), [], 0
    while len(found) < count:
        found += [f"key {number}"] if SPACE.slot_of(f"key {number}") == slot else []
        number += 1
    return found


@by_slot
def test_a_slot_moves_with_all_its_keys_except_the_listed_ones(world):
    mate, listed = neighbours(world, 2)
    for key in (world.key, mate, listed):
        world.fill(30, key=key)
    world.wiring.routing.publish([PlacementChange(listed, "alpha", (), 0, 2)], "listed")
    summary = world.move("alpha", "beta")
    assert (summary.state, summary.documents) == ("switched", 62)
    migrate.clean_moves(world.wiring)
    for key, owner in ((world.key, "beta"), (mate, "beta"), (listed, "alpha")):
        copies = {name: len(documents) for name, documents in world.copies(key).items()}
        assert copies == {"alpha": 0, "beta": 0, "gamma": 0, owner: 30}
        assert {name: world.refused(name, key) for name in ("alpha", "beta")} == {
            "alpha": owner == "beta",
            "beta": owner == "alpha",
        }
        assert world.owner(key) == owner
    assert world.trips("alpha").count_documents({"at.station": "other"}) == 90


@by_slot
def test_slots_and_keys_move_together_and_a_key_at_home_is_not_listed_any_more(world):
    [mate] = neighbours(world, 1)
    world.fill(10)
    world.fill(10, key=mate)
    world.wiring.routing.publish([PlacementChange(mate, "alpha", (), 0, 5)], "listed")
    units = [world.unit, mate, "stranger"]
    assert manual_moves.describe_move(world.wiring, units, "beta").documents == {
        f"{world.database}.trips": 20, f"{world.database}.stations": 2,
    }  # fmt: skip
    assert manual_moves.move_units(world.wiring, units, "beta").state == "switched"
    table = world.wiring.routing.current()
    assert set(table.placements) == {"stranger"}
    assert {locate(table, key).primary for key in (world.key, mate, "stranger")} == {"beta"}
    assert locate(table, mate).epoch > 5
    assert world.owner("other") == "alpha"
    migrate.clean_moves(world.wiring)
    move_id = world.wiring.move_journal.find()[-1].move_id
    assert manual_moves.undo_move(world.wiring, move_id).state == "switched"
    assert set(world.wiring.routing.current().placements) == set()
    assert {name: len(found) for name, found in world.copies(mate).items()}["alpha"] == 10


@by_slot
def test_a_document_that_leaves_its_slot_while_it_moves_stays_at_its_source(world, monkeypatch):
    from foreshard.stores.partition.unit_copy import MongoUnitCopy

    world.fill(20)
    claim, changed = MongoUnitCopy.prepare, []

    def change(self, shape):
        if not changed and self.partition_id == "beta":
            changed.append(1)
            world.trips("alpha").update_one({"_id": f"{world.key}:3"}, {"$set": {"at.station": "other"}})
            world.trips("alpha").update_one({"_id": f"other-alpha:{world.key}:3"}, {"$set": {"at.station": world.key}})
        return claim(self, shape)

    monkeypatch.setattr(MongoUnitCopy, "prepare", change)
    assert world.move("alpha", "beta").state == "switched"
    migrate.clean_moves(world.wiring)
    there = world.copies()["beta"]
    assert f"other-alpha:{world.key}:3" in there
    assert f"{world.key}:3" not in there
    assert f"{world.key}:3" in world.copies("other")["alpha"]


@by_slot
def test_a_slot_without_a_hashed_index_moves_all_the_same(world, caplog):
    world.fill(20)
    world.trips("alpha").insert_one({"_id": "two", "at": {"station": ["x", "y"]}})
    assert world.move("alpha", "beta").documents == 21
    assert "can't have a hashed index on at.station" in caplog.text
    assert len(world.copies()["beta"]) == 20
    migrate.clean_moves(world.wiring)
    assert world.trips("alpha").count_documents({}) == 21


@pytest.mark.parametrize("world", ["int"], indirect=True)
@pytest.mark.parametrize("unit", ["key", "slot"])
def test_documents_of_integer_keys_move(world, unit):
    """An integer key once "moved" with 0 documents, and was routed to where it was not."""
    space = world.wiring.routing.space()
    trips = world.trips("alpha")
    trips.insert_many([{"_id": n, "at": {"station": value}} for n, value in enumerate([7, Int64(7), 7.0, "7", 7.5, 8, None])])
    units = ["7"] if unit == "key" else [slot_unit(space.slot_of("7"))]
    summary = manual_moves.move_units(world.wiring, units, "beta")
    migrate.clean_moves(world.wiring)
    assert (summary.state, summary.documents) == ("switched", 3)
    assert sorted(d["_id"] for d in world.trips("beta").find()) == [0, 1, 2]
    assert sorted(d["_id"] for d in trips.find()) == [3, 4, 5, 6]


@by_slot
def test_a_move_of_a_slot_excludes_moves_and_listings_of_its_keys(world):
    mate, other = neighbours(world, 2)
    journal, routing = world.wiring.move_journal, world.wiring.routing
    first = world.plan("alpha", "beta")
    for name, units in (("key", (mate,)), ("slot", (world.unit, slot_unit(3)))):
        assert (
            journal.plan(Move(name, units, "alpha", "beta", 1, "c", WHY), HOUR).error == f"skipped: move {first} is under way"
        )
    assert journal.plan(Move("free", ("stranger", slot_unit(4)), "alpha", "beta", 1, "c", WHY), HOUR).error is None
    with pytest.raises(SlotIsMoving):
        routing.publish([PlacementChange(mate, "alpha", ("gamma",), 0, 2)], "shadow")
    migrate.run_move(world.wiring, first)
    migrate.clean_moves(world.wiring)
    assert journal.plan(Move("after", (mate,), "beta", "alpha", 1, "c", WHY), HOUR).error is None
    assert journal.plan(Move("beside", (other,), "beta", "alpha", 1, "c", WHY), HOUR).error is None
    assert "after" in journal.plan(Move("whole", (world.unit,), "beta", "alpha", 1, "c", WHY), HOUR).error


@by_slot
def test_of_conflicting_moves_planned_at_once_one_is_open(world):
    [mate] = neighbours(world, 1)
    moves = [Move(f"m{n}", ((world.unit,), (mate, "x"))[n % 2], "alpha", "beta", 1, "c", WHY) for n in range(8)]
    barrier = threading.Barrier(len(moves))

    def plan(move: Move) -> None:
        journal = MongoMoveJournal(world.wiring.mongo.control_database, timedelta(seconds=5))
        barrier.wait()
        journal.plan(move, HOUR)

    threads = [threading.Thread(target=plan, args=(move,)) for move in moves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = world.wiring.move_journal.find()
    assert len(records) == 8
    assert [record.state for record in records if record.error is None] == ["planned"]


@by_slot
def test_units_that_are_elsewhere_are_dropped_before_a_planned_move_begins(world):
    world.fill(5)
    world.wiring.routing.publish([PlacementChange("away", "gamma", (), 0, 2)], "someone else")
    move = Move("m", (world.unit, "away"), "alpha", "beta", 1, "c", WHY)
    world.wiring.move_journal.plan(move, HOUR)
    assert migrate.run_move(world.wiring, "m").state == "switched"
    record = world.wiring.move_journal.get("m")
    assert (record.move.units, record.notes["dropped"]) == ((world.unit,), ["away"])
    assert (world.owner(), world.owner("away")) == ("beta", "gamma")


def test_units_of_several_partitions_are_no_manual_move(world):
    world.wiring.routing.publish([PlacementChange("away", "gamma", (), 0, 2)], "someone else")
    with pytest.raises(MoveRefused, match="'away' on gamma"):
        manual_moves.move_units(world.wiring, [world.key, "away"], "beta")


def test_journals_and_plans_of_one_key_are_read(world):
    database = world.wiring.mongo.control_database
    move_id = world.plan("alpha", "beta")
    for name in database["moves"].index_information():
        if name != "_id_":
            database["moves"].drop_index(name)
    database["moves"].update_one({"_id": move_id}, [{"$set": {"key": {"$first": "$units"}}}, {"$unset": "units"}])
    database["moves"].create_index("key", name="one_active_move_per_key", unique=True, partialFilterExpression={"active": True})
    assert MongoMoveJournal(database, timedelta(seconds=5)).get(move_id).move.units == (world.key,)
    other = MongoMoveJournal(database, timedelta(seconds=5))
    again = other.plan(Move("again", (world.key,), "alpha", "gamma", 1, "c", Reason("r", "s", {})), HOUR)
    assert again.error == f"skipped: move {move_id} is under way"
    assert other.plan(Move("third", ("third",), "alpha", "gamma", 1, "c", Reason("r", "s", {})), HOUR).error is None
    world.wiring.plans.save(Plan(HOUR, 1, (again.move,)))
    row = {"$set": {"moves.0.key": world.key}, "$unset": {"moves.0.units": 1}}
    database["plans"].update_one({"_id": HOUR}, row)
    assert world.wiring.plans.load(HOUR).moves == (again.move,)
