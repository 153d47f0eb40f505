"""The access log in a Kafka topic: JSON records whose message timestamp is the time of the access.

A value is ``{"timestamp": ISO 8601, "partitionable_key", "user_id", "request_type", "location", "session_id", "cost"}``. An
hour is read from the first offset whose time is in it until the hour is *complete*: past the first offset that is
``allowed_lateness`` after it, and past ``LATER_MESSAGES`` further messages in a row of later hours, so that one producer with a
fast clock does not cut an hour short. Nothing is committed. Reading again gives the same records, in the same order within a
topic partition; the order of the topic partitions may differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from confluent_kafka import OFFSET_END, TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from foreshard.errors import Unreachable
from foreshard.model import ONE_HOUR
from foreshard.observe.batches import RawBatch
from foreshard.stores.files.json_lines import parsed

LATER_MESSAGES = 1_000
BATCH_RECORDS = 50_000
FETCHED_AT_ONCE = 5_000
PATIENCE_SECONDS = 15.0
_LEADERLESS = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION)
_Answer = TypeVar("_Answer")


class KafkaAccessLog:
    """Reads one hour of all partitions of ``topic``, between offsets that are looked up by time."""

    def __init__(self, bootstrap: str, topic: str, allowed_lateness: timedelta) -> None:
        self._bootstrap, self._topic, self._lateness = bootstrap, topic, allowed_lateness

    def read_hour(self, hour: datetime) -> Iterator[RawBatch]:
        """Yield the records whose message time is in the hour. Raise :class:`Unreachable` without a broker or topic."""
        consumer = self._consumer()
        try:
            values: list[bytes] = []
            places: list[str] = []
            for message in self._messages(consumer, hour):
                values.append(message.value() or b"")
                places.append(f"{message.topic()}[{message.partition()}]@{message.offset()}")
                if len(values) >= BATCH_RECORDS:
                    yield parsed(values, places)
                    values, places = [], []
            if values:
                yield parsed(values, places)
        except KafkaException as error:
            raise self._unreachable(f"see that the broker runs ({error.args[0].str()})") from error
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "foreshard.observe",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "log_level": 0,
                "error_cb": lambda _error: None,
            }
        )

    def _messages(self, consumer: Consumer, hour: datetime) -> Iterator[Message]:
        spans = {span.partition: span for span in self._spans(consumer, hour) if span.position < span.end}
        consumer.assign([TopicPartition(self._topic, span.partition, span.position) for span in spans.values()])
        first, last = _milliseconds(hour), _milliseconds(hour + ONE_HOUR)
        while any(not span.done for span in spans.values()):
            first_come = consumer.poll(PATIENCE_SECONDS)
            if first_come is None:
                raise self._unreachable(f"nothing came for {PATIENCE_SECONDS:.0f} s; see that the broker runs, then try again")
            messages = [first_come, *consumer.consume(num_messages=FETCHED_AT_ONCE, timeout=0)]
            for message in messages:
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                span = spans[message.partition()]
                if span.done:
                    continue
                if error is not None:
                    span.done = True
                    continue
                kind, at = message.timestamp()
                timeless = kind == TIMESTAMP_NOT_AVAILABLE
                span.passed(message.offset(), not timeless and at >= last)
                if timeless or first <= at < last:
                    yield message
            self._rest(consumer, spans)

    def _rest(self, consumer: Consumer, spans: dict[int, _Span]) -> None:
        """Stop fetching topic partitions that are read to their end."""
        finished = [span for span in spans.values() if span.done and not span.paused]
        for span in finished:
            span.paused = True
        if finished:
            consumer.pause([TopicPartition(self._topic, span.partition) for span in finished])

    def _spans(self, consumer: Consumer, hour: datetime) -> list[_Span]:
        start, complete_from = _milliseconds(hour), _milliseconds(hour + ONE_HOUR + self._lateness)
        starts = _patiently(lambda: self._offsets(consumer, start))
        ends = _patiently(lambda: self._offsets(consumer, complete_from))
        spans = []
        for partition, offset in starts.items():
            place = TopicPartition(self._topic, partition)
            lowest, highest = _patiently(partial(consumer.get_watermark_offsets, place, timeout=PATIENCE_SECONDS))
            begin = highest if offset == OFFSET_END else max(offset, lowest)
            complete_at = highest if ends[partition] == OFFSET_END else ends[partition]
            spans.append(_Span(partition, begin, complete_at, highest))
        return spans

    def _offsets(self, consumer: Consumer, moment: int) -> dict[int, int]:
        """Return topic partition → the first offset at or after ``moment`` (``OFFSET_END`` if there is none)."""
        wanted = [TopicPartition(self._topic, partition, moment) for partition in self._partitions(consumer)]
        found = consumer.offsets_for_times(wanted, timeout=PATIENCE_SECONDS)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return {place.partition: place.offset for place in found}

    def _partitions(self, consumer: Consumer) -> list[int]:
        known = consumer.list_topics(self._topic, timeout=PATIENCE_SECONDS).topics[self._topic]
        if known.error is not None:
            raise self._unreachable(f"it has no topic {self._topic!r}; create it, or correct FORESHARD_ACCESS_TOPIC")
        return sorted(known.partitions)

    def _unreachable(self, remedy: str) -> Unreachable:
        return Unreachable("Kafka's access log", self._bootstrap, remedy)


class _Span:
    """The range of offsets that remains to be read in one topic partition."""

    def __init__(self, partition: int, position: int, complete_at: int, end: int) -> None:
        self.partition, self.position, self.complete_at, self.end = partition, position, complete_at, end
        self.later, self.done, self.paused = 0, False, False

    def passed(self, offset: int, belongs_later: bool) -> None:
        """Record one message. The span is done at the log's end, or when the hour is complete."""
        self.later = self.later + 1 if belongs_later else 0
        self.done = offset + 1 >= self.end or (offset >= self.complete_at and self.later >= LATER_MESSAGES)


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    """Retry for a while if a topic partition has no leader, because its topic is new or its broker is being replaced."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _LEADERLESS or time.monotonic() > until:
                raise
            time.sleep(0.1)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
