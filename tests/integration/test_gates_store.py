"""Gate results in a real control database."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo import MongoClient

from foreshard.errors import GateFailed, MissingStageResult
from foreshard.model import Acceptance, GateResult
from foreshard.ports.gating import record_gate
from foreshard.settings import Settings
from foreshard.stack.mongod import Mongod
from foreshard.stores.control.gates import MongoGateStore
from foreshard.stores.retention import StoredRetention
from foreshard.wiring import Wiring

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)


def test_the_latest_result_per_gate_and_hour_is_kept(control: MongoClient, unique_name: str) -> None:
    store = MongoGateStore(control[unique_name])
    store.save(GateResult("plan", HOUR, False, ("3 moves > 2",), 18))
    store.save(GateResult("plan", HOUR, True, (), 18))
    store.save(GateResult("table", HOUR + timedelta(hours=1), True, (), 17))
    assert store.load("plan", HOUR) == GateResult("plan", HOUR, True, (), 18)
    assert [result.gate for result in store.recent(5)] == ["table", "plan"]
    assert len(store.recent(1)) == 1
    with pytest.raises(MissingStageResult, match="result of gate table"):
        store.load("table", HOUR)


def test_the_retention_forgets_results_by_their_hour(control: MongoClient, unique_name: str, tmp_path: Path) -> None:
    database = control[unique_name]
    store, retention = MongoGateStore(database), StoredRetention(database, tmp_path)
    for hour in (HOUR, HOUR + timedelta(days=1)):
        store.save(GateResult("plan", hour, True, (), 18))
    assert retention.forget(HOUR, HOUR, HOUR, HOUR + timedelta(hours=1))["gates"] == 1
    assert [result.hour for result in store.recent(5)] == [HOUR + timedelta(days=1)]


def test_the_retention_deletes_part_files_and_what_killed_tasks_left(
    control: MongoClient, unique_name: str, tmp_path: Path
) -> None:
    old, new = "date=2014-11-19", "date=2014-11-20"
    names = ["hour=08.parquet", "hour=08.parts/00000-ab.parquet", "hour=09.reading-x/cd.parquet", "tmpq3.part"]
    files = [tmp_path / "raw" / day / name for day in (old, new) for name in names]
    files += [tmp_path / "raw" / "import-ab" / "records.parquet", tmp_path / "raw" / "engine-cd" / "1.parquet"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    os.utime(files[-2], ((HOUR - timedelta(days=1)).timestamp(),) * 2)
    retention = StoredRetention(control[unique_name], tmp_path)
    assert retention.forget(HOUR, HOUR, HOUR, HOUR, dry_run=True)["raw"] == 5
    assert all(file.exists() for file in files)
    assert retention.forget(HOUR, HOUR, HOUR, HOUR)["raw"] == 5
    assert [file.exists() for file in files] == [False] * 4 + [True] * 4 + [False, True]
    assert not (tmp_path / "raw" / old).exists()
    assert sorted(folder.name for folder in (tmp_path / "raw").iterdir()) == [new, "engine-cd"]


def test_an_acceptance_outlives_the_gates_next_result_and_warnings_are_kept(control: MongoClient, unique_name: str) -> None:
    store = MongoGateStore(control[unique_name])
    assert store.acceptance("access_log", HOUR) is None
    store.save(GateResult("access_log", HOUR, False, ("10 times as many",), 18))
    accepted = Acceptance("Ann", "a sale", HOUR, ("10 times as many",))
    store.accept("access_log", HOUR, accepted)
    store.save(GateResult("access_log", HOUR, True, (), 18, ("as Ann said",)))
    assert store.acceptance("access_log", HOUR) == accepted
    assert store.load("access_log", HOUR).warnings == ("as Ann said",)


def test_a_failed_result_is_kept_and_stops_the_stage(mongods: tuple[Mongod, ...], unique_name: str, tmp_path: Path) -> None:
    settings = Settings.load(control_uri=mongods[0].uri, control_database=unique_name, data_dir=tmp_path)
    with Wiring(settings) as wiring:
        record_gate(wiring.gates, GateResult("plan", HOUR, True, (), 18))
        with pytest.raises(GateFailed) as raised:
            record_gate(wiring.gates, GateResult("plan", HOUR, False, ("3 moves > 2", "worst LPS after 1.2 > 1.1 before"), 18))
        assert str(raised.value) == (
            "gate plan failed for 2014-11-20T08:00:00+00:00: 3 moves > 2; worst LPS after 1.2 > 1.1 before"
        )
        assert not wiring.gates.load("plan", HOUR).passed
        wiring.control.drop_database(unique_name)
