"""The throttle on real servers: limits that change while a move runs, a hold, places, and gauges of strain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic, sleep
from typing import Any

import pytest
from tests.integration.move.conftest import World

from foreshard.stages import migrate
from foreshard.stores.partition import strain
from foreshard.stores.partition.strain import PartitionStrain

PATIENCE = 60.0


def until(holds: Callable[[], Any]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < deadline, "it did not happen in time"
        sleep(0.02)


@pytest.fixture
def start(world: World) -> Any:
    """Starts a move in a thread and returns its id. All threads are joined."""
    threads: list[threading.Thread] = []

    def begin(source: str, target: str, key: str | None = None) -> str:
        move_id = world.plan(source, target, key)
        threads.append(threading.Thread(target=migrate.run_move, args=(world.wiring, move_id)))
        threads[-1].start()
        return move_id

    yield begin
    world.wiring.migration_limits.change(bytes_per_second=0, hold=False)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def waiting(world: World, move_id: str) -> str:
    return world.wiring.move_journal.get(move_id).notes.get("waiting") or ""


def test_a_limit_is_kept_and_can_be_changed_while_the_move_runs(world, start):
    world.fill(3_000)
    world.wiring.migration_limits.change(bytes_per_second=10_000)
    move_id = start("alpha", "beta")
    until(lambda: waiting(world, move_id))
    assert waiting(world, move_id) == "waiting because it has reached its limit of bytes or documents per second"
    assert world.state(move_id) == "copying"
    world.wiring.migration_limits.change(bytes_per_second=0)
    until(lambda: world.state(move_id) == "switched")
    assert not waiting(world, move_id)


def test_a_held_move_copies_nothing_keeps_its_lease_and_goes_on(world, start):
    world.fill(500)
    world.wiring.migration_limits.change(hold=True)
    move_id = start("alpha", "beta")
    until(lambda: waiting(world, move_id))
    assert waiting(world, move_id) == "waiting because an operator holds all moves (`foreshard moves throttle --go-on`)"
    before = world.wiring.move_journal.get(move_id)
    until(lambda: world.wiring.move_journal.get(move_id).lease_until > before.lease_until)
    assert len(world.copies()["beta"]) <= world.wiring.settings.migrate.batch_documents
    world.wiring.migration_limits.change(hold=False)
    until(lambda: world.state(move_id) == "switched")


def test_a_held_move_stops_when_it_is_asked_to(world, start):
    world.fill(500)
    world.wiring.migration_limits.change(hold=True)
    move_id = start("alpha", "beta")
    until(lambda: waiting(world, move_id))
    migrate.stop_move(world.wiring, move_id)
    until(lambda: world.wiring.move_journal.get(move_id).lease_until is None)
    assert world.state(move_id) == "copying"


def test_at_most_so_many_moves_run_from_and_to_a_partition(world, start):
    most = world.wiring.settings.migrate.parallel_moves
    world.wiring.migration_limits.change(hold=True)
    keys = [f"key {n}" for n in range(most + 1)]
    for key in keys:
        world.trips("alpha").insert_many([{"at": {"station": key}, "n": n} for n in range(200)])
    running = [start("alpha", "beta", key) for key in keys[:most]]
    until(lambda: all(world.state(move_id) == "copying" for move_id in running))
    last = start("alpha", "gamma", keys[-1])
    until(lambda: waiting(world, last))
    assert waiting(world, last) == f"waiting because {most} other moves from alpha or to gamma are running"
    assert world.state(last) == "planned"
    world.wiring.migration_limits.change(hold=False)
    until(lambda: world.state(last) == "switched")


def test_the_place_of_a_silent_mover_is_free(world):
    journal = world.wiring.move_journal
    first, second = (journal.take(world.plan("alpha", target, f"key {target}")) for target in ("beta", "gamma"))
    placed = journal.claim_place(first, 1)
    assert placed is not None
    assert journal.claim_place(placed, 1) is not None
    assert journal.claim_place(second, 1) is None
    journal.pause(placed)
    assert journal.claim_place(second, 1) is not None


@pytest.fixture
def gauge(world: World) -> PartitionStrain:
    return PartitionStrain("alpha", world.clients["alpha"], world.database)


def test_a_gauge_names_writes_that_have_become_slow(gauge, monkeypatch):
    took = iter([0.004] * strain.PROBES_BEFORE + [0.004] + [0.050] * strain.PROBES_NOW)
    monkeypatch.setattr(gauge, "_probe", lambda: next(took))
    assert gauge.strain() is None
    found = [gauge.strain() for _ in range(strain.PROBES_NOW)]
    assert found[-1] == "writes on alpha take 50 ms instead of 4"


def test_a_gauge_writes_and_reads_the_oplog_without_an_alarm(gauge, world, monkeypatch):
    monkeypatch.setattr(strain, "SLOWER_BY", 1e9)  # this machine may be busy
    assert gauge.strain() is None
    assert world.clients["alpha"][world.database]["move_probes"].find_one()["probes"] > strain.PROBES_BEFORE


def test_a_gauge_names_a_short_oplog(gauge, monkeypatch):
    monkeypatch.setattr(gauge, "_oplog_window", lambda: timedelta(seconds=90))
    assert gauge.strain() == "the oplog of alpha holds only 90 s"


def test_a_full_oplog_counts_from_its_first_entry_to_its_last(gauge, monkeypatch):
    monkeypatch.setattr(strain, "FULL", 0.0)
    assert timedelta() <= gauge._oplog_window() < timedelta(days=1)
