"""The app's side of Foreshard: ``RoutedClient(...)["database"]["collection"]`` with pymongo's own verbs.

::

    with RoutedClient.from_settings(settings, location="San Jose") as client:
        with client.request("checkout", user="rider 17", session="s-1"):
            client["bikeshare"]["stations"].update_one({"station": "Market at 4th"}, {"$inc": {"bikes": -1}})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from foreshard.client.collection import RoutedCollection
from foreshard.client.connections import Connections
from foreshard.client.fences import FencedWriter
from foreshard.client.reads import Reader
from foreshard.client.records import Recorder, Request
from foreshard.client.routes import Router, RouteSource
from foreshard.client.sidecar_routes import SidecarRoutes
from foreshard.errors import ConfigurationError
from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from foreshard.ports.access_records import AccessEmitter
    from foreshard.settings import Settings


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a client behaves; times in seconds.

    ``deadline``: how long a write waits for a key that is being moved. ``keep_routes``: how long an answer of the sidecar may
    be used again (0: never). ``primary_reads``: read primaries only, so that the app reads what it has written.
    ``measure_cost``: record the milliseconds of each operation as its cost.
    """

    deadline: float = 5.0
    keep_routes: float = 0.5
    primary_reads: bool = False
    measure_cost: bool = False
    clock: Callable[[], datetime] = field(default=_utc_now)


class RoutedClient:
    """Sends each operation to where its key lives; safe to use from several threads. Close it, or use it as a context
    manager."""

    def __init__(
        self,
        routes: RouteSource,
        connections: Connections,
        collections: Sequence[ShardedCollection],
        *,
        request: Request = Request(),  # noqa: B008 (frozen)
        emitter: AccessEmitter | None = None,
        user_key: bytes | None = None,
        options: ClientOptions = ClientOptions(),
    ) -> None:
        """A client made of its parts; :meth:`from_settings` is how apps make one."""
        self._router = Router(routes, options.keep_routes)
        self._connections = connections
        self._recorder = Recorder(emitter, user_key, request, measure=options.measure_cost, clock=options.clock)
        self._options = options
        self._collections = {(c.database, c.collection): self._routed(c) for c in collections}

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
    ) -> RoutedClient:
        """A client of the sidecar at ``sidecar_url`` (else the settings' own) for the settings' collections, unless others
        are given.

        ``routing_folder``: where the sidecar keeps its last-known-good table, to route from in process while the sidecar is
        down (without it, operations fail with :class:`foreshard.errors.Unreachable`).
        Raise :class:`foreshard.errors.MissingSecret` where access records are on and the key that pseudonymises users is not
        set.
        """
        from foreshard.adapters.mongo import MongoConnections
        from foreshard.settings import Settings

        settings = settings or Settings.load()
        sharded = tuple(collections) if collections is not None else settings.sharded_collections
        if not sharded:
            raise ConfigurationError(
                "FORESHARD_COLLECTIONS", "no sharded collection is named", "name collections and key fields"
            )
        mongo = MongoConnections(settings)
        user_key = settings.require_user_key() if access_records else None
        emitter: AccessEmitter | None = None
        if access_records:
            from foreshard.adapters.kafka_access_emitter import KafkaAccessEmitter

            emitter = KafkaAccessEmitter(settings.kafka_bootstrap, settings.access_topic)
        url = sidecar_url or f"http://{settings.sidecar.host}:{settings.sidecar.port}"
        return cls(
            _routes(url, routing_folder),
            Connections(mongo.client, mongo.close),
            sharded,
            request=Request(user=user, location=location),
            emitter=emitter,
            user_key=user_key,
            options=options,
        )

    def __getitem__(self, database: str) -> RoutedDatabase:
        return RoutedDatabase(database, self._collections)

    def request(
        self,
        request_type: str | None = None,
        *,
        user: str | None = None,
        session: str | None = None,
        location: str | None = None,
        timestamp: datetime | None = None,
    ) -> AbstractContextManager[Request]:
        """What the access records of the operations inside say; ``location`` is also where reads are wanted near to."""
        return self._recorder.request(Request(request_type, user, session, location, timestamp))

    @property
    def dropped_records(self) -> int:
        """Access records that were lost (Kafka down for long, or faster than it takes them)."""
        return self._recorder.dropped

    def flush(self, timeout: float = 10.0) -> int:
        """Wait until the access records are delivered; return how many are not after ``timeout`` seconds."""
        return self._recorder.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Deliver the access records, then close every connection."""
        self._recorder.close(timeout)
        self._router.close()
        self._connections.close()

    def __enter__(self) -> RoutedClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _routed(self, sharded: ShardedCollection) -> RoutedCollection:
        reader = Reader(self._router, self._connections, sharded, self._options.primary_reads)
        writer = FencedWriter(self._router, self._connections, sharded, self._options.deadline)
        return RoutedCollection(sharded, reader, writer, self._recorder)


class RoutedDatabase:
    """The sharded collections of one database."""

    def __init__(self, name: str, collections: dict[tuple[str, str], RoutedCollection]) -> None:
        self.name, self._collections = name, collections

    def __getitem__(self, collection: str) -> RoutedCollection:
        found = self._collections.get((self.name, collection))
        if found is None:
            known = ", ".join(sorted(f"{database}.{name}" for database, name in self._collections))
            problem = f"{self.name}.{collection} is no sharded collection (known: {known})"
            raise ConfigurationError("FORESHARD_COLLECTIONS", problem, "add it with its key field, or use pymongo for it")
        return found


def _routes(url: str, folder: Path | None) -> RouteSource:
    sidecar = SidecarRoutes(url)
    if folder is None:
        return sidecar
    from foreshard.client.file_routes import FallbackRoutes, FileRoutes

    return FallbackRoutes(sidecar, FileRoutes(folder))
