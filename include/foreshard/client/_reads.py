"""Where a read goes: to the nearest copy with room for the keys that it names, or to every partition where it names none.

A partition may hold more copies of a key than the one to read: a shadow, what a move has copied so far, what it left behind
for its grace period. A read over all partitions therefore first asks each which keys match, then the table for the owner of
each key, and only then reads, from each partition the keys that it owns. An owner that was right a moment ago still has all
documents (a move empties the old place only after the grace period), so every document that stood throughout the read is seen
exactly once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pymongo.errors import ConnectionFailure

from foreshard.client._async_router import AsyncRouter
from foreshard.client._driving import settled
from foreshard.client._fences import unreachable
from foreshard.client._keys import keys_of_filter, narrowed
from foreshard.client._partition_clients import PartitionClients
from foreshard.client._routes import Operation, PartitionAddress, ReadPreference, Route
from foreshard.errors import RouteRefused
from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from pymongo.collection import Collection

LONGEST_KEY_LIST = 20_000
"""Keys in one filter; more are asked for in several parts."""

_Result = TypeVar("_Result")


class PartitionRead(NamedTuple):
    """What one partition is asked for: the documents of ``keys`` (None: the app's filter says it all)."""

    partition: str
    uri: str
    keys: tuple[Any, ...] | None = None


class ReadPlan(NamedTuple):
    """The parts of one read, and the keys that it touches; ``scattered`` when it named none."""

    parts: tuple[PartitionRead, ...]
    keys: tuple[str, ...]
    scattered: bool = False


@dataclass(frozen=True)
class Reader:
    """Plans and opens reads of one sharded collection."""

    router: AsyncRouter
    connections: PartitionClients
    sharded: ShardedCollection
    operation: Operation = Operation.READ
    """What routes are asked for; ``WRITE`` reads primaries only."""
    opened: dict[str, Collection[dict[str, Any]]] = field(default_factory=dict)

    def keys_of(self, filter: Mapping[str, Any], collation: Any = None) -> tuple[str, ...] | None:
        """The keys that a filter names. A collation may equate keys that the table keeps apart, so it names none."""
        return None if collation is not None else keys_of_filter(filter, self.sharded.key_field)

    async def plan(self, keys: tuple[str, ...] | None, filter: Mapping[str, Any], wish: ReadPreference) -> ReadPlan:
        """Which partitions to ask for what: those of ``keys``, or of every key that matches ``filter`` where they are None."""
        if keys is None:
            return await self._scatter(filter)
        if len(keys) == 1:
            route = await self.router.route(keys[0], self.operation, wish)
            return ReadPlan((PartitionRead(route.partition, route.uri),), keys)
        routes = await self.router.routes(keys, self.operation, wish)
        return ReadPlan(_grouped({key: (route.partition, route.uri) for key, route in routes.items()}), keys)

    async def run(
        self, plan: Callable[[], Awaitable[ReadPlan]], read: Callable[[ReadPlan], Awaitable[_Result]]
    ) -> tuple[ReadPlan, _Result]:
        """Plan and read; where a partition doesn't answer, plan once more with a fresh table and fresh routes, and read
        elsewhere."""
        planned = await plan()
        try:
            return planned, await read(planned)
        except ConnectionFailure as error:
            again = await self._again(plan, planned, error)
        try:
            return again, await read(again)
        except ConnectionFailure as second:
            raise self.failed(second, again) from second

    async def one(self, key: str, wish: ReadPreference, read: Callable[[Collection[dict[str, Any]]], _Result]) -> _Result:
        """What ``read`` finds in the collection where one key's copy is read; like ``run``, and quicker."""
        route = self.router.router.known(key, self.operation, wish)
        if route is None:
            route = await self.router.route(key, self.operation, wish)
        try:
            opened = self.opened.get(route.uri)
            found = read(opened if opened is not None else self._open(route.uri))
            return await settled(found) if type(found) is CoroutineType else found
        except ConnectionFailure as error:
            plan = ReadPlan((PartitionRead(route.partition, route.uri),), (key,))
            again = await self._again(lambda: self.plan((key,), {}, wish), plan, error)
        try:
            return await settled(read(self.collection(again.parts[0])))
        except ConnectionFailure as second:
            raise self.failed(second, again) from second

    def at_once(self, key: str, wish: ReadPreference) -> Collection[dict[str, Any]] | None:
        """The collection where one key's copy is read; None where the route has to be asked for."""
        route = self.router.router.known(key, self.operation, wish)
        if route is None:
            return None
        opened = self.opened.get(route.uri)
        return opened if opened is not None else self._open(route.uri)

    def _open(self, uri: str) -> Collection[dict[str, Any]]:
        found = self.opened[uri] = self.connections.collection(uri, self.sharded)
        return found

    async def _again(self, plan: Callable[[], Awaitable[ReadPlan]], planned: ReadPlan, error: ConnectionFailure) -> ReadPlan:
        """Another plan; raise where it leads to the same partitions, of which one does not answer."""
        if len(planned.parts) == 1:
            self.router.avoid(planned.parts[0].partition)
        await self.router.refresh(self.router.now())
        again = await plan()
        if again.parts == planned.parts:
            raise self.failed(error, planned) from error
        return again

    def failed(self, error: ConnectionFailure, plan: ReadPlan) -> Exception:  # noqa: ARG002
        """The error for a read that no partition of ``plan`` answered."""
        partitions = ", ".join(part.partition for part in plan.parts)
        return unreachable(partitions, ", ".join(self.connections.address(part.uri) for part in plan.parts))

    def collection(self, part: PartitionRead) -> Collection[dict[str, Any]]:
        """The collection on a part's partition."""
        return self.connections.collection(part.uri, self.sharded)

    def filter_for(self, part: PartitionRead, filter: Mapping[str, Any]) -> Mapping[str, Any]:
        """``filter``, limited to the part's keys."""
        return filter if part.keys is None else narrowed(filter, self.sharded.key_field, part.keys)

    async def _scatter(self, filter: Mapping[str, Any]) -> ReadPlan:
        pipeline: list[Mapping[str, Any]] = [{"$group": {"_id": f"${self.sharded.key_field}"}}]
        if filter:
            pipeline.insert(0, {"$match": filter})
        addresses = await self.router.partitions()
        found = await self.router.mode.together([self._keys_at(address, pipeline) for address in addresses])
        return await self._owned({a.partition: (a.uri, keys) for a, keys in zip(addresses, found, strict=True)})

    async def _keys_at(self, address: PartitionAddress, pipeline: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The keys of the matching documents that stand on a partition, as owner or otherwise."""
        try:
            cursor = await settled(self.collection(PartitionRead(address.partition, address.uri)).aggregate(pipeline))
            return [row["_id"] for row in await settled(cursor.to_list())]
        except ConnectionFailure as error:
            raise unreachable(address.partition, self.connections.address(address.uri)) from error

    async def _owned(self, standing: Mapping[str, tuple[str, Sequence[Any]]]) -> ReadPlan:
        """From each partition the keys that it owns; documents without a usable key are never moved and read where they
        stand."""
        keys = sorted({key for _, found in standing.values() for key in found if isinstance(key, str) and key})
        owners = await self._owners(keys)
        placed: dict[Any, tuple[str, str]] = {key: (route.partition, route.uri) for key, route in owners.items()}
        parts = list(_grouped(placed))
        for partition, (uri, found) in standing.items():
            keyless = tuple(key for key in found if key not in owners)
            if keyless:
                parts.append(PartitionRead(partition, uri, keyless))
        return ReadPlan(tuple(parts), tuple(owners), scattered=True)

    async def _owners(self, keys: Sequence[str]) -> dict[str, Route]:
        """The primary of each key; a key that the sidecar refuses (one that is too long, say) has none."""
        try:
            return await self.router.routes(keys, Operation.WRITE)
        except RouteRefused:
            found = {}
            for key in keys:
                with suppress(RouteRefused):
                    found[key] = await self.router.route(key, Operation.WRITE)
            return found


def _grouped(placed: Mapping[Any, tuple[str, str]]) -> tuple[PartitionRead, ...]:
    by_partition: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for key, place in placed.items():
        by_partition[place].append(key)
    return tuple(
        PartitionRead(partition, uri, tuple(keys[start : start + LONGEST_KEY_LIST]))
        for (partition, uri), keys in sorted(by_partition.items())
        for start in range(0, len(keys), LONGEST_KEY_LIST)
    )
