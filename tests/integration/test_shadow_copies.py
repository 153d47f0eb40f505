"""Shadows on real mongods and a real Kafka equal their primary copies, whoever writes and whatever dies."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import WriteError
from tests.integration.shadow_stage import ask, documents, lay_out, make_wiring

from foreshard.client._driving import run
from foreshard.client.streams._partition_stream import PartitionStream, watched
from foreshard.model.cluster_time import ClusterTime
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import Heartbeat
from foreshard.stack.kafka import Kafka
from foreshard.stack.mongod import Mongod
from foreshard.stages.shadow import run_shadow
from foreshard.stages.shadow_apply import apply_bounded, replicating
from foreshard.stages.shadow_repair import shadow_differences
from foreshard.stores.control.control_feed import MongoControlFeed
from foreshard.wiring import Wiring


@pytest.fixture
def wiring(
    mongods: tuple[Mongod, ...], kafka: Kafka, unique_name: str, control: MongoClient, partition_clients: dict[str, MongoClient]
) -> Iterator[Wiring]:
    with make_wiring(mongods, kafka, unique_name) as made:
        lay_out(made, mongods, {"hot": "alpha", "cold": "alpha"})
        yield made


def write_at_random(client: MongoClient[Any], database: str, stop: threading.Event, seed: int) -> None:
    """Inserts, updates, replacements and deletes of a hot and a cold key, single and in transactions."""
    random_ = random.Random(seed)
    collection = client[database]["last"]
    while not stop.is_set():
        number = random_.randrange(60)
        where = {"_id": f"{seed}-{number}", "key": random_.choice(("hot", "hot", "cold"))}
        match random_.randrange(6):
            case 0 | 1:
                collection.update_one({"_id": where["_id"]}, {"$inc": {"n": 1}, "$setOnInsert": where}, upsert=True)
            case 2:
                collection.delete_one({"_id": where["_id"]})
            case 3:
                collection.replace_one({"_id": where["_id"]}, {**where, "text": "x" * random_.randrange(200)}, upsert=True)
            case 4:
                collection.update_one({"_id": where["_id"]}, {"$set": {"key": where["key"]}})
            case _:
                with client.start_session() as session, session.start_transaction():
                    collection.delete_one({"_id": where["_id"]}, session=session)
                    collection.insert_one({**where, "in": "transaction"}, session=session)
                    collection.update_one({"_id": where["_id"]}, {"$set": {"step": 2}}, session=session)


def test_a_shadow_equals_its_primary_after_concurrent_writes_of_every_kind(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    alpha, beta = partition_clients["alpha"], partition_clients["beta"]
    alpha[unique_name]["last"].insert_many([{"_id": f"old-{n}", "key": "hot", "n": n} for n in range(1200)])
    stop = threading.Event()
    writers = [threading.Thread(target=write_at_random, args=(alpha, unique_name, stop, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    try:
        summary = run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
        apply_bounded(wiring, 2)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert summary.state == ShadowState.READY
    assert shadow_differences(wiring, "hot|beta") == ()
    assert documents(beta, unique_name, "hot") == documents(alpha, unique_name, "hot")
    assert documents(beta, unique_name, "cold") == []


def test_an_app_cannot_write_to_a_shadow(wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str) -> None:
    partition_clients["alpha"][unique_name]["last"].insert_one({"_id": 1, "key": "hot"})
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    with pytest.raises(WriteError) as refused:
        partition_clients["beta"][unique_name]["last"].insert_one({"_id": 2, "key": "hot"})
    assert refused.value.code == 121


def test_an_idle_key_is_fresh(wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str) -> None:
    partition_clients["alpha"][unique_name]["last"].insert_one({"_id": 1, "key": "hot"})
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    summary = apply_bounded(wiring, 20)
    shadow = wiring.shadows.get("hot|beta")
    assert (summary.fresh, summary.stale) == (1, 0)
    assert shadow.lag_ms is not None
    assert shadow.lag_ms < 10_000


def test_a_shadow_has_every_write_up_to_its_cluster_time(
    wiring: Wiring, partition_clients: dict[str, MongoClient], control: MongoClient, unique_name: str
) -> None:
    alpha, beta = (partition_clients[name][unique_name]["last"] for name in ("alpha", "beta"))
    alpha.insert_one({"_id": 0, "key": "hot", "n": 0})
    run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
    feed, covered = MongoControlFeed(control[unique_name]), 0
    with replicating(wiring), partition_clients["alpha"].start_session() as session:
        for number in range(1, 9):
            alpha.update_one({"_id": 0}, {"$set": {"n": number}}, session=session)
            written = ClusterTime("alpha", session.operation_time.time, session.operation_time.inc)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                (fresh,) = feed.freshness()
                if fresh.applied_to is not None and fresh.applied_to.covers(written):
                    assert beta.find_one({"_id": 0})["n"] == number
                    covered += 1
                    break
                time.sleep(0.01)
    assert covered == 8


def test_a_watch_shows_nothing_of_what_is_written_to_a_shadow(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    sharded = next(c for c in wiring.settings.sharded_collections if c.collection == "last")
    alpha, beta = partition_clients["alpha"], partition_clients["beta"]
    bookkeeping = wiring.settings.control_database

    async def any_event(_event: object) -> bool:
        return True

    with beta.watch(watched(sharded, bookkeeping, [], looked_up=False), max_await_time_ms=200) as plain:
        stream = PartitionStream("beta", plain, bookkeeping, None, any_event)
        alpha[unique_name]["last"].insert_many([{"_id": n, "key": "hot", "n": n} for n in range(20)])
        run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
        alpha[unique_name]["last"].update_many({"key": "hot"}, {"$inc": {"n": 1}})
        alpha[unique_name]["last"].delete_one({"_id": 3})
        apply_bounded(wiring, 20)
        assert len(documents(beta, unique_name, "hot")) == 19
        beta[unique_name]["last"].insert_one({"_id": "app", "key": "other"})
        while stream.head is None:
            run(stream.fill())
        assert stream.take()["documentKey"] == {"_id": "app"}


def test_a_heartbeat_of_an_earlier_release_says_nothing_of_cluster_times(wiring: Wiring) -> None:
    captures, at = wiring.captures, datetime.now(UTC)
    captures.save_applied("alpha", "one", {0: Heartbeat("alpha", "one", 1, at)}, 2)
    captures.save_applied("alpha", "one", {1: Heartbeat("alpha", "one", 1, at, 1, ClusterTime("alpha", 10, 1))}, 2)
    assert captures.progress()["alpha"].committed is None
    captures.save_applied("alpha", "one", {0: Heartbeat("alpha", "one", 2, at, 0, ClusterTime("alpha", 9, 7))}, 2)
    assert captures.progress()["alpha"].committed == ClusterTime("alpha", 9, 7)
    captures.save_applied("alpha", "one", {0: Heartbeat("alpha", "one", 3, at)}, 2)  # an earlier release again
    assert captures.progress()["alpha"].committed == ClusterTime("alpha", 9, 7)


def test_two_replicators_share_the_work_by_lease(wiring: Wiring) -> None:
    with replicating(wiring) as first:
        while not first.active:
            pass
        with replicating(wiring) as second:
            run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
            assert first.active
            assert not second.active
