"""Upkeep stages on the real control database: retention, the rota of comparisons, and the lag report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo import MongoClient
from tests.slots import slot_map

from foreshard.errors import ConfigurationError, UnknownPartition
from foreshard.model import Location, Move, Partition, Placement, Reason, RoutingTable
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import Shadow
from foreshard.settings import Settings
from foreshard.stack.mongod import Mongod
from foreshard.stages.manual_moves import moves_to_undo
from foreshard.stages.upkeep import drain_partition, forget_old, lag_report, shadows_to_compare
from foreshard.wiring import Wiring

NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
HOUR = datetime(2026, 6, 1, 11, tzinfo=UTC)


@pytest.fixture
def wiring(mongods: tuple[Mongod, ...], control: MongoClient, unique_name: str, tmp_path: Path) -> Iterator[Wiring]:
    with Wiring(Settings.load(control_uri=mongods[0].uri, control_database=unique_name, data_dir=tmp_path)) as wiring:
        yield wiring


def shadow(number: int, state: ShadowState = ShadowState.LIVE, caught_up_at: datetime | None = NOW) -> Shadow:
    name = f"k{number:02}"
    return Shadow(f"{name}|beta", name, "alpha", "beta", state, 1, 1, "hot", caught_up_at=caught_up_at)


def fill_hours(wiring: Wiring, days: range) -> None:
    database = wiring.mongo.control_database
    for day in days:
        hour = HOUR - timedelta(days=day)
        database["tallied_hours"].insert_one({"_id": hour})
        for name in ("key_load", "co_access", "forecasts", "scores"):
            database[name].insert_one({"_id": f"{name} {day}", "hour": hour})
        database["forecasts"].insert_one({"_id": f"{hour:%Y-%m-%dT%H}", "chunks": 1})
        database["plans"].insert_one({"_id": hour})
        for folder in ("raw", "quarantine"):
            file = wiring.settings.data_dir / folder / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}.parquet"
            file.parent.mkdir(parents=True)
            file.write_bytes(b"x")
        series = wiring.settings.data_dir / "series" / f"{hour:%Y-%m-%dT%H}.parquet"
        series.parent.mkdir(exist_ok=True)
        series.write_bytes(b"x")


def counts(wiring: Wiring) -> dict[str, int]:
    database = wiring.mongo.control_database
    names = ("tallied_hours", "key_load", "co_access", "forecasts", "scores", "plans")
    files = {
        folder: len(list((wiring.settings.data_dir / folder).rglob("*.parquet"))) for folder in ("raw", "quarantine", "series")
    }
    return {name: database[name].count_documents({}) for name in names} | files


def test_the_quarantine_of_imports_is_deleted_by_the_age_of_its_files(wiring: Wiring) -> None:
    folder = wiring.settings.data_dir / "quarantine"
    folder.mkdir()
    for days in (24, 26):
        for name in ("import", "refused"):
            file = folder / f"{name}-20140101T00-2014010{days % 10}T00.parquet"
            file.write_bytes(b"x")
            os.utime(file, times=((NOW - timedelta(days=days)).timestamp(),) * 2)
    (folder / "notes.txt").write_text("not Foreshard's")
    assert forget_old(wiring, 25, 55, 35, 75, dry_run=True, now=NOW).forgotten["quarantine"] == 2
    assert forget_old(wiring, 25, 55, 35, 75, now=NOW).forgotten["quarantine"] == 2
    left = {path.name for path in folder.iterdir()}
    assert left == {"import-20140101T00-20140104T00.parquet", "refused-20140101T00-20140104T00.parquet", "notes.txt"}


def test_old_hours_and_old_records_are_deleted(wiring: Wiring) -> None:
    fill_hours(wiring, range(0, 100, 10))
    summary = forget_old(wiring, file_days=25, tally_days=55, forecast_days=35, record_days=75, now=NOW)
    assert counts(wiring) == {
        "tallied_hours": 6, "key_load": 6, "co_access": 6, "forecasts": 8, "scores": 4, "plans": 8,
        "raw": 3, "quarantine": 3, "series": 3,
    }  # fmt: skip
    assert summary.forgotten["tallied_hours"] == 4
    assert summary.forgotten["forecasts"] == 12
    assert forget_old(wiring, 25, 55, 35, 75, now=NOW).forgotten == dict.fromkeys(summary.forgotten, 0)


def test_a_dry_run_counts_the_same_and_deletes_nothing(wiring: Wiring) -> None:
    fill_hours(wiring, range(0, 100, 10))
    before = counts(wiring)
    counted = forget_old(wiring, 25, 55, 35, 75, dry_run=True, now=NOW).forgotten
    assert counts(wiring) == before
    assert forget_old(wiring, 25, 55, 35, 75, now=NOW).forgotten == counted


def test_hours_that_the_next_forecast_reads_are_never_deleted(wiring: Wiring) -> None:
    with pytest.raises(ConfigurationError, match="tally_days"):
        forget_old(wiring, 25, 28, 35, 75, now=NOW)
    with pytest.raises(ConfigurationError, match="less than a day"):
        forget_old(wiring, 0, 55, 35, 75, now=NOW)


def test_every_live_shadow_is_compared_in_rotation(wiring: Wiring) -> None:
    for number in range(7):
        assert wiring.shadows.create(shadow(number))
    wiring.shadows.create(shadow(9, ShadowState.COPYING))
    turns = [shadows_to_compare(wiring, 3, turn) for turn in range(100, 107)]
    assert {len(turn) for turn in turns} == {3}
    assert {name for turn in turns for name in turn} == {f"k{number:02}|beta" for number in range(7)}
    assert len(shadows_to_compare(wiring, 10, 5)) == 7
    assert shadows_to_compare(wiring, 0, 5) == ()


def test_the_report_names_stale_shadows_and_stuck_moves(wiring: Wiring) -> None:
    wiring.shadows.create(shadow(1))
    wiring.shadows.create(shadow(2, caught_up_at=NOW - timedelta(minutes=5)))
    wiring.shadows.create(shadow(3, caught_up_at=None))
    wiring.move_journal.plan(Move("m1", ("a",), "alpha", "beta", 1, "a", Reason("x", "y")), HOUR)
    report = lag_report(wiring, NOW)
    assert report.stale == ("k02|beta", "k03|beta")
    assert report.stalest_seconds == 300
    assert report.shadows == {"live": 3}
    assert (report.open_moves, report.open_conflicts) == (1, 0)
    assert lag_report(wiring, datetime.now(UTC)).stuck == ()
    assert lag_report(wiring, datetime.now(UTC) + timedelta(hours=1)).stuck == ("m1",)


def test_draining_counts_what_is_left_and_can_be_undone(wiring: Wiring) -> None:
    partitions = tuple(Partition(name, "San Jose", 1.0, "mongodb://x") for name in ("alpha", "beta"))
    wiring.registry.register(partitions, (Location("San Jose", 37.3, -121.9),))
    placements = {"a": Placement("a", "alpha", ("beta",)), "b": Placement("b", "alpha"), "c": Placement("c", "beta")}
    wiring.routing.initialise(RoutingTable(1, placements, slot_map(("alpha", "beta"), (1.0, 1.0)), NOW))
    drained = drain_partition(wiring, "beta")
    assert (drained.state, drained.listed_keys, drained.shadow_copies) == ("draining", 1, 1)
    assert drained.slots == wiring.routing.counts()[0]["beta"] > 0
    assert drain_partition(wiring, "beta", active=True).state == "active"
    with pytest.raises(UnknownPartition, match="gamma"):
        drain_partition(wiring, "gamma")


def test_only_moves_that_still_have_an_effect_are_undone(wiring: Wiring) -> None:
    placements = {name: Placement(name, "alpha") for name in ("a", "b")}
    wiring.routing.initialise(RoutingTable(1, placements, slot_map(("alpha", "beta"), (1.0, 1.0)), NOW))
    for name in ("a", "b"):
        wiring.move_journal.plan(Move(f"move of {name}", (name,), "alpha", "beta", 1, name, Reason("x", "y")), HOUR)
    wiring.mongo.control_database["moves"].update_one({"_id": "move of b"}, {"$set": {"state": "done"}})
    assert moves_to_undo(wiring, HOUR) == ("move of a",)
    assert moves_to_undo(wiring, HOUR - timedelta(hours=1)) == ()


def test_ended_moves_retired_shadows_gates_and_past_versions_are_forgotten(wiring: Wiring) -> None:
    database = wiring.mongo.control_database
    old, new = NOW - timedelta(days=100), NOW - timedelta(days=10)
    reason = {"code": "c", "sentence": "s", "facts": {}}
    for name, at, active in (("old", old, False), ("open", old, True), ("new", new, False)):
        history = [{"state": "done", "event": "finish", "at": at, "lease": 1}]
        move = {"_id": name, "planned_at": at, "history": history, "units": [name], "reason": reason}
        database["moves"].insert_one(move | ({"active": True} if active else {}))
        database["shadows"].insert_one({"_id": name, "state": "live" if active else "retired", "updated_at": at})
        database["gates"].insert_one({"_id": name, "hour": at})
    for version, at in ((1, old), (2, old), (3, old), (4, new)):
        database["routing_versions"].insert_one({"_id": version, "published_at": at})
    database["routing_changes"].insert_one({"_id": {"version": 2, "chunk": 0}})
    database["routing_state"].insert_one({"_id": "table", "version": 4})
    forgotten = forget_old(wiring, 25, 55, 35, 75, now=NOW).forgotten
    assert {name: forgotten[name] for name in ("moves", "shadows", "gates", "routing_versions", "routing_changes")} == {
        "moves": 1, "shadows": 1, "gates": 2, "routing_versions": 3, "routing_changes": 1,
    }  # fmt: skip
    assert sorted(move["_id"] for move in database["moves"].find()) == ["new", "open"]
    assert [version["_id"] for version in database["routing_versions"].find()] == [4]
