"""Sends access records to Kafka: JSON with the standard columns, keyed by the partitionable key, at the time of the access.

``emit`` puts a record into a bounded buffer and returns. A thread encodes and sends the records and receives the delivery
reports. A record is dropped and counted if ``buffer`` records are already waiting, or if Kafka has not accepted it for
``give_up`` seconds. Delivery is idempotent: a resent batch leaves no duplicates.
Each record has an id, so that one which is copied twice on its way, by a mirror of the topic for example, counts once.
"""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections import deque
from datetime import UTC

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from foreshard.model import AccessRecord

POLL_SECONDS = 0.1
_INHERITED: list[object] = []
"""Producers of the parents of a forked process. Their threads do not exist here, so closing them would hang."""


class KafkaAccessEmitter:
    """Implements :class:`foreshard.ports.access_records.AccessEmitter`. Safe for threads and after a fork."""

    def __init__(self, bootstrap: str, topic: str, *, buffer: int = 100_000, give_up: float = 300.0) -> None:
        self._topic, self._buffer = topic, buffer
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
        self._dropped = 0
        self._closed = False
        self._forget()
        self._start()
        itself = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (forget := itself()) and forget())

    @property
    def dropped(self) -> int:
        return self._dropped

    def emit(self, record: AccessRecord) -> None:
        """Queue one record. After ``close`` it is dropped."""
        with self._lock:
            if self._closed or self._waiting() >= self._buffer:
                self._dropped += 1
                return
            self._records.append(record)
        if not self._started:
            self._start()

    def flush(self, timeout: float) -> int:
        """Wait for the deliveries. Return the number of records that still wait."""
        deadline = time.monotonic() + timeout
        while self._started:
            self._send_all()
            self._producer.flush(max(0.0, deadline - time.monotonic()))
            if not self._waiting() or time.monotonic() >= deadline:
                break
        return self._waiting()

    def close(self, timeout: float = 5.0) -> None:
        """Deliver the waiting records, count the rest as dropped, and end the thread."""
        if self._closed:
            return
        left = self.flush(timeout)
        self._closed = True
        self._stopped.set()
        if self._started:
            self._thread.join(timeout=1.0)
            if left:
                self._producer.purge()
                self._producer.flush(1.0)

    def _waiting(self) -> int:
        """Records that are neither delivered nor dropped. (librdkafka's own count includes its requests.)"""
        return len(self._records) + self._queued - self._finished

    def _forget(self) -> None:
        """Start without records, threads and locks. In a forked child they belong to the parent."""
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._records: deque[AccessRecord] = deque()
        self._queued = self._finished = self._numbered = 0
        self._start_of_ids = os.urandom(8).hex()
        self._stopped = threading.Event()
        self._started = False

    def _start(self) -> None:
        with self._sending:
            if self._started:
                return
            _INHERITED.append(self.__dict__.get("_producer"))
            self._producer = Producer({**self._config, "error_cb": lambda _error: None})
            self._thread = threading.Thread(target=self._deliver, name="foreshard-access", daemon=True)
            self._thread.start()
            self._started = True

    def _deliver(self) -> None:
        while not self._stopped.is_set():
            self._send_all()
            self._producer.poll(POLL_SECONDS)

    def _send_all(self) -> None:
        with self._sending:
            while self._records:
                self._send(self._records[0])
                with self._lock:
                    self._records.popleft()
                    self._queued += 1

    def _send(self, record: AccessRecord) -> None:
        moment = record.timestamp.replace(tzinfo=UTC) if record.timestamp.tzinfo is None else record.timestamp
        self._numbered += 1
        try:
            self._producer.produce(
                self._topic,
                value=encode(record, f"{self._start_of_ids}-{self._numbered:x}"),
                key=record.partitionable_key.encode("utf-8", "surrogatepass"),
                timestamp=max(0, round(moment.timestamp() * 1000)),
                on_delivery=self._delivered,
            )
        except (BufferError, KafkaException, ValueError, TypeError):
            self._lost()

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._lost()
            return
        with self._lock:
            self._finished += 1

    def _lost(self) -> None:
        with self._lock:
            self._finished += 1
            self._dropped += 1


def encode(record: AccessRecord, record_id: str) -> bytes:
    """Return the record as the topic stores it."""
    moment = record.timestamp.replace(tzinfo=UTC) if record.timestamp.tzinfo is None else record.timestamp.astimezone(UTC)
    fields = {
        "timestamp": moment.isoformat(),
        "partitionable_key": record.partitionable_key,
        "user_id": record.user_id,
        "request_type": record.request_type,
        "location": record.location,
        "session_id": record.session_id,
        "cost": record.cost,
        "record_id": record_id,
    }
    return json.dumps(fields, separators=(",", ":")).encode()
