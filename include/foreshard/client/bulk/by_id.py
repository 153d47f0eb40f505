"""Requests of a bulk write that name one ``_id`` and no key: all their keys are looked up together, before anything is sent.

An earlier request of the same bulk that inserts the ``_id`` tells its key too. A request whose ``_id`` no document has changes
nothing, so it is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import bson
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne

from foreshard.client._by_id import names_only_id, with_looked_up_key
from foreshard.client._cursor import AsyncRoutedCursor
from foreshard.client._find import Find
from foreshard.client._types import Document, Filter
from foreshard.client.routing.pymongo_errors import OperationRefused

if TYPE_CHECKING:
    from foreshard.client._read_collection import AsyncRoutedReads
    from foreshard.client.bulk.requests import WriteRequest

IDS_AT_ONCE = 10_000


async def with_keys(
    reads: AsyncRoutedReads, operation: str, requests: Sequence[WriteRequest]
) -> list[tuple[int, WriteRequest]]:
    """Return the requests with their places in the list, each with a key in its filter if its ``_id`` tells it."""
    unkeyed: list[Any] = [request for request in requests if _names_no_key(reads, request)]
    named = [request._filter["_id"] for request in unkeyed]
    if not named:
        return list(enumerate(requests))
    sharded = reads.reader.sharded
    known = await _Documents.of(reads, operation, named)
    made: list[tuple[int, WriteRequest]] = []
    for place, request in enumerate(requests):
        keyed: Any = request
        if isinstance(request, InsertOne):
            known.add(request._doc)
        elif _names_no_key(reads, request):
            given: Any = request
            upserted = given._doc if getattr(given, "_upsert", None) else None
            filter = await with_looked_up_key(sharded, operation, given._filter, upserted, known.find)
            if filter is None:
                continue
            keyed = copy(given)
            keyed._filter = filter
            if upserted is not None:
                known.add(filter)
        made.append((place, keyed))
    return made


def _names_no_key(reads: AsyncRoutedReads, request: Any) -> bool:
    """Whether a request is of one document, and names its ``_id`` only. A replacement that may insert must name a key."""
    if not isinstance(request, UpdateOne | DeleteOne | ReplaceOne) or request._collation is not None:
        return False
    if isinstance(request, ReplaceOne) and request._upsert:
        return False
    return names_only_id(request._filter) and reads.reader.keys_of(request._filter) is None


class _Documents:
    """The documents of some ``_id``s, with their keys."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._found: dict[Any, list[Document]] = {}

    @classmethod
    async def of(cls, reads: AsyncRoutedReads, operation: str, ids: Sequence[Any]) -> _Documents:
        """Read them from all partitions. Raise if the server matches an ``_id`` that is not equal here, such as a pattern."""
        made = cls(reads.reader.sharded.key_field)
        asked = {_comparable(one): one for one in ids}
        for start in range(0, len(asked), IDS_AT_ONCE):
            some = list(asked.values())[start : start + IDS_AT_ONCE]
            find = Find({"_id": {"$in": some}}, {made._field: 1})
            async with reads.cursor(AsyncRoutedCursor, find, None) as found:
                documents = await found.to_list()
            for document in documents:
                name = _comparable(document["_id"])
                if name not in asked:
                    problem = f"an _id of its filters matches the document {document['_id']!r}, which is another value"
                    raise OperationRefused(reads.full_name, operation, problem, f"add {made._field} to its filter")
                made._found.setdefault(name, []).append(document)
        return made

    async def find(self, filter: Filter, _projection: Mapping[str, int]) -> list[Document]:
        """Return the documents of one ``_id``."""
        return self._found.get(_comparable(filter["_id"]), [])

    def add(self, document: Mapping[str, Any]) -> None:
        """Take what a request inserts. Its key is the one that counts for the requests behind it."""
        if "_id" in document:
            self._found[_comparable(document["_id"])] = [dict(document)]


def _comparable(value: Any) -> Any:
    """Return a value that is equal for ids that are equal in MongoDB, where 1 is 1.0 and not true."""
    try:
        hash(value)
    except TypeError:
        return bson.encode({"": value})
    return isinstance(value, bool), value
