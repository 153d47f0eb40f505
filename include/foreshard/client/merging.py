"""Makes one result of several partitions' results: merge by sort key, then skip, then limit. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from foreshard.client.bson_order import sort_rank

SORT_KEY = "__foreshard_sort_key"
"""The server puts each document's sort key here (``$meta: sortKey``), whatever the projection leaves out."""

Document = dict[str, Any]
Sort = Sequence[tuple[str, Any]]


def merge(parts: Sequence[Iterable[Document]], sort: Sort, skip: int, limit: int) -> Iterator[Document]:
    """One iterator over ``parts``, each sorted already and holding at least its first ``skip + limit`` documents.

    ``limit`` 0 means all. Documents with equal sort keys come in the order of the parts. Without a sort, part follows part.
    """
    together = _merged(parts, directions(sort)) if is_mergeable(sort) else chain.from_iterable(parts)
    return islice(together, skip, skip + limit if limit else None)


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


def _merged(parts: Sequence[Iterable[Document]], ways: list[int]) -> Iterator[Document]:
    def rank(document: Document) -> tuple[Any, ...]:
        return sort_rank(document[SORT_KEY], ways)

    for document in heapq.merge(*parts, key=rank):
        del document[SORT_KEY]
        yield document
