"""The access log in a real Kafka topic."""

import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.access_log_batches import frame_of

from foreshard.errors import HourIncomplete, Unreachable
from foreshard.model import hour_floor
from foreshard.observe.clean import clean
from foreshard.stack._process import free_port
from foreshard.stack.kafka import Kafka, create_topic
from foreshard.stores.kafka import access_log as kafka_access_log
from foreshard.stores.kafka.access_log import KafkaAccessLog

LATENESS = timedelta(minutes=5)
HOUR = hour_floor(datetime.now(UTC)) - timedelta(hours=5)


def record(key: str, moment: datetime, **more: Any) -> dict[str, Any]:
    return {"timestamp": moment.isoformat(), "partitionable_key": key, "request_type": "read", **more}


def send(broker: Kafka, topic: str, messages: Iterable[tuple[int, datetime, Any]], **options: Any) -> None:
    """Send (partition, message time, record or raw bytes)."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, **options})
    for partition, moment, value in messages:
        payload = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        producer.produce(topic, payload, partition=partition, timestamp=int(moment.timestamp() * 1000))
        producer.poll(0)
    assert producer.flush(30) == 0


def minutes(number: float) -> datetime:
    return HOUR + timedelta(minutes=number)


def read(broker: Kafka, topic: str, hour: datetime = HOUR) -> pd.DataFrame:
    batches = list(KafkaAccessLog(broker.bootstrap, topic, LATENESS).read_hour(hour))
    return pd.concat(map(frame_of, batches), ignore_index=True) if batches else pd.DataFrame({"partitionable_key": []})


def in_place_order(found: pd.DataFrame) -> pd.DataFrame:
    """Kafka orders the records of one partition, not those of several."""
    return found.sort_values("source", ignore_index=True)


@pytest.fixture
def topic(kafka: Kafka, unique_name: str) -> str:
    create_topic(kafka.bootstrap, unique_name, 3)
    return unique_name


def test_an_hour_is_read_from_all_partitions_and_nothing_of_its_neighbours(kafka: Kafka, topic: str) -> None:
    moments = {"before": -0.001, "first": 0, "middle": 30, "last": 59.999, "after": 60, "later": 200}
    send(
        kafka,
        topic,
        ((number % 3, minutes(at), record(name, minutes(at))) for number, (name, at) in enumerate(moments.items())),
    )
    found = read(kafka, topic)
    assert set(found["partitionable_key"]) == {"first", "middle", "last"}
    assert set(read(kafka, topic, HOUR + timedelta(hours=1))["partitionable_key"]) == {"after"}
    assert in_place_order(read(kafka, topic)).equals(in_place_order(found))


def test_an_hour_without_records_gives_none(kafka: Kafka, topic: str) -> None:
    assert read(kafka, topic).empty
    send(kafka, topic, [(0, minutes(90), record("later", minutes(90)))])
    assert read(kafka, topic).empty


def test_late_records_are_found_and_a_clock_that_runs_ahead_cuts_nothing_off(kafka: Kafka, topic: str) -> None:
    at = [5, 119, 10, 61, 58, 20, 66, 59]
    send(kafka, topic, ((0, minutes(m), record(f"at {m}", minutes(m))) for m in at))
    assert read(kafka, topic)["partitionable_key"].tolist() == ["at 5", "at 10", "at 58", "at 20", "at 59"]


def test_a_producer_that_runs_two_hours_ahead_cuts_nothing_off(kafka: Kafka, topic: str) -> None:
    ahead = [(0, minutes(150), record("ahead", minutes(150)))] * 1_500
    send(kafka, topic, [(0, minutes(5), record("early", minutes(5))), *ahead, (0, minutes(6), record("late", minutes(6)))])
    send(kafka, topic, [(0, minutes(60 * 5.9), record("much later", minutes(60 * 5.9)))])
    assert read(kafka, topic)["partitionable_key"].tolist() == ["early", "late"]
    assert len(read(kafka, topic, HOUR + timedelta(hours=2))) == 1_500


def test_reading_stops_behind_the_tolerance_of_clocks(kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_access_log, "CLOCK_TOLERANCE", timedelta(minutes=10))
    at = [5, 70, 6, 74, 75, 7]
    send(kafka, topic, ((0, minutes(m), record(f"at {m}", minutes(m))) for m in at))
    assert read(kafka, topic)["partitionable_key"].tolist() == ["at 5", "at 6"]


def test_records_that_come_after_the_first_read_are_found_by_the_next(kafka: Kafka, topic: str) -> None:
    send(kafka, topic, [(0, minutes(5), record("in time", minutes(5))), (0, minutes(61), record("next", minutes(61)))])
    assert read(kafka, topic)["partitionable_key"].tolist() == ["in time"]
    send(kafka, topic, [(0, minutes(59), record("late", minutes(59)))])
    assert read(kafka, topic)["partitionable_key"].tolist() == ["in time", "late"]


def test_a_record_stamped_when_it_was_sent_counts_in_the_hour_of_its_access(kafka: Kafka, topic: str) -> None:
    send(
        kafka,
        topic,
        [(0, minutes(61), record("at the end", minutes(59))), (0, minutes(1), record("of the hour before", minutes(-1)))],
    )
    assert read(kafka, topic)["partitionable_key"].tolist() == ["at the end"]
    assert read(kafka, topic, HOUR - timedelta(hours=1))["partitionable_key"].tolist() == ["of the hour before"]
    assert read(kafka, topic, HOUR + timedelta(hours=1)).empty


def test_a_record_whose_time_is_far_from_its_messages_is_named_in_the_hour_of_its_message(kafka: Kafka, topic: str) -> None:
    send(kafka, topic, [(0, minutes(5), record("replayed", minutes(-600))), (0, minutes(6), record("fine", minutes(6)))])
    cleaned = clean(read(kafka, topic), HOUR, HOUR + timedelta(hours=1), ["read"])
    assert cleaned.accepted["partitionable_key"].tolist() == ["fine"]
    assert cleaned.quarantined[["partitionable_key", "reason"]].values.tolist() == [["replayed", "out_of_hour"]]


def test_a_topic_that_stamps_messages_when_they_arrive_counts_by_the_time_of_the_record(kafka: Kafka, unique_name: str) -> None:
    new = NewTopic(unique_name, 1, config={"message.timestamp.type": "LogAppendTime"})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([new])[unique_name].result(30)
    now = datetime.now(UTC)
    hour = hour_floor(now)
    moments = [now - timedelta(minutes=3), now, hour - timedelta(seconds=1)]
    send(kafka, unique_name, ((0, at, record(at.isoformat(), at)) for at in moments))
    lateness = timedelta(minutes=70)
    found = {
        start: [
            key
            for b in KafkaAccessLog(kafka.bootstrap, unique_name, lateness).read_hour(start)
            for key in frame_of(b)["partitionable_key"]
        ]
        for start in (hour - timedelta(hours=1), hour)
    }
    for start, keys in found.items():
        assert keys == [at.isoformat() for at in moments if hour_floor(at) == start]


def test_an_open_transaction_is_waited_for_and_named_if_it_stays_open(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(kafka, topic, ((0, minutes(n / 100), record(f"k{n}", minutes(n / 100))) for n in range(300)))
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    for n in range(300, 500):
        payload = json.dumps(record(f"k{n}", minutes(n / 100))).encode()
        producer.produce(topic, payload, partition=0, timestamp=int(minutes(n / 100).timestamp() * 1000))
    producer.flush(30)
    monkeypatch.setattr(kafka_access_log, "TRANSACTION_SECONDS", 0.5)
    with pytest.raises(HourIncomplete, match=rf"a transaction at {topic}\[0\]@300 is still open"):
        read(kafka, topic)
    monkeypatch.setattr(kafka_access_log, "TRANSACTION_SECONDS", 30.0)
    committing = threading.Timer(1.0, producer.commit_transaction, [30])
    committing.start()
    assert len(read(kafka, topic)) == 500
    committing.join()


def test_a_topic_that_has_deleted_its_beginning_does_not_hold_the_hour(kafka: Kafka, topic: str) -> None:
    send(kafka, topic, ((0, minutes(n), record(f"k{n}", minutes(n))) for n in range(-60, 60)))
    log = KafkaAccessLog(kafka.bootstrap, topic, LATENESS)
    assert log.holds_whole(HOUR)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for offset, whole in ((30, True), (80, False)):
        [done] = admin.delete_records([TopicPartition(topic, 0, offset)]).values()
        done.result(30)
        assert log.holds_whole(HOUR) is whole


def test_a_value_that_is_not_a_json_object_becomes_a_malformed_row_with_its_position(kafka: Kafka, topic: str) -> None:
    payloads = [b"{not json", b"\xff\xfe", b"[1, 2]", b'"text"', None, b"", record("fine", minutes(1), user_id="ann")]
    send(kafka, topic, ((0, minutes(1), payload) for payload in payloads))
    found = read(kafka, topic)
    assert found["malformed"].tolist() == [True] * 6 + [None]
    assert found["partitionable_key"].tolist() == [None] * 6 + ["fine"]
    assert found["source"].tolist() == [f"{topic}[0]@{offset}" for offset in range(7)]
    assert "not json" not in found.to_json()


def test_records_come_with_their_values_as_they_came(kafka: Kafka, topic: str) -> None:
    odd = {"timestamp": 17, "partitionable_key": ["x"], "cost": "1", "session_id": 4, "email": "ann@example.org"}
    send(kafka, topic, [(1, minutes(1), odd)])
    found = read(kafka, topic).iloc[0]
    assert (found["timestamp"], found["partitionable_key"], found["cost"], found["session_id"]) == (17, ["x"], "1", 4)
    assert "email" not in found.index


def test_aborted_transactions_are_not_read_and_do_not_hold_the_reading_up(kafka: Kafka, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for name, commit in (("kept", True), ("dropped", False)):
        producer.begin_transaction()
        payload = json.dumps(record(name, minutes(2))).encode()
        producer.produce(topic, payload, partition=0, timestamp=int(minutes(2).timestamp() * 1000))
        producer.flush(30)
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    assert read(kafka, topic)["partitionable_key"].tolist() == ["kept"]


def test_many_records_come_in_batches_and_none_is_lost(kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_access_log, "BATCH_RECORDS", 4_000)
    send(kafka, topic, ((n % 3, minutes(n / 200), record(f"k{n}", minutes(n / 200))) for n in range(12_500)))
    batches = list(KafkaAccessLog(kafka.bootstrap, topic, LATENESS).read_hour(HOUR))
    assert max(map(len, batches)) <= 4_000
    assert sum(map(len, batches)) == 12_000
    assert set(pd.concat(map(frame_of, batches))["partitionable_key"]) == {f"k{n}" for n in range(12_000)}


def test_a_missing_topic_is_one_clear_line(kafka: Kafka) -> None:
    with pytest.raises(Unreachable) as raised:
        read(kafka, "no.such.topic")
    assert "no topic 'no.such.topic'" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_broker_that_does_not_answer_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_access_log, "PATIENCE_SECONDS", 0.5)
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable) as raised:
        list(KafkaAccessLog(address, "access", LATENESS).read_hour(HOUR))
    assert address in str(raised.value)
    assert "\n" not in str(raised.value)
