"""What the client does while its table may be old: it asks the partition itself whether a key has left it.

A table is the newest one for ``CONFIRMED`` seconds after the control database has confirmed it. Without a sidecar, with one
that is stopped, or with one that is cut off from the control database, no table is confirmed any more. A key may then have
moved, and its old copy may be removed: nothing found is not an answer yet. A partition's fence, and what its cleaners have
announced, tell what has left it. If something has, the client gets a newer table, or raises
:class:`foreshard.errors.RoutingTableOld`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pymongo import ReadPreference
from pymongo.errors import ConnectionFailure

from foreshard.client._driving import is_own_deadline, resolved
from foreshard.client._read_plans import PartitionRead, ReadPlan
from foreshard.client.routing.pymongo_errors import NoNewerTable, OperationRefused, ServiceUnreachable
from foreshard.client.routing.routes import Route
from foreshard.client.writing.held_fences import HeldFences
from foreshard.model.key_space import KeyType, slot_unit
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.partition.fences.fence_validator import read_options
from foreshard.stores.partition.units.removed_units import REMOVED_UNITS, entries_about, removed_from, removed_since

if TYPE_CHECKING:
    from foreshard.client._partition_clients import PartitionClients
    from foreshard.client.routing.router import AsyncRouter
    from foreshard.model import ShardedCollection

ABSENT_SECONDS = 1.0
"""Pause between two looks at a collection that does not exist yet."""
FENCE_KEPT = 0.5
"""Seconds for which a fence that was read is used. It may be large."""


async def fence_lists(connections: PartitionClients, uri: str, sharded: ShardedCollection) -> FenceLists:
    """Read what a partition's fence refuses."""
    return read_options(await _options(connections, uri, sharded) or {}, sharded).lists


async def _options(connections: PartitionClients, uri: str, sharded: ShardedCollection) -> Mapping[str, Any] | None:
    """The options of the collection on a partition; None if it does not exist there."""
    database = connections.collection(uri, sharded).database
    cursor = await resolved(database.list_collections(filter={"name": sharded.collection}))
    found: Any = next(iter(await resolved(cursor.to_list())), None)
    return None if found is None else found.get("options", {})


class Doubts:
    """Checks keys of one sharded collection on the partitions where an old table has them."""

    def __init__(self, router: AsyncRouter, connections: PartitionClients, sharded: ShardedCollection) -> None:
        self._router, self._connections, self._sharded = router, connections, sharded
        self._fences: dict[str, tuple[float, FenceLists]] = {}
        self.knows_collation = sharded.key_type is not KeyType.STRING
        """Whether the collection's own collation was checked. It matters to string keys only."""
        self._absent_until = float("-inf")
        self.held = HeldFences(connections, sharded, partial(fence_lists, connections, sharded=sharded))
        """What fences refuse in transactions."""

    async def check_collation(self, uri: str) -> None:
        """Refuse a collection with a collation of its own: filters by key would match other keys too.

        Checked until the collection exists. Raise :class:`ServiceUnreachable` if the partition does not answer, before anything
        is sent.
        """
        if self.knows_collation or time.monotonic() < self._absent_until:
            return
        try:
            options = await _options(self._connections, uri, self._sharded)
        except ConnectionFailure as error:
            if is_own_deadline(error):
                raise
            raise ServiceUnreachable("partition", self._connections.address(uri), "start it") from error
        if options is None:
            self._absent_until = time.monotonic() + ABSENT_SECONDS
            return
        collation = options.get("collation") or {"locale": "simple"}
        if collation.get("locale") != "simple":
            problem = f"it has the collation {collation['locale']}, under which different keys may be equal"
            remedy = "create it without one, and give operations a collation"
            raise OperationRefused(self._sharded.namespace, "routing by key", problem, remedy)
        self.knows_collation = True

    async def left(self, plan: ReadPlan) -> tuple[str, str] | None:
        """Return a unit that has left the partition where a plan reads it, and that partition. None if there is none."""
        for part in plan.parts:
            unit = await self._left(part)
            if unit is not None:
                return unit, part.partition
        return None

    async def check_writes(self, operation: str, routes: Iterable[Route]) -> bool:
        """Check the keys of writes. Return whether to route them again, by a newer table.

        Raise :class:`RoutingTableOld` if a key has left its partition and no newer table exists.
        """
        if not await self._router.is_old():
            return False
        for route in routes:
            unit = await self._left(PartitionRead(route.partition, route.uri, None, {route.key: route.epoch}))
            if unit is not None:
                await self.renew(operation, unit, route.partition)
                return True
        return False

    async def renew(self, operation: str, unit: str, partition: str) -> None:
        """Get a newer table. Raise :class:`RoutingTableOld` if that fails."""
        if not await self._router.refresh(self._router.now()):
            raise NoNewerTable(self._sharded.namespace, operation, unit, partition)

    async def _left(self, part: PartitionRead) -> str | None:
        removed = await removed_units(self._connections, part, self._sharded)
        if removed:
            return min(removed)
        lists = await self._fence(part.uri)
        if part.home is None:
            return next((key for key in part.epochs if lists.refuses(key)), None)
        away = part.home.away
        if away.joined(lists) == away:
            return None
        slots = (slot_unit(slot) for slot in sorted(lists.slots - away.slots))
        return next(slots, None) or min(lists.elsewhere or {""})

    async def _fence(self, uri: str) -> FenceLists:
        known = self._fences.get(uri)
        now = time.monotonic()
        if known is None or now - known[0] > FENCE_KEPT:
            known = self._fences[uri] = (now, await fence_lists(self._connections, uri, self._sharded))
        return known[1]


async def removed_units(connections: PartitionClients, part: PartitionRead, sharded: ShardedCollection) -> dict[str, int]:
    """Return the part's units whose documents the partition has removed, each with its owner's epoch."""
    database = connections.client(part.uri).get_database(connections.bookkeeping, read_preference=ReadPreference.PRIMARY)
    if part.home is not None:
        return removed_from(await resolved(database[REMOVED_UNITS].find().to_list()), part.epoch_of)
    if not part.epochs:
        return {}
    cursor = database[REMOVED_UNITS].find(entries_about(part.epochs))
    return removed_since(await resolved(cursor.to_list()), part.epochs, sharded.key_type)
