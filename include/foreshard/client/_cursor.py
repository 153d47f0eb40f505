"""The cursor that ``find`` returns: pymongo's chaining (``sort``, ``limit``, …) and iteration over one or many partitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from bson.codec_options import CodecOptions
from pymongo.errors import InvalidOperation

from foreshard.client._merging import Merged, Stream, is_mergeable, part_limit, with_sort_key
from foreshard.client._reads import PartitionRead, Reader, ReadPlan
from foreshard.client._results import AsyncResults, LazyResults, Opened, SyncResults
from foreshard.client._routes import ReadPreference

Observer = Callable[[ReadPlan], None]
SortKeys = str | Sequence[str | tuple[str, Any]] | Mapping[str, Any]


@dataclass(frozen=True)
class Find:
    """The arguments of a ``find``. ``options`` are passed to pymongo unchanged."""

    filter: Mapping[str, Any]
    projection: Mapping[str, Any] | Sequence[str] | None = None
    skip: int = 0
    limit: int = 0
    sort: tuple[tuple[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class FindResults(LazyResults):
    """The chaining methods of both cursors. The read is opened when the first document is requested.

    A read that runs longer than the grace period of a move may miss documents of the moved key: close it, or read in pages.
    """

    def __init__(self, reader: Reader, find: Find, preference: ReadPreference, observe: Observer) -> None:
        super().__init__(self._open_all)
        self._reader, self._find, self._preference, self._observe = reader, find, preference, observe

    def sort(self, key: SortKeys, direction: int | str | None = None) -> Self:
        """Sort by a field, or by several fields with their directions."""
        return self._with(sort=sort_keys(key, direction))

    def limit(self, limit: int) -> Self:
        """Return at most ``limit`` documents (0: all)."""
        return self._with(limit=abs(limit))

    def skip(self, skip: int) -> Self:
        """Skip the first ``skip`` documents."""
        if skip < 0:
            raise ValueError("skip must be >= 0")
        return self._with(skip=skip)

    def batch_size(self, batch_size: int) -> Self:
        """Set the number of documents per batch."""
        return self._with_option("batch_size", batch_size)

    def hint(self, index: Any) -> Self:
        """Set the index to use."""
        return self._with_option("hint", index)

    def collation(self, collation: Any) -> Self:
        """Set how strings are compared. The read then goes to every partition."""
        return self._with_option("collation", collation)

    def max_time_ms(self, max_time_ms: int | None) -> Self:
        """Set the time limit for each partition."""
        return self._with_option("max_time_ms", max_time_ms)

    def comment(self, comment: Any) -> Self:
        """Set a comment for the servers' logs."""
        return self._with_option("comment", comment)

    def clone(self) -> Self:
        """Return the same query, not yet opened."""
        return type(self)(self._reader, self._find, self._preference, self._observe)

    async def _open_all(self) -> Opened:
        find, reader = self._find, self._reader
        keys = reader.keys_of(find.filter, find.options.get("collation"))
        _, opened = await reader.run(lambda: reader.plan(keys, find.filter, self._preference), self._open_parts)
        self._observe(opened.plan)
        return opened

    async def _open_parts(self, plan: ReadPlan) -> Opened:
        """Open all parts and fetch their first documents."""
        one = len(plan.parts) == 1
        cursors = [self._open_one(part, one) for part in plan.parts]
        streams = await self._reader.router.mode.together([Stream(cursor).start() for cursor in cursors])
        find = self._find
        together = streams[0] if one else Merged(streams, find.sort, find.skip, find.limit)
        return Opened(self._reader, plan, together, cursors)

    def _open_one(self, part: PartitionRead, one: bool) -> Any:
        find, collection = self._find, self._reader.collection(part)
        options = dict(find.options)
        if one:
            projection, skip, limit = find.projection, find.skip, find.limit
        else:
            projection = with_sort_key(find.projection) if is_mergeable(find.sort) else find.projection
            skip, limit = 0, part_limit(find.skip, find.limit)
            if options.get("collation") is not None:
                codec: CodecOptions[Any] = collection.codec_options.with_options(unicode_decode_error_handler="surrogateescape")
                collection = collection.with_options(codec_options=codec)
        narrow = self._reader.filter_for(part, find.filter)
        return collection.find(narrow, projection, skip=skip, limit=limit, sort=list(find.sort) or None, **options)

    def _with(self, **changes: Any) -> Self:
        if self._opened is not None or self._ended:
            raise InvalidOperation("cannot set options after executing query")
        self._find = replace(self._find, **changes)
        return self

    def _with_option(self, name: str, value: Any) -> Self:
        return self._with(options={**self._find.options, name: value})


class RoutedCursor(FindResults, SyncResults):
    """An iterator over the matching documents."""

    def rewind(self) -> RoutedCursor:
        """Start again from the first document."""
        self.close()
        self._opened, self._ended = None, False
        return self


class AsyncRoutedCursor(FindResults, AsyncResults):
    """An asynchronous iterator over the matching documents."""

    async def rewind(self) -> AsyncRoutedCursor:
        """Start again from the first document."""
        await self.close()
        self._opened, self._ended = None, False
        return self


def sort_keys(key: SortKeys | None, direction: int | str | None = None) -> tuple[tuple[str, Any], ...]:
    """Return pymongo's forms of a sort as (field, direction) pairs."""
    if not key:
        return ()
    if isinstance(key, str):
        return ((key, 1 if direction is None else direction),)
    pairs = key.items() if isinstance(key, Mapping) else key
    return tuple((pair, 1) if isinstance(pair, str) else (pair[0], pair[1]) for pair in pairs)
