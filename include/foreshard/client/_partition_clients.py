"""The partitions' pymongo clients, one per address, and their collections.

They are synchronous or asynchronous. The core is typed for the synchronous ones and resolves what they return
(:func:`foreshard.client._driving.resolved`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bson.binary import UuidRepresentation

from foreshard.client._driving import resolved
from foreshard.client.routing.forking import renewed_after_fork
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection

    from foreshard.settings import Settings


class PartitionClients:
    """``connect(uri)`` builds a client with the credentials from the settings. ``bookkeeping``: Foreshard's database there."""

    def __init__(self, connect: Callable[[str], MongoClient[dict[str, Any]]], bookkeeping: str = "foreshard") -> None:
        self._connect, self.bookkeeping = connect, bookkeeping
        self._clients: dict[str, MongoClient[dict[str, Any]]] = {}
        self._collections: dict[tuple[str, str, str], Collection[dict[str, Any]]] = {}
        self.renew()
        renewed_after_fork(self)

    @classmethod
    def from_settings(cls, settings: Settings, deadline: float, *, asynchronous: bool = False) -> PartitionClients:
        """The clients of an app. One attempt looks for a server for half the ``deadline`` (at least 0.5 s, at most 5 s)."""
        from foreshard.stores.mongo_connections import SERVER_SELECTION_MS, client_options

        patience = int(min(max(500.0, deadline * 500), SERVER_SELECTION_MS))
        options = client_options(settings, "foreshard", patience)

        def connect(uri: str) -> MongoClient[dict[str, Any]]:
            from pymongo import AsyncMongoClient, MongoClient

            made: Any = AsyncMongoClient(uri, **options) if asynchronous else MongoClient(uri, **options)
            client: MongoClient[dict[str, Any]] = made
            return client

        return cls(connect, settings.control_database)

    def renew(self) -> None:
        """Make a new lock, here and in the child of a fork."""
        self._lock = threading.Lock()

    def client(self, uri: str) -> MongoClient[dict[str, Any]]:
        """The client of ``uri``, created on first use."""
        found = self._clients.get(uri)
        if found is None:
            with self._lock:
                found = self._clients.get(uri) or self._connect(uri)
                self._clients[uri] = found
        return found

    def collection(self, uri: str, sharded: ShardedCollection) -> Collection[dict[str, Any]]:
        """The collection on one partition."""
        name = (uri, sharded.database, sharded.collection)
        found = self._collections.get(name)
        if found is None:
            found = self._collections[name] = self._open(uri, sharded)
        return found

    def _open(self, uri: str, sharded: ShardedCollection) -> Collection[dict[str, Any]]:
        """Open a collection. With UUID keys, ``uuid.UUID`` can be written and is read; pymongo refuses it by default."""
        found = self.client(uri)[sharded.database][sharded.collection]
        codec = found.codec_options
        if sharded.key_type is not KeyType.UUID or codec.uuid_representation != UuidRepresentation.UNSPECIFIED:
            return found
        return found.with_options(codec_options=codec.with_options(uuid_representation=UuidRepresentation.STANDARD))

    @staticmethod
    def address(uri: str) -> str:
        """The hosts in ``uri``, without credentials and options."""
        return uri.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1]

    async def close(self) -> None:
        """Close all clients."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
            self._collections.clear()
        for client in clients:
            closing: Any = client.close
            await resolved(closing())
