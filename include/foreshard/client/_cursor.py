"""The cursor that ``find`` returns: pymongo's chaining (``sort``, ``limit``, …) and iteration over one or many partitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, overload

from bson.codec_options import CodecOptions
from pymongo.errors import InvalidOperation

from foreshard.client._driving import resolved, run
from foreshard.client._find import Find, Given
from foreshard.client._merging import Merged, Stream, is_mergeable, part_limit, with_sort_key
from foreshard.client._read_plans import PartitionRead, ReadPlan
from foreshard.client._reads import Reader
from foreshard.client._results import AsyncResults, LazyResults, Opened, SyncResults
from foreshard.client._types import Document
from foreshard.client._watching import watch
from foreshard.client.aggregation.distinct import distinct_values
from foreshard.client.routing.routes import ReadPreference
from foreshard.errors import KeyMovedWhileReading

Observer = Callable[[ReadPlan], None]
Returned = Callable[[Document], None]
"""Is told of each document that a read without a key returns."""
SortKeys = str | Sequence[str | tuple[str, Any]] | Mapping[str, Any]


class FindResults(LazyResults):
    """The chaining methods of both cursors. The read is opened when the first document is requested.

    If a key moves meanwhile and its old partition removes the documents, a find goes on at the new owner: one that is sorted by
    ``_id``, or one without sort and skip. Another one raises :class:`foreshard.errors.KeyMovedWhileReading`.
    """

    def __init__(self, reader: Reader, find: Find, preference: ReadPreference, observe: Observer, returned: Returned) -> None:
        super().__init__(self._open_all)
        self._reader, self._find, self._preference = reader, find, preference
        self._observe, self._returned = observe, returned
        self._given: Given | None = None
        self.collection: Any = None
        """The routed collection whose ``find`` has made it."""

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

    def min(self, spec: SortKeys) -> Self:
        """Set the inclusive lower bound of the index that ``hint`` names."""
        return self._with_option("min", dict(sort_keys(spec)))

    def max(self, spec: SortKeys) -> Self:
        """Set the exclusive upper bound of the index that ``hint`` names."""
        return self._with_option("max", dict(sort_keys(spec)))

    def allow_disk_use(self, allow_disk_use: bool) -> Self:
        """Set whether a sort may use disk."""
        return self._with_option("allow_disk_use", allow_disk_use)

    @property
    def alive(self) -> bool:
        """Whether there may be more documents."""
        return not self._ended

    def max_time_ms(self, max_time_ms: int | None) -> Self:
        """Set the time limit for each partition."""
        return self._with_option("max_time_ms", max_time_ms)

    def comment(self, comment: Any) -> Self:
        """Set a comment for the servers' logs."""
        return self._with_option("comment", comment)

    def clone(self) -> Self:
        """Return the same query, not yet opened."""
        made = type(self)(self._reader, self._find, self._preference, self._observe, self._returned)
        made.collection = self.collection
        return made

    async def _distinct(self, key: str) -> list[Any]:
        known = {name: self._find.options[name] for name in ("collation", "comment", "hint") if name in self._find.options}
        if self._find.options.get("max_time_ms") is not None:
            known["maxTimeMS"] = self._find.options["max_time_ms"]
        filter = self._find.filter

        async def read(plan: ReadPlan) -> list[Any]:
            return await distinct_values(self._reader, plan, key, filter, known)

        plan, values = await self._reader.run(lambda: self._plan(self._find), read)
        self._observe(plan)
        return values

    async def _explain(self) -> Document:
        find, reader = self._find, self._reader

        async def read(plan: ReadPlan) -> Document:
            one = len(plan.parts) == 1
            asked = [resolved(self._open_one(part, one, find).explain()) for part in plan.parts]
            found = await reader.router.mode.together(asked)
            names = [part.partition for part in plan.parts]
            return found[0] if one else {"partitions": dict(zip(names, found, strict=True))}

        _, explained = await reader.run(lambda: self._plan(find), read)
        return explained

    async def _open_all(self) -> Opened:
        find, reader = self._find, self._reader
        _, opened = await reader.run(lambda: self._plan(find), lambda plan: self._open_parts(plan, find))
        self._observe(opened.plan)
        key_field = reader.sharded.key_field if len(opened.plan.keys) != 1 else ""
        self._given = Given(find, key_field) if opened.has_more else None
        return opened

    async def _plan(self, find: Find) -> ReadPlan:
        keys = self._reader.keys_of(find.filter, find.options.get("collation"))
        return await self._reader.plan(keys, find.filter, self._preference, find.options)

    async def _take(self) -> Document | None:
        document = await self._take_new()
        if document is not None and self._opened is not None and self._opened.plan.scattered:
            self._returned(document)
        return document

    async def _take_new(self) -> Document | None:
        """Return the next document that was not returned yet."""
        while True:
            document = await super()._take()
            if document is None or self._given is None:
                return document
            if self._find.limit and self._given.count >= self._find.limit:
                await self._end()
                return None
            if self._given.note(document):
                return document

    async def _go_on(self, moved: KeyMovedWhileReading) -> None:
        rest = self._given.rest(self._find) if self._given is not None else None
        if rest is None or self._opened is None:
            await super()._go_on(moved)
            return
        await self._opened.close()
        plan = await self._reader.replan(lambda: self._plan(rest), moved)
        self._opened = await self._open_parts(plan, rest)

    async def _open_parts(self, plan: ReadPlan, find: Find) -> Opened:
        """Open all parts and fetch their first documents."""
        one = len(plan.parts) == 1
        cursors = [self._open_one(part, one, find) for part in plan.parts]
        watched = zip(cursors, plan.parts, strict=True)
        streams = await self._reader.router.mode.together(
            [Stream(cursor, watch(self._reader, part)).start() for cursor, part in watched]
        )
        together = streams[0] if one else Merged(streams, find.sort, find.skip, find.limit)
        return Opened(self._reader, plan, together, cursors)

    def _open_one(self, part: PartitionRead, one: bool, find: Find) -> Any:
        collection = self._reader.collection(part)
        options = dict(find.options)
        if one:
            projection, skip, limit = find.projection, find.skip, find.limit
        else:
            projection = with_sort_key(find.projection) if is_mergeable(find.sort) else find.projection
            skip, limit = 0, part_limit(find.skip, find.limit)
            if options.get("collation") is not None:
                codec: CodecOptions[Any] = collection.codec_options.with_options(unicode_decode_error_handler="surrogateescape")
                collection = collection.with_options(codec_options=codec)
        narrow = self._reader.filter_for(part, find.filter, options.get("collation"))
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

    @overload
    def __getitem__(self, index: int) -> Document: ...

    @overload
    def __getitem__(self, index: slice) -> RoutedCursor: ...

    def __getitem__(self, index: int | slice) -> Document | RoutedCursor:
        """Return one document, or set skip and limit by a slice. They replace earlier ones, as in pymongo."""
        if isinstance(index, slice):
            start, stop = index.start or 0, index.stop
            if index.step is not None or start < 0 or (stop is not None and stop < start):
                raise IndexError("a cursor supports slices [start:stop] of positive numbers without a step")
            if stop == start:
                return self._with(skip=start, limit=1, filter={"$nor": [{}]})
            return self._with(skip=start, limit=stop - start if stop else 0)
        if index < 0:
            raise IndexError("a cursor does not support negative indices")
        self._with()
        one = self.clone()
        found = next(one.skip(index + self._find.skip).limit(1), None)
        if found is None:
            raise IndexError("no such item for a cursor")
        return found

    def distinct(self, key: str) -> list[Any]:
        """Return the distinct values of a field in all matching documents. As in pymongo, skip and limit don't count."""
        return run(self._distinct(key))

    def explain(self) -> Document:
        """Return the server's plan; if several partitions are asked, ``{"partitions": {name: plan}}``."""
        return run(self._explain())

    def rewind(self) -> RoutedCursor:
        """Start again from the first document."""
        self.close()
        self._opened, self._ended = None, False
        return self


class AsyncRoutedCursor(FindResults, AsyncResults):
    """An asynchronous iterator over the matching documents."""

    async def distinct(self, key: str) -> list[Any]:
        """Return the distinct values of a field in all matching documents. As in pymongo, skip and limit don't count."""
        return await self._distinct(key)

    async def explain(self) -> Document:
        """Return the server's plan; if several partitions are asked, ``{"partitions": {name: plan}}``."""
        return await self._explain()

    async def rewind(self) -> AsyncRoutedCursor:
        """Start again from the first document."""
        await self.close()
        self._opened, self._ended = None, False
        return self


def cursor_options(no_cursor_timeout: bool, cursor_type: int) -> dict[str, Any]:
    """Return pymongo's two positional options of a find, where they are not the default."""
    given = {"no_cursor_timeout": no_cursor_timeout, "cursor_type": cursor_type}
    return {name: value for name, value in given.items() if value}


def sort_keys(key: SortKeys | None, direction: int | str | None = None) -> tuple[tuple[str, Any], ...]:
    """Return pymongo's forms of a sort as (field, direction) pairs."""
    if not key:
        return ()
    if isinstance(key, str):
        return ((key, 1 if direction is None else direction),)
    pairs = key.items() if isinstance(key, Mapping) else key
    return tuple((pair, 1) if isinstance(pair, str) else (pair[0], pair[1]) for pair in pairs)
