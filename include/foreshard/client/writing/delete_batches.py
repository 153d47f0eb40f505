"""Deletes of many documents, in transactions of a bounded size. A large transaction would keep locks and memory for long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from foreshard.client._driving import resolved
from foreshard.client._types import Filter

if TYPE_CHECKING:
    from pymongo.collection import Collection

AT_ONCE = 1_000
"""Documents of one transaction, as MongoDB's manual recommends ("Production Considerations" of transactions)."""


def batch(filter: Filter, options: Mapping[str, Any]) -> Callable[[Collection[dict[str, Any]], Any], Any]:
    """Return a delete of at most ``AT_ONCE`` matching documents, for a transaction. Its result: found, deleted."""

    async def attempt(collection: Collection[dict[str, Any]], session: Any) -> tuple[int, int]:
        found = collection.find(filter, {"_id": 1}, limit=AT_ONCE, session=session, **options)
        ids = [document["_id"] for document in await resolved(found.to_list())]
        if not ids:
            return 0, 0
        chosen = {"$and": [filter, {"_id": {"$in": ids}}]}
        done = await resolved(collection.delete_many(chosen, session=session, **options))
        return len(ids), done.deleted_count

    return attempt
