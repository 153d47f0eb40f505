"""pymongo clients of the partitions, one per address for all threads, opened when the first route leads there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection


class Connections:
    """``connect(uri)`` builds a client, with the credentials from the environment; ``close_all`` gives them back."""

    def __init__(self, connect: Callable[[str], MongoClient[dict[str, Any]]], close_all: Callable[[], None]) -> None:
        self._connect, self._close_all = connect, close_all
        self._clients: dict[str, MongoClient[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def client(self, uri: str) -> MongoClient[dict[str, Any]]:
        """The client for ``uri``."""
        found = self._clients.get(uri)
        if found is None:
            with self._lock:
                found = self._clients.get(uri) or self._connect(uri)
                self._clients[uri] = found
        return found

    def collection(self, uri: str, sharded: ShardedCollection) -> Collection[dict[str, Any]]:
        """The collection on one partition."""
        return self.client(uri)[sharded.database][sharded.collection]

    @staticmethod
    def address(uri: str) -> str:
        """The hosts of ``uri``, without credentials and options."""
        return uri.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1]

    def close(self) -> None:
        """Close every client."""
        with self._lock:
            self._clients.clear()
            self._close_all()
