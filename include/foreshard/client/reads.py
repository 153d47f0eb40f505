"""Where a read goes: to the nearest copy with room for the keys that it names, or to every partition where it names none.

A partition may hold more copies of a key than the one to read: a shadow, what a move has copied so far, what it left behind
for its grace period. A read over all partitions therefore first asks each which keys match, then the table for the owner of
each key, and only then reads, from each partition the keys that it owns. An owner that was right a moment ago still has all
documents (a move empties the old place only after the grace period), so every document that stood throughout the read is seen
exactly once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo.errors import ConnectionFailure

from foreshard.client.connections import Connections
from foreshard.client.fences import unreachable
from foreshard.client.keys import keys_of_filter, narrowed
from foreshard.client.routes import Operation, Route, Router
from foreshard.errors import RouteRefused
from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from pymongo.collection import Collection

LONGEST_KEY_LIST = 20_000
"""Keys in one filter; more are asked for in several parts."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Part:
    """What one partition is asked for: the documents of ``keys`` (None: the app's filter says it all)."""

    partition: str
    uri: str
    keys: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """The parts of one read, and the keys that it touches; ``scattered`` when it named none."""

    parts: tuple[Part, ...]
    keys: tuple[str, ...]
    scattered: bool = False


@dataclass(frozen=True)
class Reader:
    """Plans and opens reads of one sharded collection."""

    router: Router
    connections: Connections
    sharded: ShardedCollection
    primary_only: bool = False

    def plan(self, filter: Mapping[str, Any], location: str | None, collation: Any = None) -> ReadPlan:
        """Which partitions to ask for what. A collation may equate keys that the table keeps apart, so it names none."""
        keys = None if collation is not None else keys_of_filter(filter, self.sharded.key_field)
        return self.plan_keys(keys, filter, location)

    def plan_keys(self, keys: tuple[str, ...] | None, filter: Mapping[str, Any], location: str | None) -> ReadPlan:
        """The plan for ``keys``, or for every key that matches ``filter`` where they are None."""
        if keys is None:
            return self._scatter(filter)
        operation = Operation.WRITE if self.primary_only else Operation.READ
        routes = self.router.routes(keys, operation, location)
        if len(keys) == 1:
            (route,) = routes.values()
            return ReadPlan((Part(route.partition, route.uri),), keys)
        return ReadPlan(_grouped({key: (route.partition, route.uri) for key, route in routes.items()}), keys)

    def run(self, plan: Callable[[], ReadPlan], read: Callable[[ReadPlan], Result]) -> tuple[ReadPlan, Result]:
        """Plan and read; where a partition doesn't answer, plan once more with a fresh table and fresh routes, and read
        elsewhere."""
        planned = plan()
        try:
            return planned, read(planned)
        except ConnectionFailure as error:
            self.router.refresh(self.router.now())
            again = plan()
            if again.parts == planned.parts:
                raise self.failed(error, planned) from error
            try:
                return again, read(again)
            except ConnectionFailure as second:
                raise self.failed(second, again) from second

    def failed(self, error: ConnectionFailure, plan: ReadPlan) -> Exception:  # noqa: ARG002
        """The error for a read that no partition of ``plan`` answered."""
        partitions = ", ".join(part.partition for part in plan.parts)
        return unreachable(partitions, ", ".join(self.connections.address(part.uri) for part in plan.parts))

    def collection(self, part: Part) -> Collection[dict[str, Any]]:
        """The collection on a part's partition."""
        return self.connections.collection(part.uri, self.sharded)

    def filter_for(self, part: Part, filter: Mapping[str, Any]) -> Mapping[str, Any]:
        """``filter``, limited to the part's keys."""
        return filter if part.keys is None else narrowed(filter, self.sharded.key_field, part.keys)

    def _scatter(self, filter: Mapping[str, Any]) -> ReadPlan:
        pipeline: list[Mapping[str, Any]] = [{"$group": {"_id": f"${self.sharded.key_field}"}}]
        if filter:
            pipeline.insert(0, {"$match": filter})
        standing: dict[str, tuple[str, list[Any]]] = {}
        for address in self.router.partitions():
            part = Part(address.partition, address.uri)
            try:
                found = [row["_id"] for row in self.collection(part).aggregate(pipeline)]
            except ConnectionFailure as error:
                raise unreachable(address.partition, self.connections.address(address.uri)) from error
            standing[address.partition] = (address.uri, found)
        return self._owned(standing)

    def _owned(self, standing: Mapping[str, tuple[str, Sequence[Any]]]) -> ReadPlan:
        """From each partition the keys that it owns; documents without a usable key are never moved and read where they
        stand."""
        keys = sorted({key for _, found in standing.values() for key in found if isinstance(key, str) and key})
        owners = self._owners(keys)
        placed: dict[Any, tuple[str, str]] = {key: (route.partition, route.uri) for key, route in owners.items()}
        parts = list(_grouped(placed))
        for partition, (uri, found) in standing.items():
            keyless = tuple(key for key in found if key not in owners)
            if keyless:
                parts.append(Part(partition, uri, keyless))
        return ReadPlan(tuple(parts), tuple(owners), scattered=True)

    def _owners(self, keys: Sequence[str]) -> dict[str, Route]:
        """The primary of each key; a key that the sidecar refuses (one that is too long, say) has none."""
        try:
            return self.router.routes(keys, Operation.WRITE)
        except RouteRefused:
            found = {}
            for key in keys:
                with suppress(RouteRefused):
                    found[key] = self.router.route(key, Operation.WRITE)
            return found


def _grouped(placed: Mapping[Any, tuple[str, str]]) -> tuple[Part, ...]:
    by_partition: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for key, place in placed.items():
        by_partition[place].append(key)
    return tuple(
        Part(partition, uri, tuple(keys[start : start + LONGEST_KEY_LIST]))
        for (partition, uri), keys in sorted(by_partition.items())
        for start in range(0, len(keys), LONGEST_KEY_LIST)
    )
