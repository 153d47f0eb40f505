"""What plain clients write on a partition that does not own the key: nothing that was acknowledged is swept uncounted."""

from __future__ import annotations

from foreshard.errors import MoveRefused
from foreshard.stages import migrate
from foreshard.stores.partition.unit_copy import MongoUnitCopy


def during_copy(monkeypatch, act) -> None:
    """Call ``act`` once, after the first copied batch."""
    write, called = MongoUnitCopy.write, []

    def write_and_act(self, *arguments, **named):
        write(self, *arguments, **named)
        if not called:
            called.append(1)
            act()

    monkeypatch.setattr(MongoUnitCopy, "write", write_and_act)


def counters(world, move_id: str):
    return world.wiring.move_journal.get(move_id).counters


def test_a_stray_that_the_owner_does_not_have_is_merged_and_another_version_is_set_aside(world):
    world.fill(5)
    world.trips("beta").insert_one({"_id": "stray", "at": {"station": world.key}, "n": 1})
    world.trips("beta").insert_one({"_id": f"{world.key}:1", "at": {"station": world.key}, "n": "another"})
    move_id = world.plan("alpha", "beta")
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    there = world.copies()["beta"]
    assert there["stray"]["n"] == 1
    assert there[f"{world.key}:1"]["n"] == 1
    kept = world.clients["beta"][world.wiring.settings.control_database]["strays"].find({"move_id": move_id})
    assert {(each["document"]["_id"], each["namespace"]) for each in kept} == {
        ("stray", f"{world.database}.trips"),
        (f"{world.key}:1", f"{world.database}.trips"),
    }
    assert (counters(world, move_id)["strays"], counters(world, move_id)["strays_merged"]) == (2, 1)


def test_a_stray_that_a_unique_index_of_the_owner_refuses_is_set_aside(world):
    world.fill(5)
    world.trips("alpha").create_index("n", unique=True, partialFilterExpression={"at.station": world.key})
    world.trips("beta").insert_one({"_id": "stray", "at": {"station": world.key}, "n": 1})
    move_id = world.plan("alpha", "beta")
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    assert "stray" not in world.copies()["beta"]
    assert (counters(world, move_id)["strays"], counters(world, move_id)["strays_merged"]) == (1, 0)


def test_a_plain_clients_delete_of_a_copied_document_is_forwarded_to_the_owner(world, monkeypatch):
    world.fill(150)
    deleted = []

    def delete():
        for name in world.copies()["beta"]:
            deleted.append(name)
            world.trips("beta").delete_one({"_id": name})

    during_copy(monkeypatch, delete)
    move_id = world.plan("alpha", "beta")
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    assert deleted
    assert not set(deleted) & set(world.copies()["beta"])
    assert counters(world, move_id)["strays_merged"] == len(deleted)


def test_a_plain_clients_delete_gives_way_to_a_write_at_the_owner(world, monkeypatch):
    world.fill(150)
    changed = []

    def act():
        name = next(iter(world.copies()["beta"]))
        changed.append(name)
        world.trips("alpha").update_one({"_id": name}, {"$set": {"n": "routed"}})
        world.trips("beta").delete_one({"_id": name})

    during_copy(monkeypatch, act)
    assert world.move("alpha", "beta").state == "switched"
    assert world.copies()["beta"][changed[0]]["n"] == "routed"


def test_a_key_change_of_a_copied_document_leaves_it_on_one_partition(world, monkeypatch):
    world.fill(150)
    changed = []

    def change():
        name = next(iter(world.copies()["beta"]))
        changed.append(name)
        world.trips("beta").update_one({"_id": name}, {"$set": {"at.station": "at home on beta"}})

    world.wiring.routing.publish([listed("at home on beta", "beta")], "test")
    during_copy(monkeypatch, change)
    assert world.move("alpha", "beta").state == "switched"
    migrate.clean_moves(world.wiring)
    standing = [name for name in ("alpha", "beta") if world.trips(name).count_documents({"_id": changed[0]})]
    assert standing == ["beta"]
    assert world.trips("beta").find_one({"_id": changed[0]})["at"]["station"] == "at home on beta"


def listed(key: str, partition: str):
    from foreshard.model import PlacementChange

    return PlacementChange(key, partition, (), 0, 2)


def copied_elsewhere(world, cut_off) -> tuple[str, str]:
    """A move that is cut off when it has copied, and a document of its key. Another key of alpha is listed, "second"."""
    world.wiring.routing.publish([listed("second", "alpha")], "test")
    world.fill(5)
    world.fill(5, key="second")
    move_id = world.plan("alpha", "beta")
    cut_off("catching_up")
    world.run_until_cut_off(move_id)
    return move_id, f"{world.key}:1"


def give_the_second_key(world, name: str) -> None:
    world.trips("alpha").update_one({"_id": name}, {"$set": {"at.station": "second"}})


def test_what_another_mover_removes_is_no_delete_of_an_app(world, cut_off, monkeypatch):
    """A document changes from the key of one move to that of another, and the first mover removes its copy later."""
    first, name = copied_elsewhere(world, cut_off)
    give_the_second_key(world, name)
    write, resumed = MongoUnitCopy.write, []

    def refused_and_resumed(self, *arguments, **named):
        try:
            write(self, *arguments, **named)
        except MoveRefused:
            if not resumed:
                resumed.append(migrate.run_move(world.wiring, first).state)
            raise

    monkeypatch.setattr(MongoUnitCopy, "write", refused_and_resumed)
    assert world.move("alpha", "beta", "second").state == "reverted"
    assert resumed == ["switched"]
    assert world.trips("alpha").find_one({"_id": name})["at"]["station"] == "second"


def test_a_delete_gives_way_to_a_write_at_the_owner_that_comes_just_before_the_copy(world, cut_off, monkeypatch):
    """A plain client deletes another move's copy, and a routed one changes the document, while the second move begins."""
    _, name = copied_elsewhere(world, cut_off)
    now, done = MongoUnitCopy.now, []

    def now_and_act(self):
        position = now(self)
        if self.partition_id == "beta" and not done:
            done.append(world.trips("beta").delete_one({"_id": name}).deleted_count)
            give_the_second_key(world, name)
            world.trips("alpha").insert_one({"_id": "later", "at": {"station": "other"}})
        return position

    monkeypatch.setattr(MongoUnitCopy, "now", now_and_act)
    assert world.move("alpha", "beta", "second").state == "switched"
    assert done == [1]
    assert world.trips("beta").find_one({"_id": name})["at"]["station"] == "second"
