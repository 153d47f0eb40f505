"""The databases of a client: their collections are routed, or pymongo's own on a home partition."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

from foreshard.client._collection import AsyncRoutedCollection
from foreshard.client._driving import SYNC, resolved, run
from foreshard.client._partition_clients import PartitionClients
from foreshard.client._sync_collection import RoutedCollection
from foreshard.client.routing.pymongo_errors import OperationRefused
from foreshard.client.routing.router import AsyncRouter
from foreshard.stores.partition.own_transactions import VERSIONS

HARMLESS = frozenset({"buildinfo", "ping"})
RoutedKind = TypeVar("RoutedKind", RoutedCollection, AsyncRoutedCollection)


class RoutedDatabase(Generic[RoutedKind]):
    """The collections of one database. ``find``: returns a collection by the names of database and collection."""

    def __init__(
        self, name: str, client: Any, find: Callable[[str, str], Any], router: AsyncRouter, connections: PartitionClients
    ) -> None:
        self.name, self.client, self._find = name, client, find
        self._router, self._connections = router, connections

    def __getattr__(self, collection: str) -> RoutedKind:
        if collection.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {collection!r}")
        return self[collection]

    def get_collection(self, name: str, **options: Any) -> RoutedKind:
        """Return a collection, with pymongo's options as in ``with_options``."""
        found: Any = self[name]
        routed: RoutedKind = found.with_options(**options) if options else found
        return routed

    def __getitem__(self, collection: str) -> RoutedKind:
        routed: RoutedKind = self._find(self.name, collection)
        return routed

    def command(self, command: str | Mapping[str, Any], **options: Any) -> Any:
        """Run ``buildInfo`` or ``ping`` on one partition. Other commands are refused: they would be of one partition."""
        name = command if isinstance(command, str) else next(iter(command))
        if name.lower() not in HARMLESS:
            problem = f"{name} would be of one partition only"
            raise OperationRefused(self.name, "command", problem, "use pymongo on that partition")
        return self._driven(self._command(command, options))

    async def _command(self, command: str | Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        first = (await self._router.partitions())[0]
        database = self._connections.client(first.uri)[self.name]
        return await resolved(database.command(dict(command) if isinstance(command, Mapping) else command, **options))

    def list_collection_names(self, **options: Any) -> Any:
        """Return the names of the collections that are on any partition, without Foreshard's own."""
        return self._driven(self._collection_names(options))

    async def _collection_names(self, options: Mapping[str, Any]) -> list[str]:
        addresses = await self._router.partitions()
        databases = [self._connections.client(address.uri)[self.name] for address in addresses]
        found = [await resolved(database.list_collection_names(**options)) for database in databases]
        return sorted({name for names in found for name in names} - {VERSIONS})

    def _driven(self, work: Coroutine[Any, Any, Any]) -> Any:
        return run(work) if self._router.mode is SYNC else work

    def __call__(self, *_: object, **__: object) -> None:
        """Raise ``InvalidOperation``: an app that calls this means a method of pymongo's client."""
        remedy = "use pymongo on one partition"
        raise OperationRefused(self.name, f"{self.name}()", "a routed client has no such method", remedy)
