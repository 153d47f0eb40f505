"""Plans and opens reads: from the nearest copy with room for the keys that a read names, or from every partition if it names
none (:mod:`foreshard.client._scatter`).

:mod:`foreshard.client._watching` has what happens to a read that is still open when a copy is removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import CoroutineType, MappingProxyType
from typing import TYPE_CHECKING, Any

from pymongo.errors import ConnectionFailure

from foreshard.client._doubts import Doubts
from foreshard.client._driving import is_own_deadline, resolved
from foreshard.client._fences import unreachable
from foreshard.client._keys import keys_of_filter
from foreshard.client._partition_clients import PartitionClients
from foreshard.client._read_plans import PartitionRead, ReadPlan, by_partition
from foreshard.client._scatter import Scatter
from foreshard.client._types import Result
from foreshard.client.routing.router import CONFIRMED, AsyncRouter
from foreshard.client.routing.routes import Operation, ReadPreference, Route
from foreshard.errors import KeyMovedWhileReading
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType, slot_number
from foreshard.stores.bson_codec import key_value

if TYPE_CHECKING:
    from pymongo.collection import Collection

TABLE_AWAITED = 5.0
"""Longest wait, in seconds, for a table that has a move which a partition knows of."""


@dataclass(frozen=True)
class Reader:
    """Plans and opens reads of one sharded collection."""

    router: AsyncRouter
    connections: PartitionClients
    sharded: ShardedCollection
    doubts: Doubts
    """What is checked while the table may be old."""
    operation: Operation = Operation.READ
    """The kind of routes to ask for. ``WRITE`` reads primary copies only."""
    opened: dict[str, Collection[dict[str, Any]]] = field(default_factory=dict)

    def keys_of(self, filter: Mapping[str, Any], collation: Any = None) -> tuple[str, ...] | None:
        """The keys that a filter names. None with a collation that may treat different keys as equal."""
        return None if mixes_keys(collation, self.sharded) else keys_of_filter(filter, self.sharded)

    async def plan(
        self,
        keys: tuple[str, ...] | None,
        filter: Mapping[str, Any],
        preference: ReadPreference,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> ReadPlan:
        """Plan a read of ``keys``; if they are None, of every document that matches ``filter``.

        ``options`` of pymongo's read: ``collation`` and ``let`` say what ``filter`` matches.
        While the table may be old, it reads primary copies.
        """
        if keys is None:
            collation = options.get("collation")
            mixing = collation if mixes_keys(collation, self.sharded) else None
            return await Scatter(self.router, self.connections, self.sharded).plan(filter, mixing, options.get("let"))
        operation = Operation.WRITE if await self.router.is_old() else self.operation
        if len(keys) == 1:
            return ReadPlan((_part_of(await self.router.route(keys[0], operation, preference)),), keys)
        routes = await self.router.routes(keys, operation, preference)
        key_type = self.sharded.key_type
        return ReadPlan(by_partition({key_value(key, key_type): route for key, route in routes.items()}), keys)

    async def run(
        self, plan: Callable[[], Awaitable[ReadPlan]], read: Callable[[ReadPlan], Awaitable[Result]]
    ) -> tuple[ReadPlan, Result]:
        """Plan and read. If a partition does not answer, refresh the table, plan again, and read from other copies.

        Read again if a key's documents were removed meanwhile, because it has moved. While the table may be old, ask the
        partitions whether a key has left them.
        """
        planned, found = await self._run_once(plan, read)
        if not await self.router.is_old():
            return planned, found
        left = await self.doubts.left(planned)
        if left is None:
            return planned, found
        await self.doubts.renew("read", *left)
        again = await plan()
        if again.parts == planned.parts:  # the newest table agrees: the key is fenced for a move that has not switched
            return planned, found
        return again, await read(again)

    async def _run_once(
        self, plan: Callable[[], Awaitable[ReadPlan]], read: Callable[[ReadPlan], Awaitable[Result]]
    ) -> tuple[ReadPlan, Result]:
        planned = await plan()
        try:
            if not self.doubts.knows_collation and planned.parts:
                await self.doubts.check_collation(planned.parts[0].uri)
            return planned, await read(planned)
        except KeyMovedWhileReading as moved:
            planned = await self.replan(plan, moved)
            return planned, await read(planned)
        except ConnectionFailure as error:
            again = await self._again(plan, planned, error)
        try:
            return again, await read(again)
        except ConnectionFailure as second:
            raise self.failed(second, again) from second

    async def replan(self, plan: Callable[[], Awaitable[ReadPlan]], moved: KeyMovedWhileReading) -> ReadPlan:
        """Plan again once the table has the move. Raise ``moved`` if it does not get it in time."""
        deadline = self.router.now() + TABLE_AWAITED
        while True:
            await self.router.refresh(self.router.now())
            if slot_number(moved.key) is None:
                await self.router.route(moved.key, Operation.WRITE, fresh=True)
            planned = await plan()
            if planned.knows(moved):
                return planned
            if self.router.now() > deadline:
                raise moved
            await self.router.mode.sleep(TABLE_AWAITED / 50)

    async def one(self, key: str, preference: ReadPreference, read: Callable[[Collection[dict[str, Any]]], Result]) -> Result:
        """Read one key: like ``run``, but faster."""
        if not self.doubts.knows_collation or await self.router.is_old():
            _, found = await self.run(
                lambda: self.plan((key,), {}, preference), lambda plan: resolved(read(self.collection(plan.parts[0])))
            )
            return found
        route = self.router.router.known(key, self.operation, preference)
        if route is None:
            route = await self.router.route(key, self.operation, preference)
        try:
            opened = self.opened.get(route.uri)
            found = read(opened if opened is not None else self._open(route.uri))
            return await resolved(found) if type(found) is CoroutineType else found
        except ConnectionFailure as error:
            plan = ReadPlan((_part_of(route),), (key,))
            again = await self._again(lambda: self.plan((key,), {}, preference), plan, error)
        try:
            return await resolved(read(self.collection(again.parts[0])))
        except ConnectionFailure as second:
            raise self.failed(second, again) from second

    def known_collection(self, key: str, preference: ReadPreference) -> Collection[dict[str, Any]] | None:
        """The collection to read one key from; None if the route is not known without a request, or may be old."""
        age = self.router.router.known_age()
        if age is None or age > CONFIRMED or not self.doubts.knows_collation:
            return None
        route = self.router.router.known(key, self.operation, preference)
        if route is None:
            return None
        opened = self.opened.get(route.uri)
        return opened if opened is not None else self._open(route.uri)

    def _open(self, uri: str) -> Collection[dict[str, Any]]:
        found = self.opened[uri] = self.connections.collection(uri, self.sharded)
        return found

    async def _again(self, plan: Callable[[], Awaitable[ReadPlan]], planned: ReadPlan, error: ConnectionFailure) -> ReadPlan:
        """Plan again after a failure. Raise if the new plan is the same."""
        if is_own_deadline(error):
            raise error
        if len(planned.parts) == 1:
            self.router.avoid(planned.parts[0].partition)
        await self.router.refresh(self.router.now())
        again = await plan()
        if again.parts == planned.parts:
            raise self.failed(error, planned) from error
        return again

    def failed(self, error: ConnectionFailure, plan: ReadPlan) -> Exception:
        """The error for a failed read of ``plan``."""
        if is_own_deadline(error):
            return error
        partitions = ", ".join(part.partition for part in plan.parts)
        return unreachable(partitions, ", ".join(self.connections.address(part.uri) for part in plan.parts))

    def collection(self, part: PartitionRead) -> Collection[dict[str, Any]]:
        """The collection on a part's partition."""
        return self.connections.collection(part.uri, self.sharded)

    def filter_for(self, part: PartitionRead, filter: Mapping[str, Any], collation: Any = None) -> Mapping[str, Any]:
        """``filter``, limited to what the part reads."""
        return part.narrow(filter, self.sharded, collated=mixes_keys(collation, self.sharded))


def _part_of(route: Route) -> PartitionRead:
    return PartitionRead(route.partition, route.uri, None, {route.key: route.epoch}, is_shadow=route.is_shadow)


def mixes_keys(collation: Any, sharded: ShardedCollection) -> bool:
    """Whether a collation may treat different keys as equal. It compares strings only."""
    if collation is None or sharded.key_type is not KeyType.STRING:
        return False
    document = collation if isinstance(collation, Mapping) else collation.document
    return bool(document.get("locale") != "simple")
