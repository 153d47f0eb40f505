"""Access records to Kafka: JSON with the standard columns, keyed by the partitionable key, stamped with the access's own time.

``emit`` puts a record into librdkafka's bounded buffer and returns; a thread delivers. A record is dropped, and counted,
where the buffer is full (Kafka has been down for long) or where Kafka has not taken it for ``give_up`` seconds. Delivery is
idempotent, so that a resent batch leaves no duplicates.
"""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from foreshard.model import AccessRecord

POLL_SECONDS = 0.1


class KafkaAccessEmitter:
    """An :class:`foreshard.ports.access_records.AccessEmitter`; safe to use from several threads, and after a fork."""

    def __init__(self, bootstrap: str, topic: str, *, buffer: int = 100_000, give_up: float = 300.0) -> None:
        self._topic = topic
        self._config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap,
            "client.id": "foreshard-client",
            "enable.idempotence": True,
            "linger.ms": 50,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": buffer,
            "message.timeout.ms": int(give_up * 1000),
            "log_level": 0,
        }
        self._lock = threading.Lock()
        self._dropped = 0
        self._start()

    @property
    def dropped(self) -> int:
        """Records that did not reach Kafka."""
        return self._dropped

    def emit(self, record: AccessRecord) -> None:
        """Queue one record; after ``close`` it is dropped."""
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._start()
        if self._stopped.is_set():
            self._drop()
            return
        moment = record.timestamp.replace(tzinfo=UTC) if record.timestamp.tzinfo is None else record.timestamp
        try:
            self._producer.produce(
                self._topic,
                value=encode(record),
                key=record.partitionable_key.encode("utf-8", "surrogatepass"),
                timestamp=max(0, round(moment.timestamp() * 1000)),
                on_delivery=self._delivered,
            )
        except (BufferError, KafkaException):
            self._drop()
        else:
            with self._lock:
                self._queued += 1

    def flush(self, timeout: float) -> int:
        """Wait for the deliveries; return how many records still wait."""
        deadline = time.monotonic() + timeout
        self._producer.flush(timeout)
        while (left := self._waiting()) and time.monotonic() < deadline:
            self._producer.flush(max(0.0, deadline - time.monotonic()))
        return left

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what waits, count the rest as dropped, and end the thread."""
        if self._stopped.is_set():
            return
        left = self.flush(timeout) if self._process == os.getpid() else 0
        self._stopped.set()
        self._thread.join(timeout=1.0)
        if left:
            self._producer.purge()
            self._producer.flush(1.0)

    def _waiting(self) -> int:
        """Records that are neither delivered nor given up (librdkafka's own count has its requests in it as well)."""
        with self._lock:
            return self._queued - self._settled

    def _start(self) -> None:
        self._queued = self._settled = 0
        self._producer = Producer({**self._config, "error_cb": lambda _error: None})
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=_deliver, args=(self._producer, self._stopped), name="foreshard-access", daemon=True
        )
        self._thread.start()
        self._process = os.getpid()

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        with self._lock:
            self._settled += 1
        if error is not None:
            self._drop()

    def _drop(self) -> None:
        with self._lock:
            self._dropped += 1


def encode(record: AccessRecord) -> bytes:
    """The record as it stands in the topic."""
    moment = record.timestamp.replace(tzinfo=UTC) if record.timestamp.tzinfo is None else record.timestamp.astimezone(UTC)
    fields = {
        "timestamp": moment.isoformat(),
        "partitionable_key": record.partitionable_key,
        "user_id": record.user_id,
        "request_type": record.request_type,
        "location": record.location,
        "session_id": record.session_id,
        "cost": record.cost,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def _deliver(producer: Producer, stopped: threading.Event) -> None:
    while not stopped.is_set():
        producer.poll(POLL_SECONDS)
