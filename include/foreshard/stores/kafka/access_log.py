"""The access log in a Kafka topic, as JSON records.

A value is ``{"timestamp": ISO 8601, "partitionable_key", "user_id", "request_type", "location", "session_id", "cost"}``, and
``record_id`` where duplicates are to be dropped. **The record's time counts**: it may differ from the message's by
``allowed_lateness``. A record whose time differs by more, or cannot be read, belongs to the hour of its message, whose
quarantine then names it.

Each topic partition is read from its first message of ``allowed_lateness`` before the hour. It is read to the message that is
``CLOCK_TOLERANCE`` and ``allowed_lateness`` behind the hour, or to its end if there is none yet. So a producer whose clock runs
ahead cuts nothing off. Transactions that are open in this range are waited for. Nothing is committed. Reading again gives the
same records and newer ones, in the same order within a topic partition.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
from confluent_kafka import OFFSET_END, TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from foreshard.errors import HourIncomplete, Unreachable
from foreshard.model import ONE_HOUR, BoolArray
from foreshard.observe.batches import RawBatch, batch_times, rows_of
from foreshard.observe.mapping import mapped
from foreshard.observe.zones import in_zone
from foreshard.stores.files.json_lines import fields_of, parsed
from foreshard.stores.files.log_tables import PLAIN, SourceForm

CLOCK_TOLERANCE = timedelta(hours=6)
"""By how much a producer's clock may run ahead."""
BATCH_RECORDS = 50_000
FETCHED_AT_ONCE = 5_000
PATIENCE_SECONDS = 15.0
TRANSACTION_SECONDS = 60.0
"""How long an open transaction is waited for. Kafka ends one of a dead producer after a minute, by default."""
_LEADERLESS = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION)
_Answer = TypeVar("_Answer")


class KafkaAccessLog:
    """Reads one hour of all partitions of ``topic``, between offsets that are looked up by time."""

    def __init__(self, bootstrap: str, topic: str, allowed_lateness: timedelta, form: SourceForm | None = None) -> None:
        self._bootstrap, self._topic, self._lateness, self._form = bootstrap, topic, allowed_lateness, form or PLAIN

    @property
    def name(self) -> str:
        return f"topic {self._topic}"

    def holds_whole(self, hour: datetime) -> bool:
        """Return whether no topic partition may have deleted a message of the hour."""
        consumer = self._consumer()
        try:
            starts = _patiently(lambda: self._offsets(consumer, _milliseconds(hour - self._lateness)))
            lowest = {number: self._ends(consumer, number)[0] for number in starts}
            return all(lowest[number] == 0 or 0 <= start != lowest[number] for number, start in starts.items())
        except KafkaException as error:
            raise self._unreachable(f"see that the broker runs ({error.args[0].str()})") from error
        finally:
            consumer.close()

    def read_hour(self, hour: datetime, _note: Callable[[str], None] = lambda _line: None) -> Iterator[RawBatch]:
        """Yield the hour's records. Raise :class:`Unreachable` without a broker or topic.

        Raise :class:`HourIncomplete` if a transaction stays open.
        """
        consumer = self._consumer()
        try:
            waiting = _Waiting()
            since, until = _milliseconds(hour - self._lateness), _milliseconds(hour + ONE_HOUR + self._lateness)
            for message in self._messages(consumer, hour):
                kind, at = message.timestamp()
                if kind != TIMESTAMP_NOT_AVAILABLE and not since <= at <= until:
                    continue  # its record's time differs by less than the lateness, or does not count
                waiting.add(message)
                if len(waiting.values) >= BATCH_RECORDS:
                    yield from self._of_hour(waiting, hour)
                    waiting = _Waiting()
            yield from self._of_hour(waiting, hour)
        except KafkaException as error:
            raise self._unreachable(f"see that the broker runs ({error.args[0].str()})") from error
        finally:
            consumer.close()

    def _of_hour(self, waiting: _Waiting, hour: datetime) -> Iterator[RawBatch]:
        """Yield those of the messages that belong to the hour."""
        if not waiting.values:
            return
        batch, kept = self._records(waiting)
        sent = pd.Series(pd.to_datetime(pd.Series(waiting.times, dtype="Int64"), unit="ms", utc=True))
        sent = sent[kept].reset_index(drop=True)
        own = batch_times(batch)
        near = ((own - sent).abs() <= pd.Timedelta(self._lateness)) | sent.isna()
        claimed = own.where(near, sent)
        inside = ((claimed >= hour) & (claimed < hour + ONE_HOUR)) | claimed.isna()
        if inside.any():
            yield rows_of(batch, inside.to_numpy(np.bool_))

    def _records(self, waiting: _Waiting) -> tuple[RawBatch, BoolArray]:
        """Return the records with the standard columns, and which messages they are."""
        kept = np.ones(len(waiting.values), np.bool_)
        if self._form.mapping is None:
            batch = parsed(waiting.values, waiting.places)
        else:
            known = mapped(fields_of(waiting.values, waiting.places, self._form.mapping.fields), self._form.mapping)
            batch, kept = known.records, known.kept
        return batch if self._form.zone is None else in_zone(batch, self._form.zone), kept

    def _consumer(self, isolation: str = "read_committed") -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "foreshard.observe",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "log_level": 0,
                "error_cb": lambda _error: None,
            }
        )

    def _messages(self, consumer: Consumer, hour: datetime) -> Iterator[Message]:
        spans = {span.partition: span for span in self._spans(consumer, hour) if span.position < span.end}
        self._await_transactions(consumer, spans, hour)
        consumer.assign([TopicPartition(self._topic, span.partition, span.position) for span in spans.values()])
        while any(not span.done for span in spans.values()):
            first_come = consumer.poll(PATIENCE_SECONDS)
            if first_come is None:
                raise self._unreachable(f"nothing came for {PATIENCE_SECONDS:.0f} s; see that the broker runs, then try again")
            for message in [first_come, *consumer.consume(num_messages=FETCHED_AT_ONCE, timeout=0)]:
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                span = spans[message.partition()]
                if error is not None:
                    span.done = True
                elif span.takes(message.offset()):
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
        complete_from = _milliseconds(hour + ONE_HOUR + self._lateness + CLOCK_TOLERANCE)
        starts = _patiently(lambda: self._offsets(consumer, _milliseconds(hour - self._lateness)))
        ends = _patiently(lambda: self._offsets(consumer, complete_from))
        written = self._consumer("read_uncommitted")
        spans = []
        try:
            for partition, offset in starts.items():
                lowest, highest = self._ends(written, partition)
                begin = highest if offset == OFFSET_END else max(offset, lowest)
                spans.append(_Span(partition, begin, highest if ends[partition] == OFFSET_END else ends[partition]))
        finally:
            written.close()
        return spans

    def _await_transactions(self, consumer: Consumer, spans: dict[int, _Span], hour: datetime) -> None:
        """Wait until no transaction is open before the spans' ends. Raise :class:`HourIncomplete` if one stays open."""
        until = time.monotonic() + TRANSACTION_SECONDS
        for span in spans.values():
            while (stable := self._ends(consumer, span.partition)[1]) < span.end:
                if time.monotonic() > until:
                    place = f"{self._topic}[{span.partition}]@{stable}"
                    raise HourIncomplete(
                        hour, f"a transaction at {place} is still open", "end it, or try again when it has ended"
                    )
                time.sleep(0.2)

    def _ends(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        """Return a topic partition's first offset, and the one behind its last. Committed readers end at open transactions."""
        place = TopicPartition(self._topic, partition)
        lowest, highest = _patiently(partial(consumer.get_watermark_offsets, place, timeout=PATIENCE_SECONDS))
        return lowest, highest

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


@dataclass
class _Waiting:
    """Messages that wait to be parsed together: their values, positions, and times in milliseconds (None: unknown)."""

    values: list[bytes] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    times: list[int | None] = field(default_factory=list)

    def add(self, message: Message) -> None:
        kind, at = message.timestamp()
        self.values.append(message.value() or b"")
        self.places.append(f"{message.topic()}[{message.partition()}]@{message.offset()}")
        self.times.append(None if kind == TIMESTAMP_NOT_AVAILABLE else at)


class _Span:
    """The range of offsets that remains to be read in one topic partition."""

    def __init__(self, partition: int, position: int, end: int) -> None:
        self.partition, self.position, self.end = partition, position, end
        self.done, self.paused = False, False

    def takes(self, offset: int) -> bool:
        """Record one message. Return false if it is behind the span, or was delivered before."""
        mine = self.position <= offset < self.end
        self.position = max(self.position, offset + 1)
        self.done = self.done or self.position >= self.end
        return mine


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
