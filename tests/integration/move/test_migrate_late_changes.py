"""The source's documents between fence and cleaning: late deletes, lifted fences, shadows on the target."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from foreshard.errors import MoveRefused
from foreshard.model import PlacementChange
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import Shadow
from foreshard.stages import migrate


def switch(world, documents: int = 20) -> str:
    """A move that has switched; its source is not cleaned."""
    world.fill(documents)
    move_id = world.plan("alpha", "beta")
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    return move_id


def test_a_late_delete_on_the_source_is_forwarded(world):
    move_id = switch(world)
    assert world.trips("alpha").delete_one({"_id": f"{world.key}:7"}).deleted_count == 1
    migrate.clean_moves(world.wiring)
    assert f"{world.key}:7" not in world.copies()["beta"]
    assert len(world.copies()["beta"]) == 19
    assert world.wiring.move_journal.get(move_id).counters["late_applied"] == 1


def test_a_late_delete_does_not_undo_a_later_write_on_the_target(world):
    move_id = switch(world)
    world.trips("alpha").delete_one({"_id": f"{world.key}:7"})
    time.sleep(0.01)
    again = {"_id": f"{world.key}:7", "at": {"station": world.key}, "n": 7, "pad": "x" * 100}
    world.trips("beta").replace_one({"_id": f"{world.key}:7"}, {**again, "n": 8})
    world.trips("beta").replace_one({"_id": f"{world.key}:7"}, again)
    migrate.clean_moves(world.wiring)
    assert world.copies()["beta"][f"{world.key}:7"] == again
    assert world.wiring.move_journal.get(move_id).counters["late_kept"] == 1


def test_a_late_delete_gives_way_to_any_write_at_the_owner_since_the_switch(world):
    move_id = switch(world)
    world.trips("beta").update_one({"_id": f"{world.key}:7"}, {"$set": {"n": -7}})
    time.sleep(0.01)
    world.trips("alpha").delete_one({"_id": f"{world.key}:7"})
    migrate.clean_moves(world.wiring)
    assert world.copies()["beta"][f"{world.key}:7"]["n"] == -7
    assert world.wiring.move_journal.get(move_id).counters["late_kept"] == 1


def test_a_cleaner_removes_nothing_from_a_partition_that_owns_the_key_again(world):
    switch(world)
    world.wiring.routing.publish([PlacementChange(world.key, "alpha", (), 2, 3)], "by another hand")
    with pytest.raises(MoveRefused, match="alpha owns"):
        migrate.clean_moves(world.wiring)
    assert len(world.copies()["alpha"]) == 20


def test_cleaning_does_not_forward_its_own_deletes_or_undo_what_apps_did_since(world):
    switch(world, 250)
    world.trips("beta").delete_one({"_id": f"{world.key}:1"})
    world.trips("beta").update_one({"_id": f"{world.key}:2"}, {"$set": {"n": "new"}})
    world.trips("beta").insert_one({"_id": "since", "at": {"station": world.key}})
    migrate.clean_moves(world.wiring)
    there = world.copies()["beta"]
    assert len(there) == 250
    assert f"{world.key}:1" not in there
    assert there[f"{world.key}:2"]["n"] == "new"
    assert world.copies()["alpha"] == {}


def test_a_fence_that_an_app_lifts_stands_again_and_what_slipped_through_is_forwarded(world):
    switch(world)
    world.clients["alpha"][world.database].command("collMod", "trips", validator={"n": {"$exists": True}})
    time.sleep(0.01)
    world.trips("alpha").insert_one({"_id": "slipped", "at": {"station": world.key}, "n": 1})
    world.trips("alpha").update_one({"_id": f"{world.key}:3"}, {"$set": {"n": "slipped"}})
    migrate.clean_moves(world.wiring)
    assert "slipped" in world.copies()["beta"]
    assert world.copies()["beta"][f"{world.key}:3"]["n"] == "slipped"
    assert world.copies()["alpha"] == {}
    assert world.refused("alpha")


def test_a_fence_lifted_after_the_move_is_imposed_again_by_the_next_hour(world):
    switch(world)
    migrate.clean_moves(world.wiring)
    world.clients["alpha"][world.database].command("collMod", "trips", validator={})
    assert not world.refused("alpha")
    assert migrate.repair_fences(world.wiring) == ("alpha",)
    assert world.refused("alpha")


def test_a_fence_lifted_between_drain_and_switch_is_set_again_before_the_switch(world, cut_off):
    world.fill(20)
    move_id = world.plan("alpha", "beta")
    cut_off("fenced")
    world.run_until_cut_off(move_id)
    world.clients["alpha"][world.database].command("collMod", "trips", validator={})
    world.trips("alpha").insert_one({"_id": "slipped", "at": {"station": world.key}})
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    assert "slipped" in world.copies()["beta"]
    events = [entry.event for entry in world.wiring.move_journal.get(move_id).history]
    assert "retreat" in events


def test_documents_deleted_behind_the_fence_are_not_on_the_target_when_it_opens(world, cut_off):
    world.fill(20)
    move_id = world.plan("alpha", "beta")
    cut_off("switched")
    world.run_until_cut_off(move_id)
    world.trips("alpha").delete_many({"_id": {"$in": [f"{world.key}:{n}" for n in range(5)]}})
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    assert len(world.copies()["beta"]) == 15


def test_the_sources_copy_is_kept_for_a_while_and_until_the_sidecars_follow(world, monkeypatch):
    from datetime import timedelta

    def keep(kept: timedelta) -> None:
        limits = world.wiring.settings.migrate.model_copy(update={"source_kept": kept})
        monkeypatch.setattr(world.wiring, "settings", world.wiring.settings.model_copy(update={"migrate": limits}))

    keep(timedelta(hours=1))
    move_id = switch(world)
    world.wiring.routing.acknowledge("sidecar-1", 2)
    assert migrate.clean_moves(world.wiring, wait=False) == ()
    assert (world.state(move_id), len(world.copies()["alpha"])) == ("switched", 20)
    keep(timedelta())
    world.wiring.routing.acknowledge("sidecar-1", 1)
    assert migrate.clean_moves(world.wiring, wait=False) == ()
    world.wiring.routing.acknowledge("sidecar-1", 2)
    assert [s.state for s in migrate.clean_moves(world.wiring, wait=False)] == ["done"]


def shadow_on_beta(world) -> Shadow:
    """A live shadow of the key on beta that has missed some changes."""
    from foreshard.stores.control.shadows import MongoShadowStore

    shadow = Shadow(f"{world.key}|beta", world.key, "alpha", "beta", ShadowState.LIVE, 1, 1, "hot", datetime.now(UTC))
    MongoShadowStore(world.wiring.mongo.control_database).create(shadow)
    world.wiring.replica("beta").prepare(world.key, 1)
    world.wiring.routing.publish([PlacementChange(world.key, "alpha", ("beta",), 1, 1)], "shadow")
    world.trips("beta").with_options().database.command(
        "insert",
        "trips",
        documents=[{"_id": f"{world.key}:{n}", "at": {"station": world.key}, "n": -n} for n in (0, 1, 99)],
        bypassDocumentValidation=True,
    )
    return shadow


def test_a_shadow_on_the_target_is_absorbed(world):
    from foreshard.stores.control.shadows import MongoShadowStore

    world.fill(20)
    shadow = shadow_on_beta(world)
    assert world.move("alpha", "beta").state == "switched"
    placement = world.wiring.routing.placement(world.key)
    assert (placement.primary, placement.shadows) == ("beta", ())
    assert MongoShadowStore(world.wiring.mongo.control_database).get(shadow.shadow_id).state is ShadowState.RETIRED
    assert sorted(d["n"] for d in world.copies()["beta"].values()) == list(range(20))
    assert not world.refused("beta")


def test_a_reverted_move_leaves_no_shadow_that_nobody_feeds(world, cut_off):
    world.fill(20)
    shadow_on_beta(world)
    move_id = world.plan("alpha", "beta")
    cut_off("catching_up")
    world.run_until_cut_off(move_id)
    assert world.wiring.routing.placement(world.key).shadows == ("beta",)
    migrate.revert_move(world.wiring, move_id)
    assert world.wiring.routing.placement(world.key).shadows == ()
    assert world.copies()["beta"] == {}
