"""The three DAGs with ``dag.test()`` against real databases and a real broker: the hours of a small log go through the loop.

Three hours: a bad log (its gate stops it), nothing to relieve (an empty plan), and an overloaded partition.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from confluent_kafka import Producer
from tests.slots import slot_map

from foreshard.model import Location, Partition, Placement, PlacementRule, RoutingTable, RuleKind, hour_floor
from foreshard.routing.table import locate
from foreshard.settings import Settings
from foreshard.stack.kafka import Kafka, create_topic
from foreshard.stack.mongod import Mongod
from foreshard.wiring import Wiring

RUNNER = Path(__file__).with_name("run_dags.py")
KEYS = tuple(f"station {number}" for number in range(10))
ON_ALPHA = KEYS[:8]
PINNED = KEYS[:5]  # too many for alpha, which gives the others away and has some of these shadowed
DOCUMENTS_PER_KEY = 5
HISTORY_DAYS = 7
LAST = hour_floor(datetime.now(UTC)) - timedelta(hours=1)
QUIET, BAD = LAST - timedelta(hours=1), LAST - timedelta(hours=2)
NOTHING_TO_DO = {
    f"FORESHARD_PLAN__{name}": value for name, value in (("HIGH_WATER", "1000"), ("NEARNESS", "0"), ("RESERVE", "0"))
}


@dataclass(frozen=True)
class World:
    """The services' settings as environment variables, a wiring with them, and the results of the runs."""

    wiring: Wiring
    environment: dict[str, str]
    runs: dict[str, dict[str, Any]]

    def states(self, run: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for task in self.runs[run]["tasks"]:
            found.setdefault(task["task"], []).append(task["state"])
        return found


@pytest.fixture(scope="module")
def world(
    mongods: tuple[Mongod, ...], kafka: Kafka, airflow_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    name = "dagloop"
    settings = {
        "FORESHARD_CONTROL_URI": mongods[0].uri,
        "FORESHARD_CONTROL_DATABASE": name,
        "FORESHARD_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "FORESHARD_ACCESS_TOPIC": f"{name}.access",
        "FORESHARD_REPLICATION_TOPIC": f"{name}.replication",
        "FORESHARD_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "FORESHARD_USER_KEY": "a key for tests of thirty-two bytes",
        "FORESHARD_COLLECTIONS": json.dumps([{"database": name, "collection": "trips", "key_field": "station"}]),
        "FORESHARD_OBSERVE__MINIMUM_DISTINCT_USERS": "1",
        "FORESHARD_FORECAST__HISTORY_DAYS": str(HISTORY_DAYS),
        "FORESHARD_MIGRATE__SOURCE_KEPT": "PT0S",
        "FORESHARD_SHADOW__APPLY_TIMEOUT": "PT30S",
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in settings.items():
            patch.setenv(variable, value)
        loaded = Settings.load()
    for topic in (loaded.access_topic, loaded.replication_topic):
        create_topic(kafka.bootstrap, topic)
    with Wiring(loaded) as wiring:
        fill(wiring, mongods)
        environment = {**airflow_environment, **settings}
        yield World(wiring, environment, run_the_loop(environment))
        wiring.control.drop_database(name)
        for partition in wiring.registry.partitions():
            wiring.mongo.partition(partition).drop_database(name)


def fill(wiring: Wiring, mongods: tuple[Mongod, ...]) -> None:
    """Two partitions, the first too small for its keys, with documents, a week of history and three live hours."""
    from foreshard.stages.log_import import import_history

    alpha, beta = (Partition(mongods[n].name, "San Jose", capacity, mongods[n].uri) for n, capacity in ((1, 0.012), (2, 0.08)))
    wiring.registry.register((alpha, beta), (Location("San Jose", 37.3, -121.9),))
    for key in PINNED:
        wiring.placement_rules.save(PlacementRule(RuleKind.PIN, key, False, "alpha"))
    rule = slot_map(("alpha", "beta"), (1.0, 1.0))
    placements = {key: Placement(key, "alpha" if key in ON_ALPHA else "beta") for key in KEYS}
    wiring.routing.initialise(RoutingTable(1, placements, rule, LAST))
    for partition in (alpha, beta):
        database = wiring.mongo.partition(partition)[wiring.settings.collections[0].database]
        database["trips"].insert_many(
            {"_id": f"{key}/{number}", "station": key, "bikes": number}
            for key, placement in placements.items()
            if placement.primary == partition.partition_id
            for number in range(DOCUMENTS_PER_KEY)
        )
    history = pd.concat([records(BAD - timedelta(hours=back)) for back in range(1, HISTORY_DAYS * 24 - 2)])
    import_history(wiring, history, None, BAD)
    produce(wiring, records(BAD).assign(request_type="steal"), BAD)
    for hour in (QUIET, LAST):
        produce(wiring, records(hour), hour)


def records(hour: datetime) -> pd.DataFrame:
    """One hour's accesses: each user rides from one station to the next, more by day than by night."""
    rides = 4 + 4 * (8 <= hour.hour < 20)
    rows = [
        {
            "timestamp": hour + timedelta(seconds=(60 * ride + 5 * step) % 3600, milliseconds=24 * hour.day + hour.hour),
            "partitionable_key": KEYS[(number + step) % len(KEYS)],
            "user_id": f"user {ride % 7}",
            "request_type": "read",
            "location": "San Jose",
            "session_id": f"{hour:%d%H}-{number}-{ride}",
        }
        for number in range(len(KEYS))
        for ride in range(rides)
        for step in range(2)
    ]
    return pd.DataFrame(rows)


def produce(wiring: Wiring, frame: pd.DataFrame, hour: datetime) -> None:
    producer = Producer({"bootstrap.servers": wiring.settings.kafka_bootstrap})
    for record in frame.to_dict("records"):
        moment = record["timestamp"]
        value = json.dumps({**record, "timestamp": moment.isoformat()})
        producer.produce(wiring.settings.access_topic, value, timestamp=int(moment.timestamp() * 1000))
    producer.flush(10)


def step(name: str, dag: str, hour: datetime | None, more: dict[str, str] | None = None, **conf: Any) -> dict[str, Any]:
    of_hour = {"hour": hour.isoformat()} if hour else {}
    return {"name": name, "dag": dag, "conf": {**of_hour, **conf}, "environment": more or {}}


def run_the_loop(environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """All runs of these tests, in one process, because Airflow takes seconds to start."""
    steps = [
        step("bad log", "access_log_hourly", BAD),
        step("quiet log", "access_log_hourly", QUIET),
        step("quiet forecast", "load_forecast", QUIET),
        step("old rebalance", "rebalance", QUIET, hours_until_old=1),
        step("quiet rebalance", "rebalance", QUIET, NOTHING_TO_DO),
        step("log", "access_log_hourly", LAST, dry_run=True),
        step("forecast", "load_forecast", LAST),
        step("dry rebalance", "rebalance", LAST, dry_run=True),
        step("rebalance", "rebalance", LAST),
        step("rebalance again", "rebalance", LAST),
        step("upkeep", "shadow_upkeep", None),
        step("dry rollback", "rollback_routing", LAST, dry_run=True),
        step("dry retention", "retention", None, dry_run=True),
    ]
    return run(steps, environment)


def run(steps: list[dict[str, Any]], environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    command = (sys.executable, str(RUNNER), json.dumps(steps))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    return {s["name"]: answer for s, answer in zip(steps, answers, strict=True)}


def test_a_failed_gate_is_not_retried_and_no_later_task_acts(world: World) -> None:
    assert world.runs["bad log"]["state"] == "failed"
    states = world.states("bad log")
    assert states == {
        "extract": ["success"],
        "gate": ["failed"],
        "tally": ["upstream_failed"],
        "amend": ["upstream_failed"],
    }
    assert [task["tries"] for task in world.runs["bad log"]["tasks"] if task["task"] == "gate"] == [1]
    assert world.runs["bad log"]["assets"] == []
    assert not world.wiring.gates.load("access_log", BAD).passed
    assert BAD not in world.wiring.tallies.hours(BAD, LAST)


def test_a_good_hour_is_counted_and_announced_for_its_partition(world: World) -> None:
    assert world.states("log") == {
        "extract": ["success"],
        "gate": ["success"],
        "tally": ["success"],
        "amend": ["skipped"],
    }
    assert world.wiring.gates.load("access_log", LAST).passed
    counted = world.wiring.tallies.key_load(LAST, LAST + timedelta(hours=1))
    assert set(counted["partitionable_key"]) == set(KEYS)
    assert int(counted["count"].sum()) == len(records(LAST))
    assert world.runs["log"]["assets"] == [
        {"asset": "access_tally", "partition": f"{LAST:%Y-%m-%dT%H:00:00}", "extra": {"dry_run": True}}
    ]


def test_every_key_is_forecast_and_every_partition_scored(world: World) -> None:
    assert all(state == "success" for states in world.states("forecast").values() for state in states)
    assert set(world.wiring.forecasts.load(LAST).keys) == set(KEYS)
    scores = {score.partition_id: score for score in world.wiring.scores.load(LAST)}
    assert scores["alpha"].lps > 1 > scores["beta"].lps
    assert [event["asset"] for event in world.runs["forecast"]["assets"]] == ["partition_scores"]


def test_an_empty_plan_skips_migrate_and_shadow_and_the_run_succeeds(world: World) -> None:
    assert world.runs["quiet rebalance"]["state"] == "success"
    states = world.states("quiet rebalance")
    assert states["migrate"] == states["shadow"] == ["skipped"]
    assert states["publish"] == states["gate_table"] == states["verify"] == ["success"]
    assert [event["asset"] for event in world.runs["quiet rebalance"]["assets"]] == ["routing_table"]


@pytest.mark.parametrize("run", ["dry rebalance", "old rebalance"])
def test_a_dry_run_and_an_old_hour_are_planned_without_effect(world: World, run: str) -> None:
    assert world.runs[run]["state"] == "success"
    states = world.states(run)
    assert states["plan"] == states["gate"] == ["success"]
    acting = ("approve", "start_moves", "migrate", "start_shadows", "shadow", "publish", "gate_table", "clean", "verify")
    assert {state for task in acting for state in states[task]} == {"skipped"}
    assert world.runs[run]["assets"] == []


def test_an_overloaded_partition_is_relieved_in_the_routing_table(world: World) -> None:
    assert world.runs["rebalance"]["state"] == "success"
    assert all(state in {"success", "skipped"} for states in world.states("rebalance").values() for state in states)
    plan = world.wiring.plans.load(LAST)
    assert plan.moves
    assert not plan.dry_run
    assert plan.lps_after["alpha"] < plan.lps_before["alpha"]
    table = world.wiring.routing.current()
    assert table.version > 1
    assert all(locate(table, move.units[0]).primary == move.target for move in plan.moves)


def test_every_document_is_once_on_the_partition_in_the_table(world: World) -> None:
    table = world.wiring.routing.current()
    found: dict[str, list[str]] = {}
    for partition in world.wiring.registry.partitions():
        trips = world.wiring.mongo.partition(partition)["dagloop"]["trips"]
        for document in trips.find():
            placement = locate(table, document["station"])
            if partition.partition_id not in placement.shadows:
                found.setdefault(document["_id"], []).append(partition.partition_id)
                assert placement.primary == partition.partition_id
    assert len(found) == len(KEYS) * DOCUMENTS_PER_KEY
    assert {len(places) for places in found.values()} == {1}


def test_a_second_run_of_an_hour_changes_nothing(world: World) -> None:
    assert world.runs["rebalance again"]["state"] == "success"
    assert world.wiring.plans.load(LAST).moves


def test_the_outcomes_of_tasks_are_counted(world: World) -> None:
    outcomes = {document["_id"]: document for document in world.wiring.mongo.control_database["task_outcomes"].find()}
    assert outcomes["access_log_hourly/tally/success"]["count"] == 2
    failed = outcomes["access_log_hourly/gate/failed"]
    assert failed["count"] == 1
    assert failed["error"].startswith("gate access_log failed for ")


def test_upkeep_finds_everything_in_order_and_compares_every_shadow(world: World) -> None:
    assert world.runs["upkeep"]["state"] == "success"
    assert all(state == "success" for states in world.states("upkeep").values() for state in states)
    shadows = world.wiring.mongo.control_database["shadows"].count_documents({"state": "live"})
    assert len(world.states("upkeep")["compare"]) == shadows > 0


def test_a_dry_rollback_and_a_dry_retention_change_nothing(world: World) -> None:
    assert world.states("dry rollback")["undo"] == ["skipped"]
    assert world.states("dry rollback")["find"] == ["success"]
    assert world.runs["dry retention"]["state"] == "success"
    assert len(world.wiring.tallies.hours(QUIET, LAST + timedelta(hours=1))) == 2


def test_a_rollback_moves_the_hour_s_keys_back_and_a_drain_sets_the_state(world: World) -> None:
    moved = {move.units[0] for move in world.wiring.plans.load(LAST).moves}
    steps = [step("rollback", "rollback_routing", LAST), step("drain", "drain_partition", None, partition_id="beta")]
    runs = run(steps, world.environment)
    assert [ran["state"] for ran in runs.values()] == ["success", "success"]
    table = world.wiring.routing.current()
    assert moved
    assert {locate(table, key).primary for key in moved} == {"alpha"}
    assert world.wiring.registry.partition("beta").state == "draining"
    trips = world.wiring.mongo.partition(world.wiring.registry.partition("alpha"))["dagloop"]["trips"]
    assert trips.count_documents({"station": {"$in": sorted(moved)}}) == len(moved) * DOCUMENTS_PER_KEY
