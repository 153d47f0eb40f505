"""The partitions' pymongo clients, one per address, and their collections, with the options that an app may choose.

They are synchronous or asynchronous. The core is typed for the synchronous ones and resolves what they return
(:func:`foreshard.client._driving.resolved`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from foreshard.client._driving import resolved
from foreshard.client.routing.forking import renewed_after_fork
from foreshard.client.routing.pymongo_errors import OperationRefused
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection
    from pymongo.driver_info import DriverInfo
    from pymongo.read_preferences import _ServerMode

    from foreshard.settings import Settings

DEFAULTS: Mapping[str, Any] = {
    "codec_options": CodecOptions(tz_aware=True),
    "read_concern": ReadConcern(),
    "read_preference": ReadPreference.PRIMARY,
    "write_concern": WriteConcern("majority"),
}


class PartitionClients:
    """``connect(uri)`` builds a client with the credentials from the settings. ``bookkeeping``: Foreshard's database there."""

    def __init__(self, connect: Callable[[str], MongoClient[dict[str, Any]]], bookkeeping: str = "foreshard") -> None:
        self._connect, self.bookkeeping = connect, bookkeeping
        self._clients: dict[str, MongoClient[dict[str, Any]]] = {}
        self._metadata: list[DriverInfo] = []
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

    def append_metadata(self, info: DriverInfo) -> None:
        """Tell the servers of a library that uses the clients."""
        with self._lock:
            self._metadata.append(info)
            for client in self._clients.values():
                client.append_metadata(info)

    def renew(self) -> None:
        """Make a new lock, here and in the child of a fork."""
        self._lock = threading.Lock()

    def client(self, uri: str) -> MongoClient[dict[str, Any]]:
        """The client of ``uri``, created on first use."""
        found = self._clients.get(uri)
        if found is None:
            with self._lock:
                found = self._clients.get(uri)
                if found is None:
                    found = self._clients[uri] = self._connect(uri)
                    for info in self._metadata:
                        found.append_metadata(info)
        return found

    def collection(self, uri: str, sharded: ShardedCollection) -> Collection[dict[str, Any]]:
        """The collection on one partition."""
        name = (uri, sharded.database, sharded.collection)
        found = self._collections.get(name)
        if found is None:
            found = self._collections[name] = self._open(uri, sharded)
        return found

    def _open(self, uri: str, sharded: ShardedCollection) -> Collection[dict[str, Any]]:
        """Open a collection."""
        return with_uuid_keys(self.client(uri)[sharded.database][sharded.collection], sharded)

    def with_options(self, options: Mapping[str, Any]) -> PartitionClients:
        """The same clients. Their collections have these options of pymongo's ``with_options``."""
        return ClientsWithOptions(self, options)

    def open_session(self, uri: str) -> Any:
        """Return a session of pymongo's for one write."""
        return self.client(uri).start_session(causal_consistency=False)

    async def release_session(self, session: Any) -> None:
        """End a session that ``open_session`` has returned."""
        await resolved(session.end_session())

    def option(self, name: str) -> Any:
        """Return an option of pymongo's that the collections have. Before a client is open: as ``from_settings`` opens it."""
        opened = next(iter(self._clients.values()), None)
        return DEFAULTS[name] if opened is None else getattr(opened, name)

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


class ClientsWithOptions(PartitionClients):
    """The clients of ``base``. Their collections have options of the app's choice."""

    def __init__(self, base: PartitionClients, options: Mapping[str, Any]) -> None:
        super().__init__(base.client, base.bookkeeping)
        self._base, self._options = base, dict(options)

    def client(self, uri: str) -> MongoClient[dict[str, Any]]:
        """The client of ``uri``, which ``base`` keeps."""
        return self._base.client(uri)

    def option(self, name: str) -> Any:
        """Return an option of pymongo's that the collections have."""
        return self._options[name] if name in self._options else self._base.option(name)

    def _open(self, uri: str, sharded: ShardedCollection) -> Collection[dict[str, Any]]:
        return with_uuid_keys(self._base.collection(uri, sharded).with_options(**self._options), sharded)

    async def close(self) -> None:
        """Close all clients of ``base``."""
        await self._base.close()


def with_uuid_keys(collection: Collection[dict[str, Any]], sharded: ShardedCollection) -> Collection[dict[str, Any]]:
    """With UUID keys, return a collection that writes and reads ``uuid.UUID``; pymongo refuses it by default."""
    codec = collection.codec_options
    if sharded.key_type is not KeyType.UUID or codec.uuid_representation != UuidRepresentation.UNSPECIFIED:
        return collection
    return collection.with_options(codec_options=codec.with_options(uuid_representation=UuidRepresentation.STANDARD))


def checked_choices(
    namespace: str,
    codec_options: CodecOptions[Any] | None,
    read_preference: _ServerMode | None,
    write_concern: WriteConcern | None,
    read_concern: ReadConcern | None,
) -> dict[str, Any]:
    """Return the options that are given. Raise :class:`OperationRefused` for one under which an answer could be wrong.

    Refused: unacknowledged writes (a fence's refusal would not be seen), reads from secondaries (one may not yet have a key
    that has just moved to its partition), and document classes that can't be changed (merged reads take their sort key out).
    """
    if write_concern is not None and not write_concern.acknowledged:
        problem = "an unacknowledged write would be lost in silence where a fence refuses it"
        raise OperationRefused(namespace, "with_options", problem, "use a write concern that is acknowledged")
    if read_preference is not None and read_preference != ReadPreference.PRIMARY:
        problem = "a secondary may not have a key yet that has just moved to its partition"
        raise OperationRefused(namespace, "with_options", problem, "omit read_preference; shadows serve near reads")
    if codec_options is not None and not issubclass(codec_options.document_class, MutableMapping):
        problem = f"documents of {codec_options.document_class.__name__} can't be merged from several partitions"
        raise OperationRefused(namespace, "with_options", problem, "use dict, SON or another mutable mapping")
    given = {
        "codec_options": codec_options, "read_preference": read_preference, "write_concern": write_concern,
        "read_concern": read_concern,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}
