"""Plans reads that name no key: each partition is asked for the documents that live on it.

A partition may have more copies of a key than the one to read: a shadow, a partial copy of a move in progress, or the old copy
after a move. With a table in this process, the question itself says which documents live there (their slots, and the listed
keys that are exceptions). Without one, each partition is first asked for the matching keys, and the sidecar for their owners;
this costs as much as there are keys. A partition that has just lost a key still has all of its documents (the source's copy is
kept for a while), so every document that exists throughout the read is seen exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pymongo.errors import ConnectionFailure

from foreshard.client._driving import is_own_deadline, resolved
from foreshard.client._fences import unreachable
from foreshard.client._read_plans import PartitionRead, ReadPlan, by_partition
from foreshard.client.routing.routes import Operation, PartitionAddress, Route
from foreshard.errors import RouteRefused
from foreshard.stores.bson_codec import key_text, key_value

if TYPE_CHECKING:
    from foreshard.client._partition_clients import PartitionClients
    from foreshard.client.routing.router import AsyncRouter
    from foreshard.model import ShardedCollection

KeysFound = Sequence[tuple[Any, int]]
"""Values of the key field, each with its hash where a collation is used."""
FoundOn = Mapping[str, tuple[str, KeysFound]]
"""Partition → its address, and what was found there."""


class Scatter:
    """Plans the unkeyed reads of one sharded collection."""

    def __init__(self, router: AsyncRouter, connections: PartitionClients, sharded: ShardedCollection) -> None:
        self._router, self._connections, self._sharded = router, connections, sharded

    async def plan(self, filter: Mapping[str, Any], collation: Any, let: Mapping[str, Any] | None = None) -> ReadPlan:
        """Plan a read of every document that matches ``filter``, whose variables ``let`` defines.

        ``collation``: one that treats different keys as equal.
        """
        homes = self._router.router.homes()
        if homes is None:
            return await self._by_keys(filter, collation, let)
        addresses, found = homes
        parts = (PartitionRead(a.partition, a.uri, home=found.of(a.partition)) for a in addresses)
        return ReadPlan(tuple(parts), (), scattered=True)

    async def _by_keys(self, filter: Mapping[str, Any], collation: Any, let: Mapping[str, Any] | None) -> ReadPlan:
        field = f"${self._sharded.key_field}"
        grouped = field if collation is None else {"$toHashedIndexKey": field}
        pipeline: list[Mapping[str, Any]] = [{"$group": {"_id": grouped, "key": {"$first": field}}}]
        if filter:
            pipeline.insert(0, {"$match": filter})
        addresses = await self._router.partitions()
        options = {"collation": collation, "let": let}
        found = await self._router.mode.together([self._keys_at(address, pipeline, options) for address in addresses])
        found_on = {a.partition: (a.uri, keys) for a, keys in zip(addresses, found, strict=True)}
        texts = {self._text(value) for _, keys in found_on.values() for value, _ in keys}
        owners = await self._owners(sorted(key for key in texts if key))
        parts = self._parts(found_on, owners)
        if collation is not None:
            parts = [_by_hash(part, found_on) for part in parts]
        return ReadPlan(tuple(parts), (), scattered=True)

    async def _keys_at(
        self, address: PartitionAddress, pipeline: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> KeysFound:
        """The keys of the matching documents on a partition, whether it owns them or not."""
        collection = self._connections.collection(address.uri, self._sharded)
        try:
            cursor = await resolved(collection.aggregate(pipeline, **options))
            return [(row.get("key"), row["_id"]) for row in await resolved(cursor.to_list())]
        except ConnectionFailure as error:
            if is_own_deadline(error):
                raise
            raise unreachable(address.partition, self._connections.address(address.uri)) from error

    def _parts(self, found_on: FoundOn, owners: Mapping[str, Route]) -> list[PartitionRead]:
        """Read from each partition the keys that it owns. Documents without a valid key never move, so they are read where they
        were found."""
        key_type = self._sharded.key_type
        parts = list(by_partition({key_value(key, key_type): route for key, route in owners.items()}))
        for partition, (uri, found) in found_on.items():
            keyless = tuple(value for value, _ in found if self._text(value) not in owners)
            if keyless:
                parts.append(PartitionRead(partition, uri, keyless))
        return parts

    def _text(self, value: Any) -> str | None:
        """The key that a value of the key field is; None for any other value."""
        return key_text(value, self._sharded.key_type)

    async def _owners(self, keys: Sequence[str]) -> dict[str, Route]:
        """The primary of each key. A key that the sidecar refuses (too long, for example) has none."""
        try:
            return await self._router.routes(keys, Operation.WRITE)
        except RouteRefused:
            found = {}
            for key in keys:
                with suppress(RouteRefused):
                    found[key] = await self._router.route(key, Operation.WRITE)
            return found


def _by_hash(part: PartitionRead, found_on: FoundOn) -> PartitionRead:
    """Name the keys of a part by their hashes, which no collation treats as equal."""
    hashes = [one for value, one in found_on[part.partition][1] if value in (part.keys or ())]
    return part._replace(keys=None, hashes=tuple(hashes))
