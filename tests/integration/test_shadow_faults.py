"""Shadows when things go wrong: a killed applier, deliveries out of order, conflicts, a moved primary, a removal."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bson
import pytest
from pymongo import MongoClient
from tests.integration.shadow_stage import ask, documents, lay_out, make_wiring, settings_environment, wait_until

from foreshard.consistency.versions import version_of_write
from foreshard.model import PlacementChange
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import ReplicationRecord
from foreshard.stack._process import running_pid
from foreshard.stack.kafka import Kafka
from foreshard.stack.mongod import Mongod
from foreshard.stages.conflicts import resolve_with_kept
from foreshard.stages.shadow import run_shadow
from foreshard.stages.shadow_apply import apply_bounded, replicating
from foreshard.stages.shadow_listing import publish_shadow, remove_shadow, retire_shadows
from foreshard.stages.shadow_repair import repair_shadow, shadow_differences
from foreshard.stores.bson_codec import identity_of
from foreshard.stores.kafka.replication import KafkaReplicationLog
from foreshard.wiring import Wiring


@pytest.fixture
def wiring(
    mongods: tuple[Mongod, ...], kafka: Kafka, unique_name: str, control: MongoClient, partition_clients: dict[str, MongoClient]
) -> Iterator[Wiring]:
    with make_wiring(mongods, kafka, unique_name) as made:
        lay_out(made, mongods, {"hot": "alpha", "cold": "alpha"})
        yield made


def start_applier(wiring: Wiring, folder: Path) -> subprocess.Popen[bytes]:
    """The real process, configured as ``wiring`` is."""
    environment = {**os.environ, **settings_environment(wiring.settings), "FORESHARD_SHADOW__LEASE_DURATION": "PT1S"}
    command = [str(Path(sys.executable).parent / "foreshard"), "applier", "--every", "1"]
    with (folder / "applier.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def test_an_applier_that_is_killed_and_started_again_loses_nothing(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str, work_folder: Path
) -> None:
    alpha, beta = (partition_clients[name][unique_name]["last"] for name in ("alpha", "beta"))
    alpha.insert_many([{"_id": n, "key": "hot", "n": 0} for n in range(300)])
    ask(wiring, "hot", "beta")
    random_ = random.Random(1)
    applied = 0
    for _ in range(3):
        applier = start_applier(wiring, work_folder)
        try:
            wait_until(lambda: wiring.shadows.get("hot|beta").caught_up_at is not None, "the shadow catches up")
            for _ in range(150):
                number = random_.randrange(400)
                alpha.update_one({"_id": number}, {"$inc": {"n": 1}, "$setOnInsert": {"key": "hot"}}, upsert=True)
                alpha.delete_one({"_id": random_.randrange(400)})
            marker = f"marker {applied}"
            alpha.insert_one({"_id": marker, "key": "hot"})
            wait_until(lambda marker=marker: beta.find_one({"_id": marker}) is not None, "the marker arrives")
            applied += 1
        finally:
            applier.send_signal(signal.SIGKILL)
            applier.wait()
    applier = start_applier(wiring, work_folder)
    try:
        assert shadow_differences(wiring, "hot|beta") == ()
    finally:
        applier.send_signal(signal.SIGTERM)
        assert applier.wait(timeout=20) == 0
    assert documents(beta.database.client, unique_name, "hot") == documents(alpha.database.client, unique_name, "hot")


def record(
    wiring: Wiring, document_id: int, number: int, body: dict | None, origin: str = "alpha", collection: str = "last"
) -> ReplicationRecord:
    """A change as capture would publish it, ``number`` in the order of its origin."""
    namespace = f"{wiring.settings.collections[0].database}.{collection}"
    version = version_of_write(origin, 1, int(time.time()) + 1000, number)
    encoded = None if body is None else bson.encode({"_id": document_id, "key": "hot", **body})
    return ReplicationRecord(namespace, document_id, identity_of(namespace, document_id), "hot", origin, version, encoded)


@pytest.fixture
def log(wiring: Wiring) -> KafkaReplicationLog:
    return KafkaReplicationLog(wiring.settings.kafka_bootstrap, wiring.settings.replication_topic)


def test_deliveries_twice_and_out_of_order_converge(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str, log: KafkaReplicationLog
) -> None:
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    history = [record(wiring, n % 7, n, None if n % 5 == 0 else {"n": n}) for n in range(1, 60)]
    deliveries = history * 2
    random.Random(2).shuffle(deliveries)
    log.publish(deliveries)
    apply_bounded(wiring, 20)
    final = {r.document_id: r for r in history}
    expected = [bson.decode(r.document) for _, r in sorted(final.items()) if r.document is not None]
    assert documents(partition_clients["beta"], unique_name, "hot") == expected


def test_every_message_is_read_however_small_the_batches(wiring: Wiring, log: KafkaReplicationLog) -> None:
    log.publish([record(wiring, n, 1, {"n": n}) for n in range(1500)])
    reader = wiring.replication_reader()
    read: list[int] = []
    while len(read) < 1500 and (delivery := reader.read(70, 10)).records:
        read += [each.document_id for each in delivery.records]
        reader.commit()
    reader.close()
    assert sorted(read) == list(range(1500))


def test_shadows_survive_frozen_servers_and_lost_cursors(
    wiring: Wiring, mongods: tuple[Mongod, ...], kafka: Kafka, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    alpha, beta = (partition_clients[name][unique_name]["last"] for name in ("alpha", "beta"))
    alpha.insert_one({"_id": "first", "key": "hot"})
    with replicating(wiring):
        run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
        for pid_path in (mongods[2].spec.pid_path, kafka.spec.pid_path):
            pid = running_pid(pid_path)
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                alpha.insert_one({"_id": f"while {pid_path.stem} is frozen", "key": "hot"})
                partition_clients["alpha"].admin.command({"killAllSessions": []})
                time.sleep(1)
            finally:
                os.kill(pid, signal.SIGCONT)
            wait_until(lambda: beta.count_documents({}) == alpha.count_documents({}), f"it goes on after {pid_path.stem}", 60)
        assert shadow_differences(wiring, "hot|beta") == ()


def test_a_transaction_that_a_killed_writer_left_open_does_not_hold_the_next_one_up(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    alpha, beta = (partition_clients[name] for name in ("alpha", "beta"))
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    with beta.start_session() as left_behind:
        beta[unique_name]["shadow_writers"].insert_one({"_id": left_behind.session_id["id"]})
        left_behind.start_transaction()
        guard = {"_id": {"key": "hot", "role": "apply"}}
        beta[unique_name]["shadow_guards"].update_one(guard, {"$inc": {"beat": 1}}, session=left_behind)
        alpha[unique_name]["last"].insert_one({"_id": 1, "key": "hot"})
        assert apply_bounded(wiring, 20).stale == 0
        assert len(documents(beta, unique_name, "hot")) == 1


def test_a_concurrent_loser_is_kept_as_a_conflict(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str, log: KafkaReplicationLog
) -> None:
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    log.publish([record(wiring, 1, 5, {"from": "alpha"}), record(wiring, 1, 3, {"from": "gamma"}, origin="gamma")])
    apply_bounded(wiring, 20)
    (conflict,) = wiring.conflicts.open()
    assert documents(partition_clients["beta"], unique_name, "hot") == [{"_id": 1, "key": "hot", "from": "alpha"}]
    assert bson.decode(conflict.kept.body or b"")["from"] == "gamma"


def test_siblings_of_a_vector_clock_collection_are_kept_until_they_are_resolved(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str, log: KafkaReplicationLog
) -> None:
    alpha, beta = (partition_clients[name][unique_name] for name in ("alpha", "beta"))
    alpha["vector"].insert_one({"_id": 1, "key": "hot", "from": "alpha"})
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    log.publish([record(wiring, 1, 3, {"from": "gamma"}, origin="gamma", collection="vector")])
    apply_bounded(wiring, 20)
    (conflict,) = wiring.conflicts.open()
    assert len(beta["foreshard_versions"].find_one({"_id.id": 1})["siblings"]) == 1
    resolve_with_kept(wiring, conflict.conflict_id)
    alpha["vector"].update_one({"_id": 1}, {"$set": {"after": "the resolution"}})
    apply_bounded(wiring, 20)
    assert wiring.conflicts.open() == ()
    assert beta["vector"].find_one({"_id": 1}) == alpha["vector"].find_one({"_id": 1})
    assert beta["foreshard_versions"].find_one({"_id.id": 1})["siblings"] == []


def test_a_shadow_follows_its_primary_to_another_partition(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    alpha, beta, gamma = (partition_clients[name][unique_name]["last"] for name in ("alpha", "beta", "gamma"))
    alpha.insert_many([{"_id": n, "key": "hot", "n": n} for n in range(50)])
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    publish_shadow(wiring, "hot|beta")
    gamma.insert_many([*alpha.find({"key": "hot"}), {"_id": "new", "key": "hot"}])
    wiring.routing.publish([PlacementChange("hot", "gamma", ("beta",), 1, 2)], "a move")
    gamma.update_one({"_id": 3}, {"$set": {"n": "written at the new primary"}})
    apply_bounded(wiring, 20)
    alpha.delete_many({"key": "hot"})
    gamma.delete_one({"_id": 4})
    apply_bounded(wiring, 20)
    shadow = wiring.shadows.get("hot|beta")
    assert (shadow.source, shadow.epoch) == ("gamma", 2)
    assert documents(beta.database.client, unique_name, "hot") == documents(gamma.database.client, unique_name, "hot")


def test_a_shadow_whose_partition_becomes_the_primary_is_absorbed(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    partition_clients["alpha"][unique_name]["last"].insert_one({"_id": 1, "key": "hot"})
    shadow = ask(wiring, "hot", "beta")
    run_shadow(wiring, shadow.shadow_id)
    wiring.routing.publish([PlacementChange("hot", "beta", (), 1, 2)], "a move")
    apply_bounded(wiring, 20)
    assert _state(wiring) is ShadowState.RETIRED
    assert len(documents(partition_clients["beta"], unique_name, "hot")) == 1


def _state(wiring: Wiring) -> ShadowState:
    return wiring.shadows.get("hot|beta").state


def test_a_removed_shadow_leaves_the_table_and_then_the_partition(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    alpha, beta = (partition_clients[name][unique_name] for name in ("alpha", "beta"))
    alpha["last"].insert_many([{"_id": n, "key": "hot"} for n in range(20)])
    beta["last"].insert_one({"_id": "own", "key": "of beta"})
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    publish_shadow(wiring, "hot|beta")
    remove_shadow(wiring, "hot", "beta")
    assert retire_shadows(wiring).waiting == ("hot|beta",)
    assert wiring.routing.current().placements["hot"].shadows == ()
    wait_until(lambda: retire_shadows(wiring).waiting == (), "the copies are deleted")
    assert _state(wiring) is ShadowState.RETIRED
    assert list(beta["last"].find()) == [{"_id": "own", "key": "of beta"}]
    assert beta["foreshard_versions"].count_documents({"key": "hot"}) == 0
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    assert len(documents(partition_clients["beta"], unique_name, "hot")) == 20


def test_a_difference_without_a_pending_change_is_repaired(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    alpha, beta = (partition_clients[name][unique_name]["last"] for name in ("alpha", "beta"))
    alpha.insert_many([{"_id": n, "key": "hot"} for n in range(30)])
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    beta.delete_many({"_id": {"$lt": 3}})
    assert len(shadow_differences(wiring, "hot|beta")) == 3
    repaired = repair_shadow(wiring, "hot|beta")
    assert (repaired.different, repaired.repaired) == (3, 3)
    assert shadow_differences(wiring, "hot|beta") == ()
