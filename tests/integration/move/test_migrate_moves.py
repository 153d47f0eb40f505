"""What a move does and what it refuses, case by case, on real replica sets."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pymongo.errors import WriteError

from foreshard.errors import MoveSuperseded, UnknownPartition
from foreshard.model import Move, PlacementChange, Plan, Reason
from foreshard.model.unit_set import unit_set
from foreshard.move.context import MoveContext
from foreshard.stages import manual_moves, migrate
from foreshard.stages.moving import context as moving_context
from foreshard.stores.partition.fences.fence_validator import read_options
from foreshard.stores.partition.unit_copy import MongoUnitCopy

HOUR = datetime(2026, 1, 5, 8, tzinfo=UTC)


def test_a_key_moves_with_its_documents_in_every_collection_and_others_stay(world):
    world.fill(250)
    summary = world.move("alpha", "beta")
    assert (summary.state, summary.documents, summary.version) == ("switched", 251, 2)
    assert world.wiring.routing.placement(world.key).epoch == 2
    assert [s.state for s in migrate.clean_moves(world.wiring)] == ["done"]
    assert world.trips("alpha").count_documents({}) == 250
    assert world.trips("beta").count_documents({}) == 250
    assert world.stations("alpha").count_documents({}) == 0
    assert world.stations("beta").find_one({"name": world.key})["docks"] == 27


def test_a_stale_client_is_refused_at_the_source_for_good_and_others_are_not(world):
    world.fill(10)
    world.move("alpha", "beta")
    assert world.refused("alpha")
    assert not world.refused("beta")
    assert not world.refused("alpha", "other")
    with pytest.raises(WriteError, match="failed validation"):
        world.trips("alpha").update_one({"_id": f"{world.key}:1"}, {"$set": {"n": -1}})
    migrate.clean_moves(world.wiring)
    assert world.refused("alpha")


def test_a_key_comes_back_and_is_served_there_again(world):
    world.fill(10)
    for source, target in (("alpha", "beta"), ("beta", "gamma"), ("gamma", "alpha")):
        assert world.move(source, target).state == "switched"
        migrate.clean_moves(world.wiring)
    assert not world.refused("alpha")
    assert world.refused("beta")
    assert world.refused("gamma")
    assert len(world.copies()["alpha"]) == 10


def test_a_key_that_holds_no_document_is_switched_all_the_same(world):
    summary = world.move("alpha", "beta")
    assert (summary.state, summary.documents, world.owner()) == ("switched", 0, "beta")
    assert [s.state for s in migrate.clean_moves(world.wiring)] == ["done"]


def test_exact_documents_with_any_id_arrive(world):
    from bson import Decimal128, Int64, ObjectId, Timestamp

    ids = [1, Int64(2), 3.5, "x", ObjectId(), {"b": 1, "a": [1, {"c": None}]}, Decimal128("1.10"), None, True, b"\x00"]
    documents = [
        {"_id": i, "at": {"station": world.key}, "z": Int64(1), "a": {"$dollar": 1}, "t": Timestamp(5, 1)} for i in ids
    ]
    world.trips("alpha").insert_many(documents)
    before = list(world.trips("alpha").find({"at.station": world.key}))
    assert world.move("alpha", "beta").state == "switched"
    assert list(world.trips("beta").find({"at.station": world.key})) == before


def test_the_apps_validator_and_indexes_hold_on_source_and_target(world):
    own = {"n": {"$exists": True}}
    alpha = world.clients["alpha"][world.database]
    alpha.create_collection("trips", validator=own)
    alpha["trips"].create_index("n", unique=True, partialFilterExpression={"n": {"$gt": 5}}, name="by_n")
    world.fill(5)
    world.move("alpha", "beta")
    migrate.clean_moves(world.wiring)
    beta = world.clients["beta"][world.database]
    options = next(iter(beta.list_collections(filter={"name": "trips"})))["options"]
    assert read_options(options, world.wiring.settings.sharded_collections[0]).rules.validator == own
    assert "by_n" in beta["trips"].index_information()
    for partition in ("alpha", "beta"):
        with pytest.raises(WriteError, match="failed validation"):
            world.trips(partition).insert_one({"_id": "without n", "at": {"station": "other"}})


def test_a_superseded_mover_cannot_write_fence_or_switch_any_more(world, monkeypatch):
    world.fill(300)
    move_id = world.plan("alpha", "beta")
    asleep, awake, outcome = threading.Event(), threading.Event(), []
    write = MongoUnitCopy.write

    def slow(self, *arguments):
        if threading.current_thread() is old and not asleep.is_set():
            asleep.set()
            awake.wait(30)
        write(self, *arguments)

    def delayed():
        try:
            outcome.append(migrate.run_move(world.wiring, move_id))
        except MoveSuperseded as error:
            outcome.append(error)

    monkeypatch.setattr(MongoUnitCopy, "write", slow)
    old = threading.Thread(target=delayed)
    old.start()
    assert asleep.wait(30)
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    world.trips("beta").update_one({"_id": f"{world.key}:0"}, {"$set": {"n": "new"}})
    world.trips("beta").delete_one({"_id": f"{world.key}:1"})
    awake.set()
    old.join()
    assert isinstance(outcome[0], MoveSuperseded)
    assert world.copies()["beta"][f"{world.key}:0"]["n"] == "new"
    assert f"{world.key}:1" not in world.copies()["beta"]
    stale = world.wiring.unit_copy("alpha", move_id, unit_set([world.key], world.wiring.routing.space()))
    with pytest.raises(MoveSuperseded):
        stale.claim(1)
    assert world.refused("alpha")


def test_keys_that_leave_a_partition_at_once_keep_both_fences(world):
    keys = [f"key {n}" for n in range(4)]
    for key in keys:
        world.fill(50, key=key)
    move_ids = [world.plan("alpha", "beta", key) for key in keys]
    outcome: dict[str, str] = {}

    def run(move_id: str) -> None:
        outcome[move_id] = migrate.run_move(world.wiring, move_id).state

    threads = [threading.Thread(target=run, args=(move_id,)) for move_id in move_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome == dict.fromkeys(move_ids, "switched")
    assert all(world.refused("alpha", key) and not world.refused("beta", key) for key in keys)


def test_documents_that_change_their_key_while_it_moves_come_along_or_stay(world, monkeypatch):
    world.fill(50)
    caught_up = MongoUnitCopy.count
    changed = []

    def change(self):
        if not changed:
            changed.append(1)
            world.trips("alpha").update_one({"_id": f"{world.key}:3"}, {"$set": {"at.station": "other"}})
            world.trips("alpha").update_one({"_id": f"other-alpha:{world.key}:3"}, {"$set": {"at.station": world.key}})
        return caught_up(self)

    monkeypatch.setattr(MongoUnitCopy, "count", change)
    assert world.move("alpha", "beta").state == "switched"
    world.trips("alpha").update_one({"_id": f"{world.key}:4"}, {"$set": {"at.station": "other"}})
    migrate.clean_moves(world.wiring)
    there = world.copies()["beta"]
    assert f"other-alpha:{world.key}:3" in there
    assert not {f"{world.key}:3", f"{world.key}:4"} & set(there)
    assert {f"{world.key}:3", f"{world.key}:4"} <= set(world.copies("other")["alpha"])


def test_a_plan_that_is_out_of_date_is_skipped_with_its_reason(world):
    world.fill(5)
    world.wiring.routing.publish([PlacementChange(world.key, "gamma", (), 1, 2)], "someone else")
    summary = world.move("alpha", "beta")
    assert summary.state == "reverted"
    assert summary.error == f"skipped: {world.key!r} is on gamma, not on alpha"
    assert not world.refused("alpha")


def test_a_key_has_one_active_move(world):
    first = world.plan("alpha", "beta")
    second = world.plan("alpha", "gamma")
    assert world.state(first) == "planned"
    assert world.wiring.move_journal.get(second).error == f"skipped: move {first} is under way"
    migrate.run_move(world.wiring, first)
    migrate.clean_moves(world.wiring)
    assert world.state(world.plan("beta", "alpha")) == "planned"


def test_an_id_that_another_key_has_on_the_target_refuses_the_move_and_reverts_it(world):
    world.fill(5)
    world.trips("beta").insert_one({"_id": f"{world.key}:2", "at": {"station": "somebody else"}})
    summary = world.move("alpha", "beta")
    assert summary.state == "reverted"
    assert "a document of another key with the same _id" in summary.error
    assert world.trips("beta").count_documents({}) == 1
    assert not world.refused("alpha")


def test_a_document_with_two_keys_refuses_the_move(world):
    world.trips("alpha").insert_one({"_id": 1, "at": {"station": [world.key, "other"]}})
    summary = world.move("alpha", "beta")
    assert summary.state == "reverted"
    assert "inside an array" in summary.error


def test_a_collection_dropped_while_its_key_moves_reverts_the_move(world, cut_off):
    world.fill(5)
    move_id = world.plan("alpha", "beta")
    cut_off("catching_up")
    world.run_until_cut_off(move_id)
    world.trips("alpha").drop()
    summary = migrate.run_move(world.wiring, move_id)
    assert summary.state == "reverted"
    assert "drop of" in summary.error


def test_a_move_stops_at_its_next_batch_and_resumes(world, monkeypatch):
    world.fill(300)
    move_id = world.plan("alpha", "beta")
    write = MongoUnitCopy.write

    def stop(self, *arguments):
        write(self, *arguments)
        migrate.stop_move(world.wiring, move_id)

    monkeypatch.setattr(MongoUnitCopy, "write", stop)
    monkeypatch.setattr(moving_context, "MoveContext", partial(MoveContext, beat_every=timedelta(0)))
    paused = migrate.run_move(world.wiring, move_id)
    assert paused.state in ("copying", "catching_up")
    assert migrate.resume_moves(world.wiring) == ()
    monkeypatch.setattr(MongoUnitCopy, "write", write)
    assert migrate.run_move(world.wiring, move_id).state == "switched"


def test_an_unknown_target_is_one_clear_line(world):
    with pytest.raises(UnknownPartition, match="unknown partition 'delta'"):
        manual_moves.move_units(world.wiring, [world.key], "delta")


def test_the_plans_moves_are_journalled_once_and_those_at_their_end_are_not_started_again(world):
    world.fill(5)
    moves = tuple(
        Move(f"m{n}", (key,), "alpha", target, 1, "clump", Reason("overload", "too hot", {}))
        for n, (key, target) in enumerate(((world.key, "beta"), ("b", "gamma")))
    )
    world.wiring.plans.save(Plan(HOUR, 1, moves))
    assert migrate.start_moves(world.wiring, HOUR) == ("m0", "m1")
    assert migrate.run_move(world.wiring, "m0").state == "switched"
    migrate.clean_moves(world.wiring, HOUR)
    assert migrate.start_moves(world.wiring, HOUR) == ("m1",)


def test_a_dry_run_starts_nothing(world):
    world.wiring.plans.save(
        Plan(HOUR, 1, (Move("m", (world.key,), "alpha", "beta", 1, "c", Reason("r", "s", {})),), dry_run=True)
    )
    assert migrate.start_moves(world.wiring, HOUR) == ()
    assert world.wiring.move_journal.find() == ()


def test_a_move_that_nobody_began_gives_way_to_the_next_hours_plan(world):
    old = Move("old", (world.key,), "alpha", "gamma", 1, "c", Reason("r", "s", {}))
    world.wiring.plans.save(Plan(HOUR, 1, (old,)))
    assert migrate.start_moves(world.wiring, HOUR) == ("old",)
    later = HOUR + timedelta(hours=1)
    world.wiring.plans.save(Plan(later, 1, (Move("new", (world.key,), "alpha", "beta", 1, "c", Reason("r", "s", {})),)))
    assert migrate.start_moves(world.wiring, later) == ("new",)
    assert world.wiring.move_journal.get("old").error == "skipped: the plan of 2026-01-05T09Z replaces it"
    assert migrate.run_move(world.wiring, "old").state == "reverted"
    assert migrate.run_move(world.wiring, "new").state == "switched"
