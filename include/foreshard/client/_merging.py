"""Merges the results of several partitions: by sort key, then skip, then limit. Pure.

The second half is MongoDB's order of values of any type. Source: MongoDB manual, "Comparison/Sort Order" (MinKey, null,
numbers, strings, objects, arrays, binary data, ObjectId, booleans, dates, timestamps, regular expressions, code, MaxKey).
Strings compare by their UTF-8 bytes. A collation's comparison key is not valid UTF-8; ``surrogateescape`` keeps its bytes. Null
and an empty array can't be told apart, because pymongo reads the sort key of an empty array (undefined) as None.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import total_ordering
from secrets import token_hex
from typing import Any
from uuid import UUID

from bson import Binary, Code, DatetimeMS, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from foreshard.client._types import Document

SORT_KEY = f"__foreshard_{token_hex(8)}"
"""The field for each document's sort key (``$meta: sortKey``), which the server adds despite any projection.

Its name is drawn when the process starts, so that no app has a field of this name.
"""

Sort = Sequence[tuple[str, Any]]


def is_mergeable(sort: Sort) -> bool:
    """Whether the server can return sort keys: there is a sort, and it is not by the order on disk."""
    return bool(sort) and sort[0][0] != "$natural"


def directions(sort: Sort) -> list[int]:
    """1 or -1 per sort key. A sort by score (``$meta``) is descending."""
    return [-1 if isinstance(direction, Mapping) or direction < 0 else 1 for _, direction in sort]


def with_sort_key(projection: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any]:
    """Return ``projection`` with the sort key added."""
    if projection is None:
        asked: dict[str, Any] = {}
    elif isinstance(projection, Mapping):
        asked = dict(projection)
    else:
        asked = dict.fromkeys(projection, 1)
    return {**asked, SORT_KEY: {"$meta": "sortKey"}}


def part_limit(skip: int, limit: int) -> int:
    """The number of documents to fetch from each part (0: all)."""
    return skip + limit if limit else 0


SLOW_SECONDS = 1.0
"""An answer that took longer is checked like a further batch."""


class Stream:
    """The documents of one partition's cursor. ``cursor``: a pymongo cursor of either kind, or any iterator.

    ``check`` is awaited after each further batch, before a document of it is returned. The batch may have lost documents if it
    raises.
    """

    __slots__ = ("_ahead", "_anext", "_check", "_cursor", "_next")

    def __init__(self, cursor: Any, check: Callable[[], Awaitable[None]] | None = None) -> None:
        self._ahead: list[Document | None] = []
        self._cursor, self._check = cursor, check
        self._anext = getattr(cursor, "__anext__", None)
        self._next = None if self._anext else iter(cursor).__next__

    async def start(self) -> Stream:
        """Fetch the first documents, so that a partition that does not answer is noticed now."""
        begun = time.monotonic()
        self._ahead.append(await self._fetch())
        if self._check is not None and time.monotonic() - begun > SLOW_SECONDS:
            await self._check()
        return self

    async def next(self) -> Document | None:
        """Return the next document; None after the last."""
        if self._ahead:
            return self._ahead.pop()
        if self._check is None or self._cursor._data or not self._cursor.alive:  # the buffer has no public accessor
            return await self._fetch()
        document = await self._fetch()
        await self._check()
        return document

    async def _fetch(self) -> Document | None:
        try:
            if self._next is not None:
                found: Document = self._next()
                return found
            assert self._anext is not None  # noqa: S101 (one of the two is set)
            awaited: Document = await self._anext()
            return awaited
        except (StopIteration, StopAsyncIteration):
            return None


class Merged:
    """One stream made of ``parts``, each sorted and with at least its first ``skip + limit`` documents.

    ``limit`` 0 means all. Documents with equal sort keys follow the order of the parts. Without a sort, parts are concatenated.
    """

    def __init__(self, parts: Sequence[Stream], sort: Sort, skip: int, limit: int) -> None:
        self._parts, self._skip, self._limit = list(parts), skip, limit
        self._ways = directions(sort) if is_mergeable(sort) else None
        self._given = 0
        self._heap: list[tuple[tuple[Any, ...], int, Document]] | None = None

    async def next(self) -> Document | None:
        """Return the next document; None after the last."""
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


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@total_ordering
class Reversed:
    """A rank in reverse order, for a descending sort key."""

    __slots__ = ("rank",)

    def __init__(self, rank: Any) -> None:
        self.rank = rank

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and bool(self.rank == other.rank)

    def __lt__(self, other: Reversed) -> bool:
        return bool(other.rank < self.rank)

    def __hash__(self) -> int:
        return hash(self.rank)


def rank_of(value: Any) -> tuple[Any, ...]:
    """Return a tuple that compares as MongoDB compares ``value`` (binary collation).

    Raise ``TypeError`` for an unknown type.
    """
    for kinds, ranked in _RANKS:
        if isinstance(value, kinds):
            return ranked(value)
    if value is None:
        return (5,)
    raise TypeError(f"no sort order for {type(value).__name__}")


def sort_rank(values: Sequence[Any], directions: Sequence[int]) -> tuple[Any, ...]:
    """The rank of a compound sort key. A direction is 1 (ascending) or -1."""
    return tuple(
        rank_of(value) if direction > 0 else Reversed(rank_of(value))
        for value, direction in zip(values, directions, strict=True)
    )


def _number(value: Any) -> tuple[Any, ...]:
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    is_nan = number.is_nan() if isinstance(number, Decimal) else number != number
    return (10, 0, 0) if is_nan else (10, 1, number)  # NaN sorts before every number


def _object(value: Mapping[str, Any]) -> tuple[Any, ...]:
    fields = []
    for name, inner in value.items():
        rank = rank_of(inner)
        fields.append((rank[0], name, rank))
    return (20, tuple(fields))


def _array(value: Sequence[Any]) -> tuple[Any, ...]:
    return (25, tuple(rank_of(inner) for inner in value))


def _binary(value: Any) -> tuple[Any, ...]:
    if isinstance(value, UUID):
        value = Binary.from_uuid(value)
    return (30, len(value), getattr(value, "subtype", 0), bytes(value))


def _date(value: Any) -> tuple[Any, ...]:
    if isinstance(value, DatetimeMS):
        return (45, int(value))
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (45, (aware - EPOCH) // timedelta(milliseconds=1))


def _regex(value: Any) -> tuple[Any, ...]:
    found = Regex.from_native(value) if isinstance(value, re.Pattern) else value
    letters = zip("ilmsux", (re.I, re.L, re.M, re.S, re.U, re.X), strict=True)
    return (55, found.pattern, "".join(letter for letter, flag in letters if found.flags & flag))


_RANKS: tuple[tuple[Any, Callable[[Any], tuple[Any, ...]]], ...] = (
    (MinKey, lambda _value: (0,)),
    (MaxKey, lambda _value: (127,)),
    (bool, lambda value: (40, value)),
    ((int, float, Decimal128), _number),
    (Code, lambda value: (60, str(value))),
    (str, lambda value: (15, value.encode("utf-8", "surrogateescape"))),
    (ObjectId, lambda value: (35, value.binary)),
    (Mapping, _object),
    ((list, tuple), _array),
    ((bytes, Binary, UUID), _binary),
    ((datetime, DatetimeMS), _date),
    (Timestamp, lambda value: (50, value.time, value.inc)),
    ((re.Pattern, Regex), _regex),
)
"""Subclasses before their bases: bool before int, Code before str."""
