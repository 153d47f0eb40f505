"""Plans reads: from the nearest copy with room for the keys that a read names, or from every partition if it names none.

A partition may have more copies of a key than the one to read: a shadow, a partial copy of a move in progress, or the old copy
after a move. A read over all partitions therefore first asks each partition for the matching keys, then asks the table for the
owner of each key, and only then reads from each partition the keys that it owns. A partition that has just lost a key still has
all of its documents (the source's copy is kept for a while), so every document that exists throughout the read is seen exactly
once. :mod:`foreshard.client._watching` has what happens to a read that is still open when that copy is removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from pymongo.errors import ConnectionFailure

from foreshard.client._driving import resolved
from foreshard.client._fences import unreachable
from foreshard.client._keys import keys_of_filter, narrowed
from foreshard.client._partition_clients import PartitionClients
from foreshard.client._types import Result
from foreshard.client.routing.router import AsyncRouter
from foreshard.client.routing.routes import Operation, PartitionAddress, ReadPreference, Route
from foreshard.errors import KeyMovedWhileReading, RouteRefused
from foreshard.model import ShardedCollection
from foreshard.stores.bson_codec import key_text, key_value

if TYPE_CHECKING:
    from pymongo.collection import Collection

LONGEST_KEY_LIST = 20_000
"""Most keys in one filter. More keys are read in several parts."""
TABLE_AWAITED = 5.0
"""Longest wait, in seconds, for a table that has a move which a partition knows of."""


class PartitionRead(NamedTuple):
    """The part of a read on one partition: the documents of ``keys``, as BSON values (None: the app's filter limits them).

    ``epochs``: key → the epoch of the route that it is read by.
    """

    partition: str
    uri: str
    keys: tuple[Any, ...] | None = None
    epochs: Mapping[str, int] = {}


class ReadPlan(NamedTuple):
    """The parts of one read and its keys. ``scattered``: the read named no keys."""

    parts: tuple[PartitionRead, ...]
    keys: tuple[str, ...]
    scattered: bool = False

    def knows(self, moved: KeyMovedWhileReading) -> bool:
        """Whether the plan was made from a table that has the move."""
        return all(part.epochs.get(moved.key, moved.epoch) >= moved.epoch for part in self.parts)


@dataclass(frozen=True)
class Reader:
    """Plans and opens reads of one sharded collection."""

    router: AsyncRouter
    connections: PartitionClients
    sharded: ShardedCollection
    operation: Operation = Operation.READ
    """The kind of routes to ask for. ``WRITE`` reads primary copies only."""
    opened: dict[str, Collection[dict[str, Any]]] = field(default_factory=dict)

    def keys_of(self, filter: Mapping[str, Any], collation: Any = None) -> tuple[str, ...] | None:
        """The keys that a filter names. None with a collation, which may treat different keys as equal."""
        return None if collation is not None else keys_of_filter(filter, self.sharded)

    async def plan(self, keys: tuple[str, ...] | None, filter: Mapping[str, Any], preference: ReadPreference) -> ReadPlan:
        """Plan a read of ``keys``; if they are None, of every key that has documents matching ``filter``."""
        if keys is None:
            return await self._scatter(filter)
        if len(keys) == 1:
            route = await self.router.route(keys[0], self.operation, preference)
            return ReadPlan((PartitionRead(route.partition, route.uri, None, {keys[0]: route.epoch}),), keys)
        routes = await self.router.routes(keys, self.operation, preference)
        return ReadPlan(_grouped(self._placed(routes)), keys)

    async def run(
        self, plan: Callable[[], Awaitable[ReadPlan]], read: Callable[[ReadPlan], Awaitable[Result]]
    ) -> tuple[ReadPlan, Result]:
        """Plan and read. If a partition does not answer, refresh the table, plan again, and read from other copies.

        Read again if a key's documents were removed meanwhile, because it has moved.
        """
        planned = await plan()
        try:
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
            await self.router.route(moved.key, Operation.WRITE, fresh=True)
            planned = await plan()
            if planned.knows(moved):
                return planned
            if self.router.now() > deadline:
                raise moved
            await self.router.mode.sleep(TABLE_AWAITED / 50)

    async def one(self, key: str, preference: ReadPreference, read: Callable[[Collection[dict[str, Any]]], Result]) -> Result:
        """Read one key: like ``run``, but faster."""
        route = self.router.router.known(key, self.operation, preference)
        if route is None:
            route = await self.router.route(key, self.operation, preference)
        try:
            opened = self.opened.get(route.uri)
            found = read(opened if opened is not None else self._open(route.uri))
            return await resolved(found) if type(found) is CoroutineType else found
        except ConnectionFailure as error:
            plan = ReadPlan((PartitionRead(route.partition, route.uri, None, {key: route.epoch}),), (key,))
            again = await self._again(lambda: self.plan((key,), {}, preference), plan, error)
        try:
            return await resolved(read(self.collection(again.parts[0])))
        except ConnectionFailure as second:
            raise self.failed(second, again) from second

    def known_collection(self, key: str, preference: ReadPreference) -> Collection[dict[str, Any]] | None:
        """The collection to read one key from; None if the route is not known without a request."""
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
        if len(planned.parts) == 1:
            self.router.avoid(planned.parts[0].partition)
        await self.router.refresh(self.router.now())
        again = await plan()
        if again.parts == planned.parts:
            raise self.failed(error, planned) from error
        return again

    def failed(self, error: ConnectionFailure, plan: ReadPlan) -> Exception:  # noqa: ARG002
        """The error for a failed read of ``plan``."""
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
        """The keys of the matching documents on a partition, whether it owns them or not."""
        try:
            cursor = await resolved(self.collection(PartitionRead(address.partition, address.uri)).aggregate(pipeline))
            return [row["_id"] for row in await resolved(cursor.to_list())]
        except ConnectionFailure as error:
            raise unreachable(address.partition, self.connections.address(address.uri)) from error

    async def _owned(self, found_on: Mapping[str, tuple[str, Sequence[Any]]]) -> ReadPlan:
        """Plan to read from each partition the keys that it owns. Documents without a valid key never move, so they are read
        where they were found."""
        texts = {self._text(value) for _, found in found_on.values() for value in found}
        owners = await self._owners(sorted(key for key in texts if key))
        parts = list(_grouped(self._placed(owners)))
        for partition, (uri, found) in found_on.items():
            keyless = tuple(value for value in found if self._text(value) not in owners)
            if keyless:
                parts.append(PartitionRead(partition, uri, keyless))
        return ReadPlan(tuple(parts), tuple(owners), scattered=True)

    def _text(self, value: Any) -> str | None:
        """The key that a value of the key field is; None for any other value."""
        return key_text(value, self.sharded.key_type)

    def _placed(self, routes: Mapping[str, Route]) -> dict[Any, Route]:
        """Where each key is read. The keys are BSON values, as filters carry them."""
        key_type = self.sharded.key_type
        return {key_value(key, key_type): route for key, route in routes.items()}

    async def _owners(self, keys: Sequence[str]) -> dict[str, Route]:
        """The primary of each key. A key that the sidecar refuses (too long, for example) has none."""
        try:
            return await self.router.routes(keys, Operation.WRITE)
        except RouteRefused:
            found = {}
            for key in keys:
                with suppress(RouteRefused):
                    found[key] = await self.router.route(key, Operation.WRITE)
            return found


def _grouped(placed: Mapping[Any, Route]) -> tuple[PartitionRead, ...]:
    by_partition: dict[tuple[str, str], list[tuple[Any, Route]]] = defaultdict(list)
    for key, route in placed.items():
        by_partition[route.partition, route.uri].append((key, route))
    return tuple(
        PartitionRead(*place, tuple(key for key, _ in some), {route.key: route.epoch for _, route in some})
        for place, found in sorted(by_partition.items(), key=itemgetter(0))
        for some in (found[start : start + LONGEST_KEY_LIST] for start in range(0, len(found), LONGEST_KEY_LIST))
    )
