"""The replication topic: changes of shadowed keys, keyed by document (so ordered per document), and heartbeats.

A message is BSON: ``{kind: "record", ns, id, key, origin, version, document, rekeyed}`` with the exact document embedded, or
``{kind: "heartbeat", origin, incarnation, cycle, seen_until, committed}`` in every topic partition; a capture id is stored as
``incarnation``.

One process consumes at a time (under the replicator's lease), so topic partitions are assigned, not balanced. A restart
continues at once and does not wait for a dead member's session. Positions are committed after the records are applied.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import bson
from bson import Timestamp
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from confluent_kafka import OFFSET_INVALID, OFFSET_STORED, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from foreshard.errors import Unreachable
from foreshard.model.cluster_time import ClusterTime
from foreshard.ports.replication import Delivery, Heartbeat, ReplicationRecord
from foreshard.stores.bson_codec import RAW, identity_of
from foreshard.stores.version_documents import read_version, version_document

LARGEST_MESSAGE = 20 * 2**20
"""MongoDB's largest document (16 MB) and its envelope."""
BATCH_BYTES = 32 * 2**20
DELIVERY_SECONDS = 30
QUIET: dict[str, Any] = {"log_level": 0, "error_cb": lambda _error: None}
REMEDY = "start it or set FORESHARD_KAFKA_BOOTSTRAP"


def ensure_topic(bootstrap: str, topic: str, partitions: int = 4) -> int:
    """Create the topic if it does not exist. Return its number of partitions. Raise :class:`Unreachable`."""
    client = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    try:
        known = client.list_topics(timeout=10).topics
        if topic not in known:
            config = {"max.message.bytes": str(LARGEST_MESSAGE)}
            client.create_topics([NewTopic(topic, partitions, -1, config=config)])[topic].result(timeout=20)
            return partitions
        return len(known[topic].partitions)
    except KafkaException as error:
        if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
            return ensure_topic(bootstrap, topic, partitions)
        raise Unreachable("kafka", bootstrap, REMEDY) from error


class KafkaReplicationLog:
    """The producing end; implements :class:`foreshard.ports.replication.ReplicationLog`. Safe for threads."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._partitions = ensure_topic(bootstrap, topic)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 2,
                "message.max.bytes": LARGEST_MESSAGE,
                "message.timeout.ms": DELIVERY_SECONDS * 1000,
                **QUIET,
            }
        )
        _find_brokers(self._producer, topic, bootstrap)

    def publish(self, records: Sequence[ReplicationRecord]) -> None:
        """Return when all are acknowledged. Raise :class:`Unreachable` if one is not; publish all of them again then."""
        self._send([(encode_record(record), record.identity, -1) for record in records])

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        beat = {
            "kind": "heartbeat", "origin": heartbeat.origin, "incarnation": heartbeat.capture_id, "cycle": heartbeat.cycle,
            "seen_until": heartbeat.seen_until,
        }  # fmt: skip
        if heartbeat.committed is not None:
            beat["committed"] = Timestamp(heartbeat.committed.seconds, heartbeat.committed.increment)
        self._send([(bson.encode(beat), None, partition) for partition in range(self._partitions)])

    def _send(self, messages: Sequence[tuple[bytes, bytes | None, int]]) -> None:
        pending, failed = len(messages), 0
        deadline = time.monotonic() + DELIVERY_SECONDS + 5

        def delivered(error: object, _message: object) -> None:
            nonlocal pending, failed
            pending -= 1
            failed += error is not None

        for value, key, partition in messages:
            while True:
                try:
                    self._producer.produce(self._topic, value, key, partition, on_delivery=delivered)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        while pending and time.monotonic() < deadline:
            self._producer.poll(0.05)
        if pending or failed:
            self._producer.purge()
            self._producer.poll(0)
            raise Unreachable("kafka", self._bootstrap, REMEDY)


class KafkaReplicationReader:
    """The consuming end; implements :class:`foreshard.ports.replication.ReplicationReader`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._count = ensure_topic(bootstrap, topic)
        self._positions: dict[int, int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{topic}.applier",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": LARGEST_MESSAGE,
                **QUIET,
            }
        )
        self._assigned = False
        _find_brokers(self._consumer, topic, bootstrap)

    @property
    def topic_partitions(self) -> int:
        """The number of topic partitions."""
        return self._count

    def read(self, limit: int, wait_seconds: float) -> Delivery:
        """Return at most ``limit`` messages (fewer if they are large), as soon as some are there and no more wait."""
        records: list[ReplicationRecord] = []
        heartbeats: list[Heartbeat] = []
        unreadable = taken = size = 0
        if not self._assigned:
            self._consumer.assign([TopicPartition(self._topic, number, OFFSET_STORED) for number in range(self._count)])
            self._assigned = True
        waiting = self._consumer.poll(wait_seconds)
        while waiting is not None:
            # consume() waits until it has as many as it's asked for: it is asked for what is there already
            messages = [waiting, *self._consumer.consume(min(100, limit - taken), 0.001)]
            for message in messages:
                if message.error() is not None:
                    continue
                taken, size = taken + 1, size + len(message.value() or b"")
                self._positions[message.partition()] = message.offset() + 1
                read = decode(message)
                if isinstance(read, ReplicationRecord):
                    records.append(read)
                elif read is not None:
                    heartbeats.append(read)
                else:
                    unreadable += 1
            waiting = self._consumer.poll(0) if taken < limit and size < BATCH_BYTES else None
        return Delivery(tuple(records), tuple(heartbeats), unreadable)

    def commit(self) -> None:
        if self._positions:
            offsets = [TopicPartition(self._topic, number, offset) for number, offset in self._positions.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
            self._positions = {}

    def gap(self, positions_expected: bool) -> str | None:
        wanted = [TopicPartition(self._topic, number) for number in range(self._count)]
        for position in self._consumer.committed(wanted, timeout=10):
            oldest, end = self._consumer.get_watermark_offsets(position, timeout=10)
            if position.offset == OFFSET_INVALID:
                if positions_expected:
                    return f"partition {position.partition} of the topic has lost the position that was applied"
                if oldest > 0:
                    return f"records before {oldest} of partition {position.partition} expired unread"
            elif position.offset < oldest:
                return f"records {position.offset} to {oldest} of partition {position.partition} expired unread"
            elif position.offset > end:
                return f"partition {position.partition} ends at {end}, before the position {position.offset} that was applied"
        return None

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def _find_brokers(client: Producer | Consumer, topic: str, bootstrap: str) -> None:
    """Connect to the topic's brokers now, which takes milliseconds. By itself the client waits half a second."""
    try:
        client.list_topics(topic, timeout=10)
    except KafkaException as error:
        raise Unreachable("kafka", bootstrap, REMEDY) from error


def encode_record(record: ReplicationRecord) -> bytes:
    """Return a record as a message."""
    document = None if record.document is None else RawBSONDocument(record.document, RAW)
    return bson.encode(
        {
            "kind": "record",
            "ns": record.namespace,
            "id": record.document_id,
            "key": record.key,
            "origin": record.origin,
            "version": version_document(record.version),
            "document": document,
            "rekeyed": record.rekeyed,
        }
    )


def decode(message: Message) -> ReplicationRecord | Heartbeat | None:
    """Return the content of a message; None if it is foreign."""
    try:
        body = RawBSONDocument(message.value() or b"", RAW)
        if body["kind"] == "heartbeat":
            beat = Heartbeat(body["origin"], body["incarnation"], int(body["cycle"]), body["seen_until"])
            at = body.get("committed")
            committed = None if at is None else ClusterTime(beat.origin, at.time, at.inc)
            return replace(beat, topic_partition=message.partition() or 0, committed=committed)
        document = body["document"]
        return ReplicationRecord(
            body["ns"],
            body["id"],
            identity_of(body["ns"], body["id"]),
            body["key"],
            body["origin"],
            read_version(body["version"]),
            None if document is None else bytes(document.raw),
            body["rekeyed"],
        )
    except (BSONError, KeyError, TypeError, ValueError):
        return None
