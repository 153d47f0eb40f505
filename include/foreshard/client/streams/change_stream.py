"""``watch``: the changes of one collection on all partitions, in one stream that can be resumed.

An event is handed on once no other partition can have an earlier one: each has a later event waiting, or had none when it was
asked after this event was read. Events of one partition keep their order; between partitions they follow the servers' wall
clocks. A key that moves is followed, because every partition is watched all the time, and what a move itself writes is left
out. A partition that is registered later is watched from before its registration. If a partition's history does not reach back
far enough, or it can't be watched, the stream raises. It never ends by itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from bson import Timestamp
from pymongo.errors import PyMongoError

from foreshard.client._driving import apart, resolved, run
from foreshard.client._types import Document
from foreshard.client.routing.pymongo_errors import CursorOvertaken, OperationRefused
from foreshard.client.streams._partition_stream import PartitionStream, StreamPosition, lacks_document, need_documents, watched
from foreshard.model.key_space import slot_unit
from foreshard.stores.partition.units.removed_units import REMOVED_UNITS

if TYPE_CHECKING:
    from foreshard.client._reads import Reader
    from foreshard.client.routing.routes import PartitionAddress

AWAIT_MS = 100
"""How long a partition is waited for. Events of other partitions may wait for it."""
LOOK_EVERY = 1.0
"""Seconds between two looks for partitions that were registered meanwhile."""
BEFORE_REGISTRATION = 600
"""Seconds: a new partition is watched from so long ago. All changes there of an app are younger than its registration."""
TOKEN = "foreshard"  # noqa: S105 (a field's name)
LOOKED_UP = frozenset({"updateLookup", "whenAvailable", "required"})
PASSED_ON = frozenset({"batch_size", "collation", "comment", "full_document", "full_document_before_change"})


class _Changes:
    """The common part of both streams. They are opened by ``opened``."""

    def __init__(self, reader: Reader, pipeline: Sequence[Mapping[str, Any]] | None, options: Mapping[str, Any]) -> None:
        self._reader = reader
        self._matches = conditions(reader.sharded.namespace, pipeline or ())
        given = {name: value for name, value in options.items() if value is not None}
        resume_after = given.pop("resume_after", None) or given.pop("start_after", None)
        self._await_ms = int(given.pop("max_await_time_ms", AWAIT_MS))
        self._resumed = _positions(reader.sharded.namespace, resume_after)
        unknown = sorted(given.keys() - PASSED_ON)
        if unknown:
            problem = f"{', '.join(unknown)} belongs to one replica set, or is not supported"
            raise OperationRefused(
                reader.sharded.namespace, "watch", problem, "omit it; resume_after goes on where a stream was"
            )
        self._options = given
        self._looked_up = given.get("full_document") in LOOKED_UP
        self._streams: dict[str, PartitionStream] = {}
        self._together, self._end_threads = apart(reader.router.mode)
        self._looked_at = float("-inf")
        self._closed = False

    async def opened(self) -> Self:
        """Open a stream on every partition. Events after this are seen."""
        try:
            await self._look(first=True)
        except BaseException:
            await self._close()
            raise
        return self

    @property
    def alive(self) -> bool:
        """Whether the stream is open."""
        return not self._closed

    @property
    def resume_token(self) -> Document:
        """Where the stream is, for ``resume_after``."""
        positions = {**self._resumed, **{name: stream.position for name, stream in self._streams.items()}}
        return {TOKEN: [dict(position) for _, position in sorted(positions.items())]}

    async def _next(self, *, wait: bool) -> Document | None:
        """Return the next event. Without ``wait`` None if there is none now, and None after ``close``."""
        while not self._closed:
            begun, ready = time.monotonic(), self._ready()
            if ready is not None:
                return self._taken(ready)
            try:
                if time.monotonic() - self._looked_at > LOOK_EVERY:
                    await self._look(first=False)
                await self._together([stream.fill() for stream in self._streams.values()])
            except BaseException:
                await self._close()
                raise
            if not wait and all(stream.head is None and stream.empty_at >= begun for stream in self._streams.values()):
                return None
        return None

    def _ready(self) -> PartitionStream | None:
        """The stream whose head is next; None if another one may have an earlier event."""
        streams = self._streams.values()
        first = min((stream for stream in streams if stream.head is not None), key=_moment, default=None)
        if first is None or any(stream.head is None and stream.empty_at < first.read_at for stream in streams):
            return None
        return first

    def _taken(self, stream: PartitionStream) -> Document:
        event = stream.take()
        return {**event, "_id": self.resume_token}

    async def _look(self, *, first: bool) -> None:
        """Open the streams of partitions that are not watched yet."""
        self._looked_at = time.monotonic()
        addresses = await self._reader.router.partitions()
        new = [address for address in addresses if address.partition not in self._streams]
        opened = await self._together([self._open(address, as_new=not first or bool(self._resumed)) for address in new])
        self._streams.update({stream.partition: stream for stream in opened})

    async def _open(self, address: PartitionAddress, *, as_new: bool) -> PartitionStream:
        connections, sharded = self._reader.connections, self._reader.sharded
        client = connections.client(address.uri)
        known = self._resumed.get(address.partition)
        start: dict[str, Any] = {}
        if known is not None:
            start = {"resume_after": known["token"]}
        elif as_new:
            answer: Any = await resolved(client.admin.command("ping"))
            start = {"start_at_operation_time": Timestamp(answer["operationTime"].time - BEFORE_REGISTRATION, 1)}
        pipeline = watched(sharded, connections.bookkeeping, self._matches, looked_up=self._looked_up)
        stream = await resolved(client.watch(pipeline, max_await_time_ms=self._await_ms, **self._options, **start))
        left_out = known["left_out"] if known is not None else None

        async def check(event: Document) -> bool:
            if lacks_document(event):
                await self._check_cleaned(address, event)
            return not (lacks_document(event) and need_documents(self._matches))

        return PartitionStream(address.partition, stream, connections.bookkeeping, left_out, check)

    async def _check_cleaned(self, address: PartitionAddress, event: Document) -> None:
        """Raise if a cleaner may have removed the document that the server has looked up for an update.

        A consumer that is as late as cleaners are (15 minutes) would get no document, or miss the event by its own condition.
        """
        connections = self._reader.connections
        removed = connections.client(address.uri)[connections.bookkeeping][REMOVED_UNITS]
        entry: Any = await resolved(removed.find_one({"at": {"$gt": event["wallTime"]}}))
        if entry is not None:
            units = [*entry["units"], *map(slot_unit, entry["slots"])]
            epochs = [*entry["unit_epochs"], *entry["slot_epochs"]]
            raise CursorOvertaken(self._reader.sharded.namespace, units[0], address.partition, epochs[0])

    async def _close(self) -> None:
        self._closed = True
        for stream in self._streams.values():
            try:
                await stream.close()
            except PyMongoError:
                continue  # the server forgets idle cursors by itself
        self._end_threads()


class RoutedChangeStream(_Changes):
    """The events of a collection on all partitions, for a ``for`` loop."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Document:
        event = run(self._next(wait=True))
        if event is None:
            raise StopIteration
        return event

    def next(self) -> Document:
        """Return the next event, when there is one."""
        return self.__next__()

    def try_next(self) -> Document | None:
        """Return the next event; None if there is none now."""
        return run(self._next(wait=False))

    def close(self) -> None:
        """Close the stream."""
        run(self._close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncRoutedChangeStream(_Changes):
    """The events of a collection on all partitions, for an ``async for`` loop."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        event = await self._next(wait=True)
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self) -> Document:
        """Return the next event, when there is one."""
        return await self.__anext__()

    async def try_next(self) -> Document | None:
        """Return the next event; None if there is none now."""
        return await self._next(wait=False)

    async def close(self) -> None:
        """Close the stream."""
        await self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _moment(stream: PartitionStream) -> Any:
    return stream.head["wallTime"] if stream.head is not None else None


def conditions(namespace: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The conditions of a pipeline. Raise :class:`OperationRefused` for other stages."""
    other = next((name for stage in pipeline for name in stage if name != "$match"), None)
    if other is not None:
        problem = f"its pipeline has {other}, and a stream over all partitions takes conditions only"
        raise OperationRefused(namespace, "watch", problem, "use $match, and change the events in the app")
    return [stage["$match"] for stage in pipeline]


def _positions(namespace: str, token: Mapping[str, Any] | None) -> dict[str, StreamPosition]:
    if token is None:
        return {}
    if TOKEN not in token:
        problem = "its resume token is of one partition"
        raise OperationRefused(namespace, "watch", problem, "use the resume_token or an event's _id of a routed stream")
    return {position["partition"]: position for position in token[TOKEN]}
