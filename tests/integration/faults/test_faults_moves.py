"""Stale tables: real moves under eight writers with a real sidecar. And a broker that stops while an app writes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from pymongo import InsertOne, UpdateOne
from tests.access_log_batches import frame_of
from tests.integration.client.looped import Loop, Looped
from tests.integration.faults.deployment import Deployment, wait_until

from foreshard.client import AsyncRoutedClient, ClientOptions, RoutedClient
from foreshard.model import Move, Placement, Reason
from foreshard.model.key_space import slot_unit
from foreshard.stack._process import free_port
from foreshard.stack.kafka import Kafka
from foreshard.stages import migrate
from foreshard.stores.kafka.access_log import KafkaAccessLog
from foreshard.wiring import Wiring

KEYS = ("key one", "key/2 ü")
WRITERS = 8


class Writer(threading.Thread):
    """An app's thread that inserts, increments, writes in bulk and deletes, and remembers the acknowledged writes."""

    def __init__(self, things: object, number: int, stop: threading.Event) -> None:
        super().__init__()
        self.things, self.number, self.stopping, self.random = things, number, stop, Random(number)
        self.standing: dict[str, str] = {}
        self.removed: set[str] = set()
        self.raised: Counter[str] = Counter()
        self.turns = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.act(self.random.choice(KEYS))
                self.turns += 1
        except BaseException as error:
            self.failure = error

    def act(self, key: str) -> None:
        things, name = self.things, f"w{self.number}:{self.turns}"
        match self.random.randrange(4):
            case 0:
                assert things.insert_one({"_id": name, "k": key}).inserted_id == name
                self.standing[name] = key
            case 1:
                assert things.update_one({"_id": f"counter {key}", "k": key}, {"$inc": {"n": 1}}).modified_count == 1
                self.raised[key] += 1
            case 2:
                counter = UpdateOne({"_id": f"counter {key}", "k": key}, {"$inc": {"n": 1}})
                done = things.bulk_write([InsertOne({"_id": f"{name}b", "k": key}), counter])
                assert (done.inserted_count, done.modified_count) == (1, 1)
                self.standing[f"{name}b"] = key
                self.raised[key] += 1
            case _ if self.standing:
                gone = self.random.choice(list(self.standing))
                assert things.delete_one({"_id": gone, "k": self.standing[gone]}).deleted_count == 1
                del self.standing[gone]
                self.removed.add(gone)


def move(wiring: Wiring, number: int, unit: str, source: str, target: str) -> None:
    planned = Move(f"move {number}", (unit,), source, target, 1, "clump", Reason("test", "for a test", {}))
    wiring.move_journal.plan(planned, datetime(2026, 1, 5, 8, tzinfo=UTC))
    summary = migrate.run_move(wiring, planned.move_id)
    assert summary.state == "switched", summary
    migrate.clean_moves(wiring)


@pytest.mark.parametrize("by_slot", [False, True])
def test_eight_writers_lose_double_and_misplace_nothing_while_their_keys_move(deployment: Deployment, by_slot: bool) -> None:
    """Half of them use the synchronous client, half the asynchronous one."""
    deployment.publish({} if by_slot else {key: Placement(key, "alpha") for key in KEYS})
    deployment.start_sidecar()
    owner = dict.fromkeys(KEYS, "alpha")
    stop = threading.Event()
    options = {"sidecar_url": deployment.url, "access_records": False, "options": ClientOptions(deadline=20.0)}
    client, loop = RoutedClient.from_settings(deployment.settings, **options), Loop()
    twin = AsyncRoutedClient.from_settings(deployment.settings, **options)
    collections = [client[deployment.database]["things"], Looped(twin[deployment.database]["things"], loop)]
    collections[0].insert_many([{"_id": f"counter {key}", "k": key, "n": 0} for key in KEYS])
    writers = [Writer(collections[number % 2], number, stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        with Wiring(deployment.settings) as wiring:
            for number in range(6):
                key = KEYS[number % 2]
                target = "beta" if owner[key] == "alpha" else "alpha"
                unit = slot_unit(wiring.routing.space().slot_of(key)) if by_slot else key
                move(wiring, number, unit, owner[key], target)
                owner[key] = target
                seen = sum(writer.turns for writer in writers)
                wait_until(lambda seen=seen: sum(w.turns for w in writers) > seen + 40 or any(w.failure for w in writers))
            stop.set()
            for writer in writers:
                writer.join()
            wait_until(lambda: not migrate.clean_moves(wiring) and settled(deployment, owner))
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [writer.failure for writer in writers] == [None] * WRITERS
    check(deployment, writers, owner)
    assert deployment.figure("fence_refreshes_total") > 0
    client.close()
    loop.run(twin.close())
    loop.close()


def settled(deployment: Deployment, owner: dict[str, str]) -> bool:
    """Return whether a key has documents at its owner only."""
    for name in ("alpha", "beta"):
        with deployment.stand(name) as client:
            elsewhere = [key for key, at in owner.items() if at != name]
            if client[deployment.database]["things"].count_documents({"k": {"$in": elsewhere}}):
                return False
    return True


def check(deployment: Deployment, writers: list[Writer], owner: dict[str, str]) -> None:
    """Check that every acknowledged write exists exactly once, at its key's owner."""
    for key, at in owner.items():
        with deployment.stand(at) as client:
            found = {d["_id"]: d for d in client[deployment.database]["things"].find({"k": key})}
        assert found.pop(f"counter {key}")["n"] == sum(writer.raised[key] for writer in writers)
        assert set(found) == {name for writer in writers for name, k in writer.standing.items() if k == key}
    assert sum(len(writer.removed) for writer in writers) > 0


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker that the test may stop."""
    broker = Kafka(free_port(), free_port(), tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


def test_without_kafka_routing_goes_on_and_the_records_come_when_it_is_back(deployment: Deployment, own_kafka: Kafka) -> None:
    deployment.kafka = own_kafka.bootstrap
    deployment.publish({})
    deployment.start_sidecar()
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    options = ClientOptions(clock=lambda: hour + timedelta(minutes=1))
    with RoutedClient.from_settings(deployment.settings, sidecar_url=deployment.url, options=options) as client:
        things = client[deployment.database]["things"]
        things.insert_one({"_id": 1, "k": "a"})
        assert client.flush(30) == 0
        own_kafka.stop()
        for number in range(2, 50):
            things.insert_one({"_id": number, "k": "a"})
        assert things.find_one({"_id": 49, "k": "a"}) is not None
        assert client.flush(0.1) == 49
        own_kafka.start()
        assert client.flush(60) == 0
        assert client.dropped_records == 0
    log = KafkaAccessLog(own_kafka.bootstrap, deployment.settings.access_topic, timedelta(minutes=5))
    kinds = Counter(row["request_type"] for batch in log.read_hour(hour) for row in frame_of(batch).to_dict("records"))
    assert kinds == {"insert": 49, "read": 1}
