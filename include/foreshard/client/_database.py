"""The databases of a client: their collections are routed, or pymongo's own on a home partition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from foreshard.client._collection import AsyncRoutedCollection
from foreshard.client._sync_collection import RoutedCollection
from foreshard.client.routing.pymongo_errors import OperationRefused

RoutedKind = TypeVar("RoutedKind", RoutedCollection, AsyncRoutedCollection)


class RoutedDatabase(Generic[RoutedKind]):
    """The collections of one database. ``find``: returns a collection by the names of database and collection."""

    def __init__(self, name: str, client: Any, find: Callable[[str, str], Any]) -> None:
        self.name, self.client, self._find = name, client, find

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

    def __call__(self, *_: object, **__: object) -> None:
        """Raise ``InvalidOperation``: an app that calls this means a method of pymongo's client."""
        remedy = "use pymongo on one partition"
        raise OperationRefused(self.name, f"{self.name}()", "a routed client has no such method", remedy)
