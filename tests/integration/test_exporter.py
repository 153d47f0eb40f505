"""The exporter against a control database that the real stores have filled, and over HTTP."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pymongo import MongoClient
from tests.slots import slot_map

from foreshard.errors import PortInUse
from foreshard.model import (
    ForecastBatch,
    GateResult,
    Location,
    Move,
    Partition,
    PartitionLoad,
    PartitionScore,
    Placement,
    PlacementChange,
    Plan,
    Reason,
    Refusal,
    RoutingTable,
)
from foreshard.model.key_space import slot_unit
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import Shadow
from foreshard.settings import Settings
from foreshard.stack._process import ProcessSpec, free_port, start, stop, wait_until_ready
from foreshard.stores.control.accuracy import MongoAccuracyStore
from foreshard.stores.control.forecasts import MongoForecastStore
from foreshard.stores.control.gates import MongoGateStore
from foreshard.stores.control.monitoring import ControlReader
from foreshard.stores.control.move_journal import MongoMoveJournal
from foreshard.stores.control.partition_loads import MongoLoadStore
from foreshard.stores.control.plans import MongoPlanStore
from foreshard.stores.control.registry import MongoPartitionRegistry
from foreshard.stores.control.routing.store import MongoRoutingStore
from foreshard.stores.control.scores import MongoScoreStore
from foreshard.stores.control.shadows import MongoShadowStore
from foreshard.stores.prometheus_exporter import ControlCollector, start_exporter

HOUR = datetime(2024, 3, 1, 7, tzinfo=UTC)
NOW = HOUR + timedelta(hours=1, minutes=10)
REASON = Reason("test", "because of the test", {})


@pytest.fixture
def filled(control: MongoClient, unique_name: str):
    """A control database after an hour's loop."""
    database = control[unique_name]
    partitions = [
        Partition("alpha", "Here", 10.0, "mongodb://secret@alpha"),
        Partition("beta", "There", 20.0, "mongodb://beta"),
    ]
    registry = MongoPartitionRegistry(database)
    registry.register(partitions, [Location("Here", 0, 0), Location("There", 1, 1)])
    registry.set_predicted_load({"alpha": 12.0, "beta": 6.0})
    MongoLoadStore(database).report(
        [PartitionLoad("alpha", 9.0, True, NOW - timedelta(seconds=3)), PartitionLoad("beta", 0.0, False, NOW)]
    )
    store = MongoRoutingStore(database)
    placements = {k: Placement(k, p) for k, p in {"a": "alpha", "b": "alpha", "c": "beta"}.items()}
    store.initialise(RoutingTable(1, placements, slot_map(("alpha",), (1.0,)), NOW))
    store.acknowledge("one", 1)
    store.acknowledge("late", 0)
    scores = [PartitionScore(HOUR, p, lps, HOUR, 5.0, 10.0, 1.0, 1.0, 2, (0.5,)) for p, lps in (("alpha", 1.2), ("beta", 0.3))]
    MongoScoreStore(database).save(HOUR, scores)
    older = [PartitionScore(HOUR - timedelta(hours=1), "alpha", 9.9, HOUR, 5.0, 10.0, 1.0, 1.0, 2, (0.5,))]
    MongoScoreStore(database).save(HOUR - timedelta(hours=1), older)
    for gate, hour, passed in (("log", HOUR, True), ("plan", HOUR - timedelta(hours=1), True), ("plan", HOUR, False)):
        MongoGateStore(database).save(GateResult(gate, hour, passed, () if passed else ("too many moves",), 5))
    moves = (Move("m1", ("a",), "alpha", "beta", 10, "c1", REASON), Move("m2", ("b",), "alpha", "beta", 10, "c1", REASON))
    journal = MongoMoveJournal(database, timedelta(seconds=30))
    for move in moves:
        journal.plan(move, HOUR)
    then = {"state": "done", "history": [{"state": "done", "event": "finish", "at": NOW - timedelta(minutes=5), "lease": 1}]}
    database["moves"].update_one({"_id": "m2"}, {"$set": {**then, "counters.pause_ms": 12.5}, "$unset": {"active": 1}})
    database["moves"].update_one({"_id": "m1"}, {"$set": {"history.0.at": NOW - timedelta(minutes=20)}})
    MongoPlanStore(database).save(Plan(HOUR, 1, moves, refusals=(Refusal("alpha", REASON),)))
    MongoPlanStore(database).save(Plan(HOUR + timedelta(hours=1), 1, (), dry_run=True))
    shadows = MongoShadowStore(database)
    for target, fresh in (("alpha", NOW - timedelta(seconds=4)), ("beta", None)):
        shadows.create(Shadow(f"c|{target}", "c", "beta", target, ShadowState.LIVE, 1, 1, "hot", HOUR, caught_up_at=fresh))
    grid = np.ones((3, 2))
    forecasts = MongoForecastStore(database)
    forecasts.begin(HOUR, 1)
    forecasts.save_chunk(0, ForecastBatch(HOUR, 0.9, ("a", "b", "c"), grid, grid, grid, ("prophet", "prophet", "recent_mean")))
    judged = {
        "all": {"keys": 3.0, "wape": 0.25, "pinball": 0.1, "coverage": 0.9, "bias": -0.05},
        "seasonal_naive": {"wape": 0.4},
    }
    MongoAccuracyStore(database).save(HOUR, HOUR - timedelta(days=1), judged)
    database["tallied_hours"].insert_one({"_id": HOUR, "accesses": 40, "keys": 3})
    database["conflicts"].insert_many([{"_id": 1, "state": "open"}, {"_id": 2, "state": "resolved"}])
    outcome = {"dag_id": "rebalance", "task_id": "plan", "state": "success", "count": 4, "seconds": 6.5}
    database["task_outcomes"].insert_one({"_id": "rebalance/plan/success", **outcome})
    return database


def scraped(reader: ControlReader) -> dict[tuple[str, tuple[str, ...]], float]:
    collector = ControlCollector(reader, lambda: NOW)
    return {(s.name, tuple(s.labels.values())): s.value for family in collector.collect() for s in family.samples}


def test_every_part_of_the_control_database_is_shown_as_figures(filled) -> None:
    filled["sidecars"].update_many({}, {"$set": {"reported_at": NOW}})
    seen = scraped(ControlReader(filled, Settings()))
    expected = {
        ("foreshard_exporter_up", ()): 1,
        ("foreshard_high_water", ()): 0.95,
        ("foreshard_partition_info", ("alpha", "Here")): 1,
        ("foreshard_partition_capacity", ("beta",)): 20,
        ("foreshard_partition_load", ("alpha",)): 9,
        ("foreshard_partition_lps", ("alpha",)): 1.2,
        ("foreshard_partition_lps", ("beta",)): 0.3,
        ("foreshard_partition_keys", ("alpha",)): 2,
        ("foreshard_partition_reachable", ("alpha",)): 1,
        ("foreshard_partition_reachable", ("beta",)): 0,
        ("foreshard_partition_load_timestamp_seconds", ("alpha",)): NOW.timestamp() - 3,
        ("foreshard_moves", ("planned",)): 1,
        ("foreshard_moves", ("done",)): 1,
        ("foreshard_moves", ("fenced",)): 0,
        ("foreshard_move_longest_in_state_seconds", ()): 1200,
        ("foreshard_move_last_pause_seconds", ()): 0.0125,
        ("foreshard_shadows", ("live",)): 2,
        ("foreshard_shadow_lag_seconds", ("alpha",)): 4,
        ("foreshard_shadows_unknown_lag", ()): 1,
        ("foreshard_gate_passed", ("log",)): 1,
        ("foreshard_gate_passed", ("plan",)): 0,
        ("foreshard_gate_failures", ("plan",)): 1,
        ("foreshard_routing_table_version", ()): 1,
        ("foreshard_routing_table_keys", ()): 3,
        ("foreshard_sidecars", ()): 2,
        ("foreshard_sidecars_behind", ()): 1,
        ("foreshard_forecast_keys", ("prophet",)): 2,
        ("foreshard_forecast_fallback_share", ()): 1 / 3,
        ("foreshard_forecast_wape", ("all",)): 0.25,
        ("foreshard_forecast_wape", ("seasonal_naive",)): 0.4,
        ("foreshard_forecast_coverage", ("all",)): 0.9,
        ("foreshard_forecast_accuracy_hour_timestamp_seconds", ()): HOUR.timestamp(),
        ("foreshard_plan_moves", ()): 2,
        ("foreshard_plan_refusals", ()): 1,
        ("foreshard_last_hour_timestamp_seconds", ("tally",)): HOUR.timestamp(),
        ("foreshard_last_hour_timestamp_seconds", ("plan",)): HOUR.timestamp(),
        ("foreshard_last_hour_accesses", ()): 40,
        ("foreshard_conflicts_open", ()): 1,
        ("foreshard_task_outcomes_total", ("rebalance", "plan", "success")): 4,
    }
    assert {name: seen.get(name) for name in expected} == pytest.approx(expected)
    assert "secret" not in str(seen)


def test_an_empty_control_database_gives_figures_and_no_error(control, unique_name) -> None:
    seen = scraped(ControlReader(control[unique_name], Settings()))
    assert seen["foreshard_exporter_up", ()] == 1
    assert seen["foreshard_moves", ("planned",)] == 0
    assert ("foreshard_last_hour_timestamp_seconds", ("tally",)) not in seen


def test_a_part_of_unknown_form_hides_only_itself(filled) -> None:
    filled["gates"].insert_one({"_id": {"gate": "zzz", "hour": HOUR}})
    seen = scraped(ControlReader(filled, Settings()))
    assert seen["foreshard_exporter_up", ()] == 0
    assert not [name for name, _ in seen if name.startswith("foreshard_gate")]
    assert seen["foreshard_partition_lps", ("alpha",)] == 1.2


def test_without_the_control_database_the_exporter_answers_soon_that_it_is_down(unique_name) -> None:
    with MongoClient(f"mongodb://127.0.0.1:{free_port()}/?directConnection=true", serverSelectionTimeoutMS=300) as nobody:
        seen = scraped(ControlReader(nobody[unique_name], Settings(), patience=0.5))
    assert seen["foreshard_exporter_up", ()] == 0
    assert seen["foreshard_high_water", ()] == 0.95
    assert seen["foreshard_exporter_read_seconds", ()] < 10


def test_slots_and_listed_keys_are_counted_by_publications_not_by_scrapes(filled) -> None:
    reader, store = ControlReader(filled, Settings()), MongoRoutingStore(filled)
    before = scraped(reader)
    assert before["foreshard_partition_keys", ("alpha",)] == 2
    assert before["foreshard_partition_slots", ("alpha",)] == 4096
    a = store.placement("a")
    store.publish(
        [PlacementChange("a", "beta", (), a.epoch, a.epoch + 1), PlacementChange(slot_unit(0), "beta", (), 1, 2)], "move"
    )
    filled["routing_table"].delete_many({})
    after = scraped(reader)
    assert [after["foreshard_partition_keys", (name,)] for name in ("alpha", "beta")] == [1, 2]
    assert [after["foreshard_partition_slots", (name,)] for name in ("alpha", "beta")] == [4095, 1]


def test_a_port_in_use_is_named(control, unique_name) -> None:
    port = free_port()
    settings = Settings(sidecar={"metrics_port": port})
    reader = ControlReader(control[unique_name], settings)
    server, thread = start_exporter(reader, settings)
    try:
        with pytest.raises(PortInUse, match=f"port {port} for exporter"):
            start_exporter(reader, settings)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_command_serves_figures_until_it_is_stopped(filled, mongods, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    environment = {
        **os.environ,
        "FORESHARD_CONTROL_URI": mongods[0].uri,
        "FORESHARD_CONTROL_DATABASE": filled.name,
        "FORESHARD_SIDECAR__METRICS_PORT": str(port),
    }
    spec = ProcessSpec("exporter", (str(Path(sys.executable).parent / "foreshard"), "exporter"), tmp_path, environment)
    start(spec)
    try:
        wait_until_ready("exporter", url, lambda: answers(url), spec, patience=60)
        families = {f.name: f for f in text_string_to_metric_families(httpx.get(url, timeout=10).text)}
        assert {s.labels["partition"]: s.value for s in families["foreshard_partition_lps"].samples} == {
            "alpha": 1.2,
            "beta": 0.3,
        }
        assert families["foreshard_task_outcomes"].type == "counter"
    finally:
        assert stop(spec.pid_path)
    assert "Traceback" not in spec.log_path.read_text()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False
