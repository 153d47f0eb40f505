"""Indexes of a routed collection: each verb acts on every partition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymongo import IndexModel
from pymongo.errors import PyMongoError

from foreshard.client._cursor import SortKeys, sort_keys
from foreshard.client._driving import resolved
from foreshard.client._reads import Reader
from foreshard.client.routing.pymongo_errors import IndexesDiffer, OperationRefused
from foreshard.client.routing.routes import PartitionAddress
from foreshard.client.writing.write_errors import one_line

IndexVerb = Callable[[Any], Any]


class PartitionIndexes:
    """The indexes of one sharded collection on all partitions."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._sharded = reader, reader.sharded

    async def create(self, keys: SortKeys, options: Mapping[str, Any]) -> str:
        """Create an index on every partition, and return its name.

        Refused: a unique one without the key field. It would be unique on each partition only.
        """
        self._check_unique("create_index", [name for name, _ in sort_keys(keys)], options)
        names = await self._everywhere("create_index", lambda collection: collection.create_index(keys, **options))
        return str(names[0])

    async def create_several(self, indexes: Sequence[IndexModel], options: Mapping[str, Any]) -> list[str]:
        """Create indexes on every partition, and return their names."""
        for index in indexes:
            self._check_unique("create_indexes", [*index.document["key"]], index.document)
        names = await self._everywhere("create_indexes", lambda c: c.create_indexes(list(indexes), **options))
        return [str(name) for name in names[0]]

    def _check_unique(self, operation: str, fields: Sequence[str], options: Mapping[str, Any]) -> None:
        if options.get("unique") and self._sharded.key_field not in fields:
            problem = f"a unique index without {self._sharded.key_field} would be unique on each partition only"
            raise OperationRefused(self._sharded.namespace, operation, problem, "add the key field to it")

    async def drop(self, index: Any, options: Mapping[str, Any]) -> None:
        """Drop an index on every partition."""
        await self._everywhere("drop_index", lambda collection: collection.drop_index(index, **options))

    async def information(self) -> dict[str, Any]:
        """Return the indexes. Raise :class:`IndexesDiffer` unless every partition has the same."""
        found: Sequence[dict[str, Any]] = await self._everywhere("index_information", lambda c: c.index_information())
        partitions = [address.partition for address in await self._addresses()]
        for name, indexes in zip(partitions, found, strict=True):
            different = sorted({*indexes} ^ {*found[0]})
            if different or indexes != found[0]:
                problem = f"{', '.join(different) or 'an index'} of {name} is not as on {partitions[0]}"
                raise IndexesDiffer(self._sharded.namespace, "index_information", problem, "create or drop it")
        return dict(found[0])

    async def _addresses(self) -> tuple[PartitionAddress, ...]:
        return await self._reader.router.partitions()

    async def _everywhere(self, operation: str, verb: IndexVerb) -> list[Any]:
        """Run a verb on every partition. Raise :class:`IndexesDiffer` if some of them have failed, and say which."""
        addresses = await self._addresses()
        clients, mode = self._reader.connections, self._reader.router.mode

        async def one(address: PartitionAddress) -> Any:
            try:
                return await resolved(verb(clients.collection(address.uri, self._sharded)))
            except PyMongoError as error:
                return error

        done = await mode.together([one(address) for address in addresses])
        failed = {a.partition: error for a, error in zip(addresses, done, strict=True) if isinstance(error, PyMongoError)}
        if not failed:
            return done
        first = next(iter(failed.values()))
        if len(failed) == len(done):
            raise first
        problem = f"it failed on {', '.join(failed)} ({one_line(first)}) and is done on the other partitions"
        raise IndexesDiffer(self._sharded.namespace, operation, problem, "repair the cause, then repeat it") from first
