"""The filter of the documents that live on a partition, which may hold shadows and copies of other keys too. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bson import Int64

from foreshard.model import ShardedCollection
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.bson_codec import key_value
from foreshard.stores.partition._slot_filter import outside_slots


def home_filter(collection: ShardedCollection, away: FenceLists, *, collated: bool) -> dict[str, Any]:
    """Return a filter of the documents whose key is not ``away``. Documents without a usable key pass.

    ``collated``: a collation treats different keys as equal, so listed keys are compared by their hash.
    """
    here = outside_slots(collection, away.space, away.slots) if away.slots else {}
    if away.elsewhere:
        here = {"$and": [here, {"$nor": [keys_filter(collection, away, away.elsewhere, collated=collated)]}]}
    if away.here:
        here = {"$or": [here, keys_filter(collection, away, away.here, collated=collated)]}
    return here


def keys_filter(collection: ShardedCollection, away: FenceLists, keys: Iterable[str], *, collated: bool) -> dict[str, Any]:
    """Return a filter of the documents of these keys."""
    if not collated:
        return {collection.key_field: {"$in": [key_value(key, collection.key_type) for key in sorted(keys)]}}
    return hashes_filter(collection, [away.space.hash_of(key) for key in sorted(keys)])


def hashes_filter(collection: ShardedCollection, hashes: Iterable[int]) -> dict[str, Any]:
    """Return a filter of the documents whose key has one of these hashes. No collation changes what it matches."""
    return {"$expr": {"$in": [{"$toHashedIndexKey": f"${collection.key_field}"}, [Int64(one) for one in hashes]]}}
