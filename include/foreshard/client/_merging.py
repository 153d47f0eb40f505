"""Makes one result of several partitions' results: merge by sort key, then skip, then limit. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from foreshard.client._bson_order import sort_rank

SORT_KEY = "__foreshard_sort_key"
"""The server puts each document's sort key here (``$meta: sortKey``), whatever the projection leaves out."""

Document = dict[str, Any]
Sort = Sequence[tuple[str, Any]]


def is_mergeable(sort: Sort) -> bool:
    """Whether the server can give sort keys: there is a sort, and it is not by the order on disk."""
    return bool(sort) and sort[0][0] != "$natural"


def directions(sort: Sort) -> list[int]:
    """1 or -1 per sort key; a sort by score (``$meta``) is descending."""
    return [-1 if isinstance(direction, Mapping) or direction < 0 else 1 for _, direction in sort]


def with_sort_key(projection: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any]:
    """``projection`` that also asks for the sort key."""
    if projection is None:
        asked: dict[str, Any] = {}
    elif isinstance(projection, Mapping):
        asked = dict(projection)
    else:
        asked = dict.fromkeys(projection, 1) or {"_id": 1}
    return {**asked, SORT_KEY: {"$meta": "sortKey"}}


def part_limit(skip: int, limit: int) -> int:
    """How many documents each part must give (0: all)."""
    return skip + limit if limit else 0


class Stream:
    """The documents of one partition's cursor, one after another; ``cursor`` is pymongo's, of either kind, or any iterator."""

    __slots__ = ("_ahead", "_anext", "_next")

    def __init__(self, cursor: Any) -> None:
        self._ahead: list[Document | None] = []
        self._anext = getattr(cursor, "__anext__", None)
        self._next = None if self._anext else iter(cursor).__next__

    async def start(self) -> Stream:
        """Fetch the first documents, so that a partition that doesn't answer is noticed now."""
        self._ahead.append(await self.next())
        return self

    async def next(self) -> Document | None:
        """The next document, None behind the last."""
        if self._ahead:
            return self._ahead.pop()
        try:
            if self._next is not None:
                given: Document = self._next()
                return given
            assert self._anext is not None  # noqa: S101 (one of both is set)
            found: Document = await self._anext()
            return found
        except (StopIteration, StopAsyncIteration):
            return None


class Merged:
    """One stream of ``parts``, each sorted already and holding at least its first ``skip + limit`` documents.

    ``limit`` 0 means all. Documents with equal sort keys come in the order of the parts. Without a sort, part follows part.
    """

    def __init__(self, parts: Sequence[Stream], sort: Sort, skip: int, limit: int) -> None:
        self._parts, self._skip, self._limit = list(parts), skip, limit
        self._ways = directions(sort) if is_mergeable(sort) else None
        self._given = 0
        self._heap: list[tuple[tuple[Any, ...], int, Document]] | None = None

    async def next(self) -> Document | None:
        """The next document, None behind the last."""
        while self._skip:
            self._skip -= 1
            if await self._take() is None:
                return None
        if self._limit and self._given >= self._limit:
            return None
        self._given += 1
        return await self._take()

    async def _take(self) -> Document | None:
        if self._ways is None:
            while self._parts:
                found = await self._parts[0].next()
                if found is not None:
                    return found
                self._parts.pop(0)
            return None
        return await self._least()

    async def _least(self) -> Document | None:
        if self._heap is None:
            self._heap = []
            for number in range(len(self._parts)):
                await self._refill(number)
        if not self._heap:
            return None
        _, number, document = heapq.heappop(self._heap)
        await self._refill(number)
        del document[SORT_KEY]
        return document

    async def _refill(self, number: int) -> None:
        document = await self._parts[number].next()
        if document is not None and self._heap is not None and self._ways is not None:
            heapq.heappush(self._heap, (sort_rank(document[SORT_KEY], self._ways), number, document))
