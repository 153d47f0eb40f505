"""Access records of routed operations on a real broker, read as the observe stage reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.access_log_batches import frame_of

from foreshard.client._records import RequestScope
from foreshard.client._routed_client import ClientOptions, RoutedClient
from foreshard.errors import ConfigurationError, MissingSecret
from foreshard.model import AccessRecord
from foreshard.observe.pseudonym import SESSION, pseudonym
from foreshard.settings import CollectionSetting, Settings
from foreshard.stack._process import free_port
from foreshard.stack.kafka import Kafka, create_topic
from foreshard.stores.kafka.access_emitter import KafkaAccessEmitter
from foreshard.stores.kafka.access_log import KafkaAccessLog

HOUR = datetime(2024, 3, 1, 7, tzinfo=UTC)
SECRET = b"k" * 32
KEEP_FOR_EVER = {"retention.ms": "-1"}
"""Retention counts from a record's own time: the broker deletes week-old records every five minutes, even during a test."""


@pytest.fixture
def emitter(kafka: Kafka, unique_name: str) -> Iterator[KafkaAccessEmitter]:
    create_topic(kafka.bootstrap, unique_name, config=KEEP_FOR_EVER)
    made = KafkaAccessEmitter(kafka.bootstrap, unique_name)
    yield made
    made.close()


def records(kafka: Kafka, topic: str, hour: datetime) -> list[dict[str, object]]:
    log = KafkaAccessLog(kafka.bootstrap, topic, timedelta(minutes=5))
    return [row for batch in log.read_hour(hour) for row in frame_of(batch).to_dict("records")]


def test_each_operation_is_recorded_in_its_hour(kafka, unique_name, make_client, sharded, answerer, emitter) -> None:
    moment = HOUR + timedelta(minutes=5)
    client = make_client(
        ClientOptions(clock=lambda: moment), emitter=emitter, user_key=SECRET, request=RequestScope(location="San Jose")
    )
    things = client[sharded.database][sharded.collection]
    with client.request("checkout", user="rider 17", session="s1"):
        things.insert_one({"station": "a/ü"})
    with client.request(user="rider 18", location="Palo Alto", timestamp=moment + timedelta(hours=1)):
        things.find_one({"station": "b"})
    things.insert_many([{"station": "c"}, {"station": "d"}])
    things.update_many({"station": {"$in": ["c", "d"]}}, {"$set": {"n": 1}})
    things.delete_one({"station": "c"}, request="return")
    list(things.find({"station": {"$in": ["c", "d"]}}))
    assert things.count_documents({}) == 2
    assert len(list(things.find({}, sort="station", limit=1))) == 1
    assert client.flush(20) == 0
    assert client.dropped_records == 0
    seen = records(kafka, unique_name, HOUR)
    checkout = next(r for r in seen if r["request_type"] == "checkout")
    assert checkout["user_id"] == pseudonym(SECRET, "rider 17")
    assert checkout["session_id"] == pseudonym(SECRET, "s1", SESSION)
    assert (checkout["partitionable_key"], checkout["location"]) == ("a/ü", "San Jose")
    assert datetime.fromisoformat(str(checkout["timestamp"])) == moment
    found = sorted((str(r["request_type"]), str(r["partitionable_key"])) for r in seen)
    assert found == [
        ("checkout", "a/ü"), ("insert", "c"), ("insert", "d"), ("read", "c"), ("read", "d"), ("return", "c"),
        ("scan", "a/ü"), ("update", "c"), ("update", "d"),
    ]  # fmt: skip
    (later,) = records(kafka, unique_name, HOUR + timedelta(hours=1))
    assert (later["request_type"], later["location"]) == ("read", "Palo Alto")


def test_a_failed_operation_is_not_recorded(kafka, unique_name, make_client, sharded, answerer, emitter) -> None:
    client = make_client(emitter=emitter, user_key=SECRET)
    answerer.uris["alpha"] = f"mongodb://127.0.0.1:{free_port()}/?directConnection=true"
    with pytest.raises(Exception, match="partition alpha"):
        client[sharded.database][sharded.collection].insert_one({"station": "a"})
    things = client[sharded.database][sharded.collection]
    answerer.place("b", "beta")
    with client.request(timestamp=HOUR):
        things.insert_one({"station": "b"})
    client.flush(20)
    assert [r["partitionable_key"] for r in records(kafka, unique_name, HOUR)] == ["b"]


def test_a_broker_that_is_down_does_not_delay_the_app_and_lost_records_are_counted() -> None:
    emitter = KafkaAccessEmitter(f"127.0.0.1:{free_port()}", "nowhere", buffer=10, give_up=1.0)
    for number in range(25):
        emitter.emit(AccessRecord(HOUR, f"k{number}", None, "read"))
    assert emitter.dropped == 15
    assert emitter.flush(0.1) == 10
    emitter.close(timeout=0.1)
    assert emitter.dropped == 25
    emitter.close()
    emitter.emit(AccessRecord(HOUR, "late", None, "read"))
    assert emitter.dropped == 26


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_its_own_producer(kafka, unique_name, emitter) -> None:
    emitter.emit(AccessRecord(HOUR, "parent", None, "read"))
    child = os.fork()
    if child == 0:
        emitter.emit(AccessRecord(HOUR, "child", None, "read"))
        os._exit(min(255, emitter.flush(20)))
    assert os.waitpid(child, 0)[1] == 0
    assert emitter.flush(20) == 0
    assert emitter.dropped == 0
    assert sorted(str(r["partitionable_key"]) for r in records(kafka, unique_name, HOUR)) == ["child", "parent"]


def test_a_client_from_settings_needs_its_secret_and_its_collections() -> None:
    collection = CollectionSetting(database="app", collection="things", key_field="k")
    with pytest.raises(MissingSecret, match="FORESHARD_USER_KEY"):
        RoutedClient.from_settings(Settings(collections=(collection,)))
    with pytest.raises(ConfigurationError, match="FORESHARD_COLLECTIONS"):
        RoutedClient.from_settings(Settings(), access_records=False)
    with RoutedClient.from_settings(Settings(collections=(collection,)), access_records=False) as client:
        assert client["app"]["things"].name == "things"
        with pytest.raises(ConfigurationError, match=r"app\.other is not a sharded collection \(known: app\.things\)"):
            client["app"]["other"]
