"""The clients: ``RoutedClient(...)["database"]["collection"]`` has pymongo's verbs, and there is an asynchronous one.

::

    with RoutedClient.from_settings(location="San Jose") as client:
        with client.request("checkout", user="rider 17", session="s-1"):
            client["bikeshare"]["stations"].update_one({"station": "Market at 4th"}, {"$inc": {"bikes": -1}})

    async with AsyncRoutedClient.from_settings(location="San Jose") as client:
        await client["bikeshare"]["stations"].find_one({"station": "Market at 4th"})
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self

from foreshard.client._collection import AsyncRoutedCollection
from foreshard.client._database import RoutedDatabase, RoutedKind
from foreshard.client._doubts import Doubts
from foreshard.client._driving import ASYNC, SYNC, Mode, run
from foreshard.client._fences import FencedWriter
from foreshard.client._keys import key_argument
from foreshard.client._partition_clients import PartitionClients
from foreshard.client._reads import Reader
from foreshard.client._records import Recorder, RequestScope
from foreshard.client._sync_collection import RoutedCollection
from foreshard.client.routing.build import build_router
from foreshard.client.routing.pymongo_errors import ClientMisconfigured
from foreshard.client.routing.router import AsyncRouter, Router
from foreshard.client.routing.routes import LocalSource, Operation, ReadPreference, Route, RouteSource
from foreshard.client.sessions.session import AsyncRoutedSession, RoutedSession, session_options
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType

if TYPE_CHECKING:
    from pymongo.client_session_shared import TransactionOptions
    from pymongo.driver_info import DriverInfo

    from foreshard.ports.access_records import AccessEmitter
    from foreshard.settings import Settings


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a client behaves. Times in seconds.

    ``deadline``: how long a write waits for a key that is being moved, or for a partition that does not answer.
    ``keep_routes``: how long an answer of the sidecar may be reused (0: never). ``primary_reads``: read primary copies only.
    ``max_staleness``: how far behind reads may be (None: the configured limit for shadows).
    ``measure_cost``: record the milliseconds of each operation as its cost.
    ``home_partition``: unsharded collections are pymongo's own, on this partition (None: they are refused).
    """

    deadline: float = 5.0
    keep_routes: float = 0.5
    primary_reads: bool = False
    max_staleness: float | None = None
    measure_cost: bool = False
    home_partition: str | None = None
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


class _Client(Generic[RoutedKind]):
    """The common part of both clients."""

    _mode: Mode
    _asynchronous: bool
    is_primary = True
    """As in pymongo: whether writes are possible. The client finds the primary of each partition itself."""

    def __init__(
        self,
        routes: RouteSource,
        connections: PartitionClients,
        collections: Sequence[ShardedCollection],
        *,
        local: LocalSource | None = None,
        request: RequestScope = RequestScope(),  # noqa: B008 (frozen)
        emitter: AccessEmitter | None = None,
        user_key: bytes | None = None,
        options: ClientOptions = ClientOptions(),
    ) -> None:
        """Build a client from its parts. Apps use :meth:`from_settings`."""
        self._router = Router(routes, options.keep_routes, local=local)
        self._build(connections, collections, request, emitter, user_key, options)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        sidecar_url: str | None = None,
        location: str | None = None,
        user: str | None = None,
        collections: Sequence[ShardedCollection] | None = None,
        access_records: bool = True,
        routing_folder: Path | None = None,
        options: ClientOptions = ClientOptions(),
    ) -> Self:
        """Build a client for ``collections`` (default: those in the settings).

        It routes in process from the sidecar's table in ``routing_folder`` (default: ``routing`` in the settings' data folder).
        It asks the sidecar at ``sidecar_url`` (default: from the settings) if that file is missing, and after a fence has
        refused a write or a write has found nothing.
        Raise :class:`foreshard.errors.MissingSecret` if access records are on and the key that pseudonymises users is not set.
        """
        from foreshard.settings import Settings

        settings = settings or Settings.load()
        sharded = tuple(collections) if collections is not None else settings.sharded_collections
        if not sharded:
            raise ClientMisconfigured(
                "FORESHARD_COLLECTIONS", "it names no sharded collection", "name collections and their key fields"
            )
        user_key = settings.require_user_key() if access_records else None
        emitter: AccessEmitter | None = None
        if access_records:
            from foreshard.stores.kafka.access_emitter import KafkaAccessEmitter

            emitter = KafkaAccessEmitter(settings.kafka_bootstrap, settings.access_topic)
        client = cls.__new__(cls)
        client._router = build_router(settings, sidecar_url, routing_folder, options.keep_routes)
        connections = PartitionClients.from_settings(settings, options.deadline, asynchronous=cls._asynchronous)
        client._build(connections, sharded, RequestScope(user=user, location=location), emitter, user_key, options)
        return client

    def _build(
        self,
        connections: PartitionClients,
        collections: Sequence[ShardedCollection],
        request: RequestScope,
        emitter: AccessEmitter | None,
        user_key: bytes | None,
        options: ClientOptions,
    ) -> None:
        request = RequestScope(location=request.location, max_staleness=options.max_staleness).over(request)
        self._connections, self._options = connections, options
        self._key_type = next((c.key_type for c in collections), KeyType.STRING)
        self._recorder = Recorder(emitter, user_key, request, measure=options.measure_cost, clock=options.clock)
        self._default = request
        self._collections: dict[tuple[str, str], RoutedKind] = {
            (c.database, c.collection): self._routed(c) for c in collections
        }

    def _core(self, sharded: ShardedCollection) -> AsyncRoutedCollection:
        router = AsyncRouter(self._router, self._mode)
        reads = Operation.WRITE if self._options.primary_reads else Operation.READ
        doubts = Doubts(router, self._connections, sharded)
        reader = Reader(router, self._connections, sharded, doubts, reads)
        writer = FencedWriter(router, self._connections, sharded, doubts, self._options.deadline)
        made = AsyncRoutedCollection(sharded, reader, writer, self._recorder)
        made.database = self[sharded.database]
        return made

    def _routed(self, sharded: ShardedCollection) -> RoutedKind:
        raise NotImplementedError

    def __getitem__(self, database: str) -> RoutedDatabase[RoutedKind]:
        return RoutedDatabase(database, self, self._found, AsyncRouter(self._router, self._mode), self._connections)

    def __getattr__(self, database: str) -> RoutedDatabase[RoutedKind]:
        if database.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {database!r}")
        return self[database]

    get_database = __getitem__

    def append_metadata(self, driver_info: DriverInfo) -> None:
        """Tell the partitions' servers of the library that uses the client, as pymongo's client does."""
        self._connections.append_metadata(driver_info)

    def request(
        self,
        request_type: str | None = None,
        *,
        user: str | None = None,
        session: str | None = None,
        location: str | None = None,
        timestamp: datetime | None = None,
        max_staleness: float | None = None,
        own_writes: bool | None = None,
    ) -> AbstractContextManager[RequestScope]:
        """Set the fields of the access records of all operations in the block.

        Reads also prefer copies near ``location`` that are at most ``max_staleness`` seconds behind. With ``own_writes=False``
        they need not see this client's own writes.
        """
        scope = RequestScope(request_type, user, session, location, timestamp, max_staleness, own_writes)
        return self._recorder.request(scope)

    def _found(self, database: str, collection: str) -> Any:
        return self._collections.get((database, collection)) or self._unsharded(database, collection)

    def _unsharded(self, database: str, collection: str) -> Any:
        """A collection of pymongo's on the home partition. Its operations are not routed, and not recorded."""
        home = self._options.home_partition
        if home is None:
            known = ", ".join(sorted(".".join(names) for names in self._collections))
            problem = f"{database}.{collection} is not a sharded collection (known: {known})"
            raise ClientMisconfigured("FORESHARD_COLLECTIONS", problem, "add it with its key field, or name a home_partition")
        homes = self._router.homes()
        uris = {address.partition: address.uri for address in (homes[0] if homes else self._router.partitions())}
        if home not in uris:
            raise ClientMisconfigured("home_partition", f"{home} is not registered", f"use one of {', '.join(sorted(uris))}")
        return self._connections.client(uris[home])[database][collection]

    @property
    def dropped_records(self) -> int:
        """Number of access records that were lost because Kafka was down or too slow."""
        return self._recorder.dropped

    def _preference(self) -> ReadPreference:
        return self._recorder.current().preference


class RoutedClient(_Client[RoutedCollection]):
    """Sends each operation to the partition of its key. Thread-safe. Close it, or use it as a context manager."""

    _mode, _asynchronous = SYNC, False

    def route(self, key: object, op: str = "read") -> Route:
        """Return where ``key``, a value or its text, lives for a ``"read"`` or a ``"write"``, for use with plain pymongo."""
        return self._router.route(key_argument(key, self._key_type), Operation(op), self._preference())

    def start_session(
        self,
        causal_consistency: bool | None = None,
        default_transaction_options: TransactionOptions | None = None,
        snapshot: bool | None = False,
    ) -> RoutedSession:
        """Start a session, for ``session=`` of all verbs. Its transactions are for keys of one partition."""
        options = session_options(causal_consistency, default_transaction_options, snapshot)
        return RoutedSession(self, AsyncRouter(self._router, SYNC), self._connections, options)

    def flush(self, timeout: float = 10.0) -> int:
        """Wait until the access records are delivered. Return how many are not after ``timeout`` seconds."""
        return self._recorder.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Deliver the access records, then close all connections."""
        self._recorder.close(timeout)
        self._router.close()
        run(self._connections.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _routed(self, sharded: ShardedCollection) -> RoutedCollection:
        return RoutedCollection(self._core(sharded))


class AsyncRoutedClient(_Client[AsyncRoutedCollection]):
    """The asynchronous client, over pymongo's asynchronous driver. For one event loop; any number of its tasks may use it."""

    _mode, _asynchronous = ASYNC, True

    async def route(self, key: object, op: str = "read") -> Route:
        """Return where ``key``, a value or its text, lives for a ``"read"`` or a ``"write"``, for use with plain pymongo."""
        asked = key_argument(key, self._key_type)
        return await AsyncRouter(self._router, ASYNC).route(asked, Operation(op), self._preference())

    def start_session(
        self,
        causal_consistency: bool | None = None,
        default_transaction_options: TransactionOptions | None = None,
        snapshot: bool | None = False,
    ) -> AsyncRoutedSession:
        """Start a session, for ``session=`` of all verbs. Its transactions are for keys of one partition."""
        options = session_options(causal_consistency, default_transaction_options, snapshot)
        return AsyncRoutedSession(self, AsyncRouter(self._router, ASYNC), self._connections, options)

    async def flush(self, timeout: float = 10.0) -> int:
        """Wait until the access records are delivered. Return how many are not after ``timeout`` seconds."""
        return await asyncio.to_thread(self._recorder.flush, timeout)

    async def close(self, timeout: float = 5.0) -> None:
        """Deliver the access records, then close all connections."""
        await asyncio.to_thread(self._recorder.close, timeout)
        self._router.close()
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _routed(self, sharded: ShardedCollection) -> AsyncRoutedCollection:
        return self._core(sharded)
