"""Moves whose mover died while apps wait, partitions that do not answer, and undoing within the time that a copy is kept."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from foreshard.errors import FenceTimedOut, MoveHasEnded, Unreachable
from foreshard.model import Location, Partition, PlacementChange
from foreshard.stages import manual_moves, migrate
from foreshard.stages.moving.watchdog import MoveWatchdog
from foreshard.stores.partition.fences._lists import Taken
from foreshard.stores.partition.fences.fence import MongoFence
from foreshard.stores.partition.unit_copy import MongoUnitCopy


def silence(world, move_id: str) -> None:
    """End the lease of a mover that is gone."""
    moves = world.wiring.mongo.control_database["moves"]
    moves.update_one({"_id": move_id}, {"$set": {"lease_until": None}})


def settings(world, monkeypatch, **changes) -> None:
    limits = world.wiring.settings.migrate.model_copy(update=changes)
    monkeypatch.setattr(world.wiring, "settings", world.wiring.settings.model_copy(update={"migrate": limits}))


@pytest.fixture
def keep(world, monkeypatch):
    """Keep sources' copies for an hour."""
    settings(world, monkeypatch, source_kept=timedelta(hours=1))


def eventually(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_watchdog_lets_the_source_take_writes_again_after_its_mover_died_behind_the_fence(world):
    world.fill(20)
    move_id = world.plan("alpha", "beta")
    assert world.process(move_id, "fence-set@fenced").returncode != 0
    assert world.refused("alpha")
    silence(world, move_id)
    with MoveWatchdog(world.wiring, care=False):
        eventually(lambda: not world.refused("alpha"))
    assert world.state(move_id) == "catching_up"
    assert migrate.run_move(world.wiring, move_id).state == "switched"


def test_a_watchdog_opens_the_target_of_a_switched_move_whose_mover_died(world):
    world.fill(20)
    move_id = world.plan("alpha", "beta")
    assert world.process(move_id, "published").returncode != 0
    assert world.refused("beta")
    silence(world, move_id)
    with MoveWatchdog(world.wiring, care=True):
        eventually(lambda: world.state(move_id) == "done")
    assert not world.refused("beta")
    assert len(world.copies()["beta"]) == 20


def test_a_living_mover_is_not_rescued(world, cut_off):
    world.fill(20)
    move_id = world.plan("alpha", "beta")
    cut_off("fenced")
    world.run_until_cut_off(move_id)
    assert migrate.rescue_moves(world.wiring) == ()
    assert world.state(move_id) == "fenced"


def test_a_move_that_was_asked_to_stop_is_rescued_and_stays_stopped(world, cut_off):
    world.fill(20)
    move_id = world.plan("alpha", "beta")
    cut_off("fenced")
    world.run_until_cut_off(move_id)
    migrate.stop_move(world.wiring, move_id)
    silence(world, move_id)
    assert [s.state for s in migrate.rescue_moves(world.wiring)] == ["catching_up"]
    assert migrate.resume_moves(world.wiring) == ()
    assert not world.refused("alpha")


def test_an_open_transaction_on_the_target_delays_the_move_and_not_the_apps(world):
    world.fill(20)
    world.trips("beta").insert_one({"_id": "elsewhere", "at": {"station": "other"}})
    world.trips("beta").create_index([("at.station", 1)])
    client = world.clients["beta"]
    outcome, refused = [], []
    move_id = world.plan("alpha", "beta")
    with client.start_session() as session:
        session.start_transaction()
        world.trips("beta").update_one({"_id": "elsewhere"}, {"$set": {"n": 1}}, session=session)
        mover = threading.Thread(target=lambda: outcome.append(migrate.run_move(world.wiring, move_id)))
        mover.start()
        eventually(lambda: "beta" in (world.wiring.move_journal.get(move_id).notes.get("waiting") or ""))
        for _ in range(10):
            refused.append(world.refused("alpha"))
            time.sleep(0.1)
        session.commit_transaction()
    mover.join()
    assert not any(refused)
    assert outcome[0].state == "switched"
    assert world.wiring.move_journal.get(move_id).notes["waiting"] is None


def test_a_target_that_cannot_be_opened_at_once_is_opened_as_soon_as_it_can(world, monkeypatch):
    world.fill(20)
    move_id = world.plan("alpha", "beta")
    impose, refusals = MongoFence.impose, []

    def busy(self, taken, composed=None):
        state = world.state(move_id)
        if state == "switched" and len(refusals) < 5:
            refusals.append(world.wiring.move_journal.get(move_id).notes.get("waiting"))
            raise FenceTimedOut(f"{world.database}.trips", "open transactions kept its lock", timedelta(seconds=5))
        return impose(self, taken, composed)

    monkeypatch.setattr(MongoFence, "impose", busy)
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    assert any("the target can't be opened yet" in (said or "") for said in refusals)
    assert not world.refused("beta")


@pytest.fixture
def with_a_dead_partition(world):
    """A registered partition that does not answer."""
    here = Location("here", 37.8, -122.4)
    world.wiring.registry.register([Partition("gone", "here", 100.0, "mongodb://127.0.0.1:9/?directConnection=true")], [here])


def test_a_dead_partition_stops_no_move_between_others(world, with_a_dead_partition, cut_off):
    world.fill(20)
    stuck, other = world.plan("alpha", "gone", "someone"), world.plan("alpha", "beta")
    cut_off("fenced")
    world.run_until_cut_off(other)
    silence(world, other)
    assert [s.state for s in migrate.resume_moves(world.wiring)] == ["switched"]
    assert not world.refused("beta")
    assert world.state(stuck) == "planned"


def test_a_move_to_a_dead_partition_ends_with_one_line_and_its_key_is_free(world, with_a_dead_partition):
    world.fill(5)
    summary = world.move("alpha", "gone")
    assert summary.state == "reverted"
    assert summary.error == "partition gone at 127.0.0.1:9 does not answer; start it or correct its address"
    assert not world.refused("alpha")
    assert world.move("alpha", "beta").state == "switched"


def test_a_revert_needs_the_source_only(world, cut_off, monkeypatch):
    world.fill(20)
    move_id = world.plan("alpha", "beta")
    assert world.process(move_id, "fence-set@fenced").returncode != 0
    assert world.refused("alpha")
    claim = MongoUnitCopy.claim

    def dead(self, lease):
        if self.partition_id == "beta":
            raise Unreachable("partition beta", "127.0.0.1:9", "start it or correct its address")
        claim(self, lease)

    monkeypatch.setattr(MongoUnitCopy, "claim", dead)
    with pytest.raises(Unreachable, match="partition beta"):
        migrate.revert_move(world.wiring, move_id)
    assert world.state(move_id) == "reverting"
    assert "partition beta" in world.wiring.move_journal.get(move_id).notes["waiting"]
    assert not world.refused("alpha")
    monkeypatch.setattr(MongoUnitCopy, "claim", claim)
    assert [s.state for s in migrate.resume_moves(world.wiring)] == ["reverted"]
    assert world.copies()["beta"] == {}


def test_an_ended_move_cannot_be_taken(world):
    world.fill(5)
    move_id = world.plan("alpha", "beta")
    migrate.run_move(world.wiring, move_id)
    migrate.clean_moves(world.wiring)
    with pytest.raises(MoveHasEnded, match="is done"):
        world.wiring.move_journal.take(move_id)


@pytest.mark.parametrize("world", ["key", "slot"], indirect=True)
def test_an_undo_while_the_copy_is_kept_copies_nothing_and_brings_the_changes_back(world, keep):
    world.fill(300)
    move_id = world.plan("alpha", "beta")
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    world.trips("beta").update_one({"_id": f"{world.key}:1"}, {"$set": {"n": "new"}})
    world.trips("beta").delete_one({"_id": f"{world.key}:2"})
    world.trips("beta").insert_one({"_id": "since", "at": {"station": world.key}})
    world.trips("alpha").delete_one({"_id": f"{world.key}:3"})
    undone = manual_moves.undo_move(world.wiring, move_id)
    assert (undone.state, undone.documents, world.owner()) == ("switched", 0, "alpha")
    assert world.state(move_id) == "undone"
    events = [entry.event for entry in world.wiring.move_journal.get(undone.move_id).history]
    assert events == ["plan", "adopt", "fence", "switch"]
    there = world.copies()["alpha"]
    assert there[f"{world.key}:1"]["n"] == "new"
    assert "since" in there
    assert not {f"{world.key}:2", f"{world.key}:3"} & set(there)
    assert (len(there), world.refused("alpha"), world.refused("beta")) == (299, False, True)


def test_an_undo_can_be_undone_and_a_reverted_undo_leaves_the_owner_alone(world, keep, cut_off):
    world.fill(50)
    first = world.plan("alpha", "beta")
    migrate.run_move(world.wiring, first)
    cut_off("fenced")
    with pytest.raises(cut_off.error):
        manual_moves.undo_move(world.wiring, first)
    reverse = next(r for r in world.wiring.move_journal.find() if r.move.reason.code == "undo")
    assert migrate.revert_move(world.wiring, reverse.move_id).state == "reverted"
    assert (world.owner(), len(world.copies()["beta"]), world.copies()["alpha"]) == ("beta", 50, {})
    assert not world.refused("beta")


def test_after_its_cleaning_a_move_is_undone_by_a_copy(world):
    world.fill(50)
    move_id = world.plan("alpha", "beta")
    migrate.run_move(world.wiring, move_id)
    migrate.clean_moves(world.wiring)
    undone = manual_moves.undo_move(world.wiring, move_id)
    assert (undone.state, undone.documents, world.owner()) == ("switched", 51, "alpha")


def test_sessions_that_expire_on_the_stale_copy_stay_at_the_owner_where_they_were_refreshed(world, keep):
    world.fill(50)
    move_id = world.plan("alpha", "beta")
    migrate.run_move(world.wiring, move_id)
    world.trips("beta").update_many({"at.station": world.key}, {"$set": {"seen": "just now"}})
    time.sleep(0.01)
    world.trips("alpha").delete_many({"at.station": world.key})
    migrate.tend_moves(world.wiring)
    assert len(world.copies()["beta"]) == 50


def test_moves_in_opposite_directions_do_not_wait_for_each_other(world):
    keys = {f"there {n}": ("alpha", "beta") for n in range(3)} | {f"back {n}": ("beta", "alpha") for n in range(3)}
    world.wiring.routing.publish([PlacementChange(key, there, (), 0, 2) for key, (there, _) in keys.items()], "for a test")
    for key, (source, _) in keys.items():
        world.fill(20, source, key)
    move_ids = [world.plan(source, target, key) for key, (source, target) in keys.items()]
    outcome: dict[str, str] = {}

    def run(move_id: str) -> None:
        outcome[move_id] = migrate.run_move(world.wiring, move_id).state

    movers = [threading.Thread(target=run, args=(move_id,)) for move_id in move_ids]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()
    assert outcome == dict.fromkeys(move_ids, "switched")
    assert all(world.refused(source, key) and not world.refused(target, key) for key, (source, target) in keys.items())


def refuse(world, partition: str) -> None:
    """Leave a partition as a process does that dies right after a late ``collMod``: the validator refuses an owned key."""
    fence = next(f for f in world.wiring.fences(partition) if f.in_force().clauses or f.listed())
    lists = fence.listed()
    fence.impose(Taken(lists, lists.fence([world.key]), fence.in_force().revision))
    assert world.refused(partition)


def test_a_watchdog_repairs_a_fence_that_refuses_a_key_of_the_owner(world):
    world.fill(5)
    world.move("alpha", "beta")
    migrate.clean_moves(world.wiring)
    refuse(world, "beta")
    with MoveWatchdog(world.wiring, care=True):
        eventually(lambda: not world.refused("beta"))


def test_a_fence_is_repaired_while_a_move_between_other_partitions_is_under_way(world, cut_off):
    world.fill(5)
    world.move("alpha", "beta")
    migrate.clean_moves(world.wiring)
    refuse(world, "beta")
    cut_off("fenced")
    world.run_until_cut_off(world.plan("alpha", "gamma", "someone"))
    assert migrate.repair_settled_fences(world.wiring) == ("beta",)
    assert not world.refused("beta")
