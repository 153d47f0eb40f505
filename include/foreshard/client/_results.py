"""The results of a read: documents from one partition, or merged from several. Opened when the first document is requested.

:class:`SyncResults` and :class:`AsyncResults` are the two ways to iterate. Neither is thread-safe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from pymongo.errors import ConnectionFailure, InvalidOperation

from foreshard.client._driving import resolved, run
from foreshard.client._merging import Merged, Stream
from foreshard.client._read_plans import ReadPlan
from foreshard.client._reads import Reader
from foreshard.client._types import Document
from foreshard.errors import KeyMovedWhileReading


class Opened:
    """An opened read: its stream, and the server cursors behind it. ``has_more``: they had more than one batch."""

    def __init__(self, reader: Reader, plan: ReadPlan, stream: Stream | Merged, cursors: Sequence[Any]) -> None:
        self.plan = plan
        self.has_more = any(cursor.alive for cursor in cursors)
        self._reader, self._stream, self._cursors = reader, stream, list(cursors)

    async def next(self) -> Document | None:
        """Return the next document; None after the last."""
        try:
            return await self._stream.next()
        except ConnectionFailure as error:
            raise self._reader.failed(error, self.plan) from error

    async def close(self) -> None:
        """Close the server cursors."""
        while self._cursors:
            with suppress(ConnectionFailure):
                await resolved(self._cursors.pop().close())


class LazyResults:
    """Results that are opened by ``begin`` when the first document is requested."""

    def __init__(self, begin: Callable[[], Awaitable[Opened]]) -> None:
        self._begin = begin
        self._opened: Opened | None = None
        self._ended = False

    async def _take(self) -> Document | None:
        if self._ended:
            return None
        while True:
            if self._opened is None:
                self._opened = await self._begin()
            try:
                document = await self._opened.next()
            except KeyMovedWhileReading as moved:
                await self._go_on(moved)
                continue
            self._ended = document is None
            return document

    async def _go_on(self, moved: KeyMovedWhileReading) -> None:
        """Open the rest of the read at the new owner. Raise ``moved`` if that is impossible."""
        await self._end()
        raise moved

    async def _take_many(self, length: int | None) -> list[Document]:
        taken: list[Document] = []
        while length is None or len(taken) < length:
            document = await self._take()
            if document is None:
                break
            taken.append(document)
        return taken

    async def _end(self) -> None:
        self._ended = True
        if self._opened is not None:
            await self._opened.close()

    @property
    def plan(self) -> ReadPlan:
        """The plan of the read. Raise ``InvalidOperation`` if the read is not open yet."""
        if self._opened is None:
            raise InvalidOperation("the read is not open yet")
        return self._opened.plan

    async def started(self) -> Self:
        """Open the read now."""
        self._opened = await self._begin()
        return self


class SyncResults(LazyResults):
    """Results for a ``for`` loop."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Document:
        document = run(self._take())
        if document is None:
            raise StopIteration
        return document

    def next(self) -> Document:
        """Return the next document."""
        return self.__next__()

    def to_list(self, length: int | None = None) -> list[Document]:
        """Return the next ``length`` documents, or all."""
        return run(self._take_many(length))

    def close(self) -> None:
        """Close the server cursors and end the iteration."""
        run(self._end())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncResults(LazyResults):
    """Results for an ``async for`` loop."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        document = await self._take()
        if document is None:
            raise StopAsyncIteration
        return document

    async def next(self) -> Document:
        """Return the next document."""
        return await self.__anext__()

    async def to_list(self, length: int | None = None) -> list[Document]:
        """Return the next ``length`` documents, or all."""
        return await self._take_many(length)

    async def close(self) -> None:
        """Close the server cursors and end the iteration."""
        await self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
