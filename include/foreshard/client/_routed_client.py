"""The app's side of Foreshard: ``RoutedClient(...)["database"]["collection"]`` with pymongo's own verbs, and its async twin.

::

    with RoutedClient.from_settings(location="San Jose") as client:
        with client.request("checkout", user="rider 17", session="s-1"):
            client["bikeshare"]["stations"].update_one({"station": "Market at 4th"}, {"$inc": {"bikes": -1}})

    async with AsyncRoutedClient.from_settings(location="San Jose") as client:
        await client["bikeshare"]["stations"].find_one({"station": "Market at 4th"})
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from foreshard.client._async_router import AsyncRouter
from foreshard.client._collection import AsyncRoutedCollection
from foreshard.client._driving import ASYNC, SYNC, Mode, run
from foreshard.client._fences import FencedWriter
from foreshard.client._partition_clients import PartitionClients
from foreshard.client._reads import Reader
from foreshard.client._records import Recorder, RequestScope
from foreshard.client._router_settings import build_router
from foreshard.client._routes import LocalSource, Operation, ReadPreference, Route, Router, RouteSource
from foreshard.client._sync_collection import RoutedCollection
from foreshard.errors import ConfigurationError
from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from foreshard.ports.access_records import AccessEmitter
    from foreshard.settings import Settings

Collection = TypeVar("Collection", RoutedCollection, AsyncRoutedCollection)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a client behaves; times in seconds.

    ``deadline``: how long a write waits for a key that is being moved, or for a partition that does not answer.
    ``keep_routes``: how long an answer of the sidecar may be used again (0: never). ``primary_reads``: read primaries only, so
    that the app reads what it has written. ``max_staleness``: how far behind reads may be (None: the loop's limit for shadows).
    ``measure_cost``: record the milliseconds of each operation as its cost.
    """

    deadline: float = 5.0
    keep_routes: float = 0.5
    primary_reads: bool = False
    max_staleness: float | None = None
    measure_cost: bool = False
    clock: Callable[[], datetime] = field(default=_utc_now)


class _Client(Generic[Collection]):
    """What both clients are made of."""

    _mode: Mode
    _asynchronous: bool

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
        """A client made of its parts; :meth:`from_settings` is how apps make one."""
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
        """A client for the settings' collections, unless others are given.

        It routes in process from the table that the sidecar keeps in ``routing_folder`` (``routing`` in the settings' data
        folder, unless another one is given), and asks the sidecar at ``sidecar_url`` (else the settings' own) where that file
        is not there, for deletes, and after a fence's refusal.
        Raise :class:`foreshard.errors.MissingSecret` where access records are on and the key that pseudonymises users is not
        set.
        """
        from foreshard.settings import Settings

        settings = settings or Settings.load()
        sharded = tuple(collections) if collections is not None else settings.sharded_collections
        if not sharded:
            raise ConfigurationError(
                "FORESHARD_COLLECTIONS", "no sharded collection is named", "name collections and key fields"
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
        self._recorder = Recorder(emitter, user_key, request, measure=options.measure_cost, clock=options.clock)
        self._default = request
        self._collections: dict[tuple[str, str], Collection] = {
            (c.database, c.collection): self._routed(c) for c in collections
        }

    def _core(self, sharded: ShardedCollection) -> AsyncRoutedCollection:
        router = AsyncRouter(self._router, self._mode)
        reads = Operation.WRITE if self._options.primary_reads else Operation.READ
        reader = Reader(router, self._connections, sharded, reads)
        writer = FencedWriter(router, self._connections, sharded, self._options.deadline)
        return AsyncRoutedCollection(sharded, reader, writer, self._recorder)

    def _routed(self, sharded: ShardedCollection) -> Collection:
        raise NotImplementedError

    def __getitem__(self, database: str) -> RoutedDatabase[Collection]:
        return RoutedDatabase(database, self._collections)

    def request(
        self,
        request_type: str | None = None,
        *,
        user: str | None = None,
        session: str | None = None,
        location: str | None = None,
        timestamp: datetime | None = None,
        max_staleness: float | None = None,
    ) -> AbstractContextManager[RequestScope]:
        """What the access records of the operations inside say; ``location`` is also where reads are wanted near to, and
        ``max_staleness`` how many seconds they may be behind."""
        return self._recorder.request(RequestScope(request_type, user, session, location, timestamp, max_staleness))

    @property
    def dropped_records(self) -> int:
        """Access records that were lost (Kafka down for long, or faster than it takes them)."""
        return self._recorder.dropped

    def _wish(self) -> ReadPreference:
        return self._recorder.current().wish


class RoutedClient(_Client[RoutedCollection]):
    """Sends each operation to where its key lives; safe to use from several threads. Close it, or use it as a context
    manager."""

    _mode, _asynchronous = SYNC, False

    def route(self, key: str, op: str = "read") -> Route:
        """Where ``key`` lives for a ``"read"`` or a ``"write"``, for work with plain pymongo."""
        return self._router.route(key, Operation(op), self._wish())

    def flush(self, timeout: float = 10.0) -> int:
        """Wait until the access records are delivered; return how many are not after ``timeout`` seconds."""
        return self._recorder.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Deliver the access records, then close every connection."""
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
    """The same over pymongo's asynchronous driver, for one event loop; safe to use from several of its tasks."""

    _mode, _asynchronous = ASYNC, True

    async def route(self, key: str, op: str = "read") -> Route:
        """Where ``key`` lives for a ``"read"`` or a ``"write"``, for work with plain pymongo."""
        return await AsyncRouter(self._router, ASYNC).route(key, Operation(op), self._wish())

    async def flush(self, timeout: float = 10.0) -> int:
        """Wait until the access records are delivered; return how many are not after ``timeout`` seconds."""
        return await asyncio.to_thread(self._recorder.flush, timeout)

    async def close(self, timeout: float = 5.0) -> None:
        """Deliver the access records, then close every connection."""
        await asyncio.to_thread(self._recorder.close, timeout)
        self._router.close()
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _routed(self, sharded: ShardedCollection) -> AsyncRoutedCollection:
        return self._core(sharded)


class RoutedDatabase(Generic[Collection]):
    """The sharded collections of one database."""

    def __init__(self, name: str, collections: Mapping[tuple[str, str], Collection]) -> None:
        self.name = name
        self._collections: Mapping[tuple[str, str], Collection] = collections

    def __getitem__(self, collection: str) -> Collection:
        found: Any = self._collections.get((self.name, collection))
        if found is None:
            known = ", ".join(sorted(f"{database}.{name}" for database, name in self._collections))
            problem = f"{self.name}.{collection} is no sharded collection (known: {known})"
            raise ConfigurationError("FORESHARD_COLLECTIONS", problem, "add it with its key field, or use pymongo for it")
        routed: Collection = found
        return routed
