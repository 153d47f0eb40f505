"""Documents that a TTL index deletes on both sides, each at its own moment, while their key moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from foreshard.model.unit_set import unit_set
from foreshard.move._unit_sync import UnitSync
from foreshard.stages import migrate
from foreshard.stores.partition.unit_copy import MongoUnitCopy


@pytest.fixture
def sessions(world):
    """Trips of the key that expire after 30 minutes: 50 have expired already, 50 have not. The monitors sleep."""
    for name, client in world.clients.items():
        client.admin.command("setParameter", 1, ttlMonitorEnabled=False)
        if name == "alpha":
            world.trips(name).create_index("seen", expireAfterSeconds=1_800)
    now = datetime.now(UTC)
    trip = {"at": {"station": world.key}}
    world.trips("alpha").insert_many({"_id": f"old {n}", **trip, "seen": now - timedelta(hours=1)} for n in range(50))
    world.trips("alpha").insert_many({"_id": f"new {n}", **trip, "seen": now} for n in range(50))
    yield world
    for client in world.clients.values():
        client.admin.command("setParameter", 1, ttlMonitorEnabled=True)


def expire(world, partition: str, upto: int) -> None:
    """What the monitor of a partition does at its next round, for some documents."""
    world.trips(partition).delete_many({"_id": {"$in": [f"old {n}" for n in range(upto)]}})


@pytest.mark.parametrize("world", ["key", "slot"], indirect=True)
@pytest.mark.parametrize("partition", ["alpha", "beta"])
def test_sessions_that_expire_on_one_side_while_they_are_copied_do_not_revert_the_move(sessions, partition, monkeypatch):
    world, count, rounds = sessions, MongoUnitCopy.count, []

    def expire_before_counting(self, *arguments):
        if self.partition_id == partition:
            rounds.append(1)
            expire(world, partition, 10 * len(rounds))
        return count(self, *arguments)

    monkeypatch.setattr(MongoUnitCopy, "count", expire_before_counting)
    assert world.move("alpha", "beta").state == "switched"
    assert rounds
    assert {f"new {n}" for n in range(50)} <= set(world.copies()["beta"])
    migrate.clean_moves(world.wiring)


def test_a_comparison_leaves_out_expired_documents_only_where_the_other_side_has_none(sessions):
    world = sessions
    assert world.move("alpha", "beta").state == "switched"
    expire(world, "beta", 20)
    units = unit_set([world.key], world.wiring.routing.space())
    source, target = (world.wiring.unit_copy(name, "a comparison", units) for name in ("alpha", "beta"))
    try:
        sync = UnitSync(source, target, 100)
        assert not any(sync.compare_all(lambda: None).values())
        assert sync.count_differences() == []
        world.trips("beta").delete_one({"_id": "new 7"})
        assert len(sync.count_differences()) == 1
        world.trips("beta").update_one({"_id": "old 30"}, {"$set": {"seen": datetime.now(UTC)}})
        assert len(sync.compare_all(lambda: None)[f"{world.database}.trips"]) == 2
    finally:
        source.close()
        target.close()


def test_what_a_ttl_index_deletes_from_the_stale_copy_is_not_forwarded_to_the_owner(sessions):
    world = sessions
    move_id = world.plan("alpha", "beta")
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    expire(world, "alpha", 50)
    world.trips("alpha").delete_one({"_id": "new 3"})
    migrate.tend_moves(world.wiring)
    assert set(world.copies()["beta"]) == {f"old {n}" for n in range(50)} | {f"new {n}" for n in range(50) if n != 3}
