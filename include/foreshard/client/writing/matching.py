"""Which documents an update of many would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo import ReadPreference

from foreshard.client._driving import resolved

if TYPE_CHECKING:
    from pymongo.collection import Collection


async def matching_ids(collection: Collection[dict[str, Any]], request: Any, let: Any) -> list[Any]:
    """Return the ids of the documents that a request of pymongo's (``UpdateMany``) matches on a partition now."""
    primary = collection.with_options(read_preference=ReadPreference.PRIMARY)
    found = primary.find(request._filter, {"_id": 1}, let=let)
    if request._hint is not None:
        found = found.hint(request._hint if isinstance(request._hint, str) else list(request._hint.items()))
    return [document["_id"] for document in await resolved(found.to_list())]
