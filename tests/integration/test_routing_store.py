"""The routing table in a real MongoDB: publications, conflicts, the first table."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from tests.slots import slot_map

from foreshard.errors import (
    InvalidChange,
    NoRoutingTable,
    RoutingTableStands,
    StaleEpoch,
)
from foreshard.model import Placement, PlacementChange, RoutingTable
from foreshard.stores.control.routing.store import MongoRoutingStore

NOW = datetime(2025, 1, 1, tzinfo=UTC)
RULE = slot_map(("alpha", "beta"), (1.0, 3.0))
ODD = "$a.b/c%20 日本\u0000é"


@pytest.fixture
def store(control, unique_name) -> MongoRoutingStore:
    return MongoRoutingStore(control[unique_name])


def first(keys: int, version: int = 1) -> RoutingTable:
    return RoutingTable(version, {f"k{n}": Placement(f"k{n}", "alpha") for n in range(keys)}, RULE, NOW)


def move(key: str, to: str, epoch: int, shadows: tuple[str, ...] = ()) -> PlacementChange:
    return PlacementChange(key, to, shadows, epoch, epoch + 1)


def test_nothing_published_is_version_0_and_has_no_table(store):
    assert (store.version(), store.head(), store.since(0)) == (0, (0, ""), ())
    with pytest.raises(NoRoutingTable, match="publish one with foreshard table init"):
        store.current()
    with pytest.raises(NoRoutingTable):
        store.publish([move("k", "beta", 0)], "too early")


def test_the_first_table_is_read_back_as_it_was_published(store):
    table = RoutingTable(1, {ODD: Placement(ODD, "alpha", ("beta",), 4), "b": Placement("b", "beta")}, RULE, NOW)
    store.initialise(table)
    assert store.current() == table
    assert store.version() == 1
    assert [(p.version, p.changes) for p in store.since(0)] == [(1, ())]


def test_initialising_again_changes_nothing(store):
    store.initialise(first(3))
    version, identity = store.head()
    store.publish([move("k1", "beta", 1)], "move")
    store.initialise(first(3))
    assert (version, store.head()) == (1, (2, identity))
    assert store.current().placements["k1"] == Placement("k1", "beta", (), 2)
    with pytest.raises(RoutingTableStands, match="at version 2, so version 5"):
        store.initialise(first(3, version=5))


def test_a_publication_is_one_version_with_all_its_changes(store):
    store.initialise(first(3))
    version = store.publish([move("k0", "beta", 1, ("alpha",)), move(ODD, "beta", 0)], "rebalance 2025-01-01T00:00Z")
    assert version == 2
    (publication,) = store.since(1)
    assert (publication.version, publication.cause) == (2, "rebalance 2025-01-01T00:00Z")
    assert publication.changes == (move("k0", "beta", 1, ("alpha",)), move(ODD, "beta", 0))
    assert publication.before == (Placement("k0", "alpha"), None)
    table = store.current()
    assert table.version == 2
    assert table.placements["k0"] == Placement("k0", "beta", ("alpha",), 2)
    assert table.placements[ODD] == Placement(ODD, "beta", (), 1)
    assert table.published_at == publication.published_at
    assert store.publish([], "nothing") == 2


def test_a_stale_epoch_refuses_the_whole_publication_and_what_goes_with_it(store, control, unique_name):
    store.initialise(first(3))
    store.publish([move("k1", "beta", 1)], "move")

    def journal(session, version):
        control[unique_name]["journal"].insert_one({"version": version}, session=session)

    with pytest.raises(StaleEpoch, match="'k1' is at epoch 2, not 1"):
        store.publish([move("k0", "beta", 1), move("k1", "alpha", 1)], "late", within=journal)
    with pytest.raises(StaleEpoch, match="'k2' is at epoch 1, not 0"):
        store.publish([move("k2", "beta", 0)], "thinks that it is new", within=journal)
    assert store.version() == 2
    assert store.current().placements["k0"] == Placement("k0", "alpha")
    assert control[unique_name]["journal"].count_documents({}) == 0


def test_the_journal_entry_and_the_publication_are_one(store, control, unique_name):
    store.initialise(first(1))

    def fails(session, version):
        raise ValueError("the journal refused")

    with pytest.raises(ValueError, match="the journal refused"):
        store.publish([move("k0", "beta", 1)], "move", within=fails)
    assert store.version() == 1
    assert store.current().placements["k0"].epoch == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([move("k0", "beta", 1), move("k0", "alpha", 1)], "named twice"),
        ([PlacementChange("k0", "beta", ("beta",), 1, 2)], "two of its copies"),
        ([PlacementChange("k0", "beta", ("alpha", "alpha"), 1, 2)], "two of its copies"),
        ([PlacementChange("k0", "alpha", (), 1, 0)], "can't go from 1 to 0"),
        ([PlacementChange("k0", "beta", (), 1, 1)], "primary changes, but not its epoch"),
        ([PlacementChange("new", "beta", (), 0, 0)], "can't go from 0 to 0"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(store, changes, problem):
    store.initialise(first(1))
    with pytest.raises(InvalidChange, match=problem):
        store.publish(changes, "wrong")
    assert store.version() == 1


def test_many_changes_are_stored_in_chunks_and_read_back_in_order(store, control, unique_name, monkeypatch):
    monkeypatch.setattr("foreshard.stores.control.routing._documents.CHUNK_CHANGES", 7)
    store.initialise(first(30))
    changes = tuple(move(f"k{n}", "beta", 1) for n in range(30))
    store.publish(changes, "drain alpha")
    assert control[unique_name]["routing_changes"].count_documents({}) == 5
    assert store.since(1)[0].changes == changes
    assert {p.primary for p in store.current().placements.values()} == {"beta"}


def test_concurrent_publications_lose_nothing_and_leave_no_gap(store, control, unique_name):
    store.initialise(first(4))
    failures: list[Exception] = []

    def journal(session, version):
        control[unique_name]["journal"].insert_one({"_id": version}, session=session)

    def publish(worker: int) -> None:
        try:
            for epoch in range(1, 6):
                store.publish([move(f"k{worker}", "beta" if epoch % 2 else "alpha", epoch)], f"{worker}", within=journal)
        except Exception as error:
            failures.append(error)

    control[unique_name].create_collection("journal")
    threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [p.version for p in store.since(1)] == list(range(2, 22))
    assert {p.epoch for p in store.current().placements.values()} == {6}
    assert control[unique_name]["journal"].count_documents({}) == 20


def test_two_publications_from_one_epoch_can_not_both_win(store):
    store.initialise(first(1))
    results: list[object] = []
    barrier = threading.Barrier(4)

    def publish(to: str) -> None:
        barrier.wait()
        try:
            results.append(store.publish([move("k0", to, 1)], to))
        except StaleEpoch as error:
            results.append(error)

    threads = [threading.Thread(target=publish, args=(name,)) for name in ("w", "x", "y", "z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(r, StaleEpoch) for r in results) == [False, True, True, True]
    assert store.version() == 2


def test_sidecars_at_or_past_a_version_are_counted_among_those_heard_of_lately(store, control, unique_name):
    store.acknowledge("one", 3)
    store.acknowledge("two", 5)
    store.acknowledge("gone", 9)
    store.withdraw("gone")
    old = {"_id": "silent", "version": 1, "reported_at": datetime.now(UTC) - timedelta(hours=1)}
    control[unique_name]["sidecars"].insert_one(old)
    recently = datetime.now(UTC) - timedelta(minutes=1)
    assert store.acknowledged(4, heard_since=recently) == (1, 2)
    store.acknowledge("one", 4)
    assert store.acknowledged(4, heard_since=recently) == (2, 2)
    assert store.acknowledged(4, heard_since=datetime.now(UTC) + timedelta(minutes=1)) == (0, 0)


def test_a_table_is_read_as_of_one_moment_while_it_changes(store):
    store.initialise(first(2))
    stop = threading.Event()

    def swap() -> None:
        epoch = 1
        while not stop.is_set():
            to = "beta" if epoch % 2 else "alpha"
            store.publish([move("k0", to, epoch), move("k1", to, epoch)], "both")
            epoch += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(20):
            table = store.current()
            assert table.placements["k0"].primary == table.placements["k1"].primary
            assert table.placements["k0"].epoch == table.version
    finally:
        stop.set()
        thread.join()
