"""What a partition's fence refuses while the caller's transaction has used the collection, and therefore holds its lock.

A fence is a ``collMod``, which waits for that lock, so what is read stays true until the transaction ends. Reading is one
small ``find``: the fence's ``revision`` rises with every change, and it names a ``holder`` while a change is under way. Only
then, and after a change, the collection's validator is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pymongo import ReadPreference

from foreshard.client._driving import resolved
from foreshard.model.key_space import KeySpace
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.partition.fences.fence_entry import BOOKKEEPING_DATABASE, FENCES, STATE

if TYPE_CHECKING:
    from foreshard.client._partition_clients import PartitionClients
    from foreshard.model import ShardedCollection

ReadLists = Callable[[str], Awaitable[FenceLists]]
"""Reads what the validator on a partition (by its URI) refuses."""


class HeldFences:
    """Reads the fences of one sharded collection. ``in_force(uri)`` reads a validator."""

    def __init__(self, connections: PartitionClients, sharded: ShardedCollection, in_force: ReadLists) -> None:
        self._connections, self._sharded, self._in_force = connections, sharded, in_force
        self._known: dict[str, tuple[int, FenceLists]] = {}

    async def lists(self, uri: str) -> FenceLists:
        """Return what the fence on a partition refuses. Call it in a transaction."""
        entries = self._connections.client(uri)[BOOKKEEPING_DATABASE].get_collection(
            FENCES, read_preference=ReadPreference.PRIMARY
        )
        entry = await resolved(entries.find_one({"_id": self._sharded.namespace}, STATE))
        if entry is None:
            return FenceLists(KeySpace(self._sharded.key_type))
        known = self._known.get(uri)
        if known is None or known[0] != entry["revision"] or entry["holder"] is not None:
            known = (entry["revision"], await self._in_force(uri))
            if entry["holder"] is None:
                self._known[uri] = known
        return known[1]
