"""Writes of one document that name its ``_id`` and no key: the key is looked up on every partition first.

An object mapper (Beanie, for example) writes like this. It costs one more question to each partition, so a filter with the key
is better. ``_id`` is unique on each partition only: several documents are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from foreshard.client._cursor import AsyncRoutedCursor
from foreshard.client._find import Find
from foreshard.client._keys import key_of_document
from foreshard.client._types import Document, Filter, Update
from foreshard.client.routing.pymongo_errors import OperationRefused
from foreshard.stores.bson_codec import key_of, key_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from foreshard.client._read_collection import AsyncRoutedReads
    from foreshard.model import ShardedCollection

    Finder = Callable[[Filter, Mapping[str, int]], Awaitable[list[Document]]]


def names_only_id(filter: Filter) -> bool:
    """Whether a filter names one ``_id``."""
    wanted = filter.get("_id", {})
    return not isinstance(wanted, Mapping) or (not any(name.startswith("$") for name in wanted) and bool(wanted))


async def with_looked_up_key(
    sharded: ShardedCollection, operation: str, filter: Filter, upsert_of: Update | None, find: Finder
) -> Filter | None:
    """Return ``filter`` with the key of the document that has its ``_id``; None if there is no such document.

    ``upsert_of``: the update of an upsert, whose ``$set`` or ``$setOnInsert`` names the key of a new document. Without one an
    upsert is left as it is, which the caller refuses. ``find(filter, projection)`` returns at most two documents.
    """
    field = sharded.key_field
    found = await find({"_id": filter["_id"]}, {field: 1})
    if len(found) > 1:
        problem = f"{len(found)} documents have this _id, which is unique on each partition only"
        raise OperationRefused(sharded.namespace, operation, problem, f"add {field} to its filter")
    if found:
        key = key_of_document(found[0], sharded)
        return filter if key is None else {**filter, field: key_value(key, sharded.key_type)}
    if upsert_of is None:
        return None
    for operator in ("$set", "$setOnInsert"):
        given = upsert_of.get(operator, {}) if isinstance(upsert_of, Mapping) else {}
        value = given.get(field, key_of(given, field))
        if value is not None:
            return {**filter, field: value}
    return filter


async def keyed_by_id(
    reads: AsyncRoutedReads, operation: str, filter: Filter, options: Mapping[str, Any], upsert_of: Update | None = None
) -> Filter | None:
    """Return a filter with its key, which is looked up if it names an ``_id`` only; None if no document has that."""
    if options.get("collation") is not None or reads.reader.keys_of(filter) is not None or not names_only_id(filter):
        return filter

    async def find(by_id: Filter, projection: Mapping[str, int]) -> list[Document]:
        async with reads.cursor(AsyncRoutedCursor, Find(by_id, projection, limit=2), None) as found:
            return await found.to_list()

    return await with_looked_up_key(reads.reader.sharded, operation, filter, upsert_of, find)
