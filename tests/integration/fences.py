"""The fence tests' collection, and what a server accepts and refuses."""

from __future__ import annotations

from datetime import timedelta

from pymongo import MongoClient
from pymongo.errors import WriteError

from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeySpace
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.partition.fences.fence import MongoFence

FENCE_TIMEOUT = timedelta(seconds=5)
REFUSED = 121


def refused(client: MongoClient, trips: ShardedCollection, document: dict) -> bool:
    try:
        client[trips.database][trips.collection].insert_one(dict(document))
    except WriteError as error:
        return error.code == REFUSED
    return False


def nothing() -> FenceLists:
    return FenceLists(KeySpace())


def in_force(fence: MongoFence) -> frozenset[str]:
    return fence.in_force().lists.elsewhere


def listed(fence: MongoFence) -> frozenset[str]:
    return fence.listed().elsewhere
