"""What ``find`` returns: pymongo's chaining (``sort``, ``limit``, …) and iteration over one or many partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from bson.codec_options import CodecOptions
from pymongo.errors import ConnectionFailure, InvalidOperation

from foreshard.client.merging import Document, is_mergeable, merge, part_limit, with_sort_key
from foreshard.client.reads import Part, Reader, ReadPlan

Observer = Callable[[ReadPlan], None]
SortKeys = str | Sequence[str | tuple[str, Any]] | Mapping[str, Any]


@dataclass(frozen=True)
class Find:
    """The arguments of a ``find``; ``options`` go to pymongo as they are."""

    filter: Mapping[str, Any]
    projection: Mapping[str, Any] | Sequence[str] | None = None
    skip: int = 0
    limit: int = 0
    sort: tuple[tuple[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class RoutedCursor:
    """An iterator over the matching documents; nothing is asked before the first is wanted. Not safe to share by threads.

    A read that runs longer than the grace period of a move may miss documents of the moved key: close it or read in pages.
    """

    def __init__(self, reader: Reader, find: Find, location: str | None, observe: Observer) -> None:
        self._reader, self._find, self._location, self._observe = reader, find, location, observe
        self._documents: Iterator[Document] | None = None
        self._open: list[Any] = []

    def sort(self, key: SortKeys, direction: int | str | None = None) -> RoutedCursor:
        """Sort by a field, or by several fields with their directions."""
        return self._with(sort=sort_keys(key, direction))

    def limit(self, limit: int) -> RoutedCursor:
        """Return at most ``limit`` documents (0: all)."""
        return self._with(limit=abs(limit))

    def skip(self, skip: int) -> RoutedCursor:
        """Leave out the first ``skip`` documents."""
        if skip < 0:
            raise ValueError("skip must be >= 0")
        return self._with(skip=skip)

    def batch_size(self, batch_size: int) -> RoutedCursor:
        """How many documents each answer brings."""
        return self._with_option("batch_size", batch_size)

    def hint(self, index: Any) -> RoutedCursor:
        """Which index to use."""
        return self._with_option("hint", index)

    def collation(self, collation: Any) -> RoutedCursor:
        """How to compare strings; the read then goes to every partition."""
        return self._with_option("collation", collation)

    def max_time_ms(self, max_time_ms: int | None) -> RoutedCursor:
        """The limit for each partition's answer."""
        return self._with_option("max_time_ms", max_time_ms)

    def comment(self, comment: Any) -> RoutedCursor:
        """A comment for the servers' logs."""
        return self._with_option("comment", comment)

    def clone(self) -> RoutedCursor:
        """The same query, not yet begun."""
        return RoutedCursor(self._reader, self._find, self._location, self._observe)

    def rewind(self) -> RoutedCursor:
        """Begin again."""
        self.close()
        self._documents = None
        return self

    def to_list(self, length: int | None = None) -> list[Document]:
        """The next ``length`` documents, or all."""
        return list(islice(self, length))

    def close(self) -> None:
        """Give the servers' cursors back; no more documents come."""
        while self._open:
            with suppress(ConnectionFailure):
                self._open.pop().close()
        self._documents = iter(())

    def __iter__(self) -> RoutedCursor:
        return self

    def __next__(self) -> Document:
        if self._documents is None:
            self._documents = self._begin()
        return next(self._documents)

    def next(self) -> Document:
        """The next document."""
        return self.__next__()

    def __enter__(self) -> RoutedCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> Iterator[Document]:
        find, reader = self._find, self._reader
        plan, documents = reader.run(
            lambda: reader.plan(find.filter, self._location, find.options.get("collation")), self._open_parts
        )
        self._observe(plan)
        return _guarded(documents, plan, reader)

    def _open_parts(self, plan: ReadPlan) -> Iterator[Document]:
        """Open every part and fetch its first documents."""
        self._open.clear()
        one = len(plan.parts) == 1
        opened: list[Iterable[Document]] = []
        for part in plan.parts:
            cursor = self._open_one(part, one)
            self._open.append(cursor)
            opened.append(_started(cursor))
        find = self._find
        return iter(opened[0]) if one else merge(opened, find.sort, find.skip, find.limit)

    def _open_one(self, part: Part, one: bool) -> Any:
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

    def _with(self, **changes: Any) -> RoutedCursor:
        if self._documents is not None:
            raise InvalidOperation("cannot set options after executing query")
        self._find = replace(self._find, **changes)
        return self

    def _with_option(self, name: str, value: Any) -> RoutedCursor:
        return self._with(options={**self._find.options, name: value})


def sort_keys(key: SortKeys | None, direction: int | str | None = None) -> tuple[tuple[str, Any], ...]:
    """pymongo's ways to name a sort, as pairs."""
    if not key:
        return ()
    if isinstance(key, str):
        return ((key, 1 if direction is None else direction),)
    pairs = key.items() if isinstance(key, Mapping) else key
    return tuple((pair, 1) if isinstance(pair, str) else (pair[0], pair[1]) for pair in pairs)


def _started(cursor: Iterator[Document]) -> Iterator[Document]:
    """``cursor`` with its first documents fetched, so that a partition that doesn't answer is noticed now."""
    first = next(cursor, None)
    return iter(()) if first is None else _after(first, cursor)


def _after(first: Document, rest: Iterator[Document]) -> Iterator[Document]:
    yield first
    yield from rest


def _guarded(documents: Iterator[Document], plan: ReadPlan, reader: Reader) -> Iterator[Document]:
    try:
        yield from documents
    except ConnectionFailure as error:
        raise reader.failed(error, plan) from error
