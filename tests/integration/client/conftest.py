"""A sidecar's protocol in thirty lines, over a table that the test changes, and routed clients with real partitions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from pymongo import AsyncMongoClient, MongoClient
from tests.integration.client import sidecar_process
from tests.integration.client.looped import Loop, Looped, LoopedSession, collect_cancelled_sockets

from foreshard.client._partition_clients import PartitionClients
from foreshard.client._routed_client import AsyncRoutedClient, ClientOptions, RoutedClient
from foreshard.client.routing.sidecar_routes import SidecarRoutes
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeySpace
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.partition.fences.fence import MongoFence

FENCE_TIMEOUT = timedelta(seconds=5)

settings, store, sidecar_control, sidecar = (
    sidecar_process.settings, sidecar_process.store, sidecar_process.sidecar_control, sidecar_process.sidecar
)  # fmt: skip
DEFAULTS = ClientOptions(deadline=2.0)
PATIENCE = {"tz_aware": True, "w": "majority", "serverSelectionTimeoutMS": 300}


@dataclass
class Answerer:
    """Answers from ``answered``; ``POST /v1/refresh`` copies ``published`` into it."""

    uris: dict[str, str]
    default: str = "alpha"
    published: dict[str, tuple[str, int]] = field(default_factory=dict)
    answered: dict[str, tuple[str, int]] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    version: int = 1
    refreshes: int = 0
    age: float = 0.0
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def place(self, key: str, partition: str) -> None:
        """Publish a key's partition, and answer it at once."""
        self.publish(key, partition)
        self.answered = dict(self.published)

    def publish(self, key: str, partition: str) -> None:
        """Publish a key's partition. It is answered after a refresh."""
        epoch = self.published.get(key, ("", 0))[1] + 1
        self.version += 1
        self.published[key] = (partition, epoch)

    def route(self, key: str, operation: str) -> dict[str, object]:
        partition, epoch = self.answered.get(key, (self.default, 0))
        role = "primary"
        if operation == "read" and key in self.reads:
            partition, role = self.reads[key], "shadow"
        return {
            "key": key, "partition": partition, "location": partition, "role": role, "epoch": epoch,
            "table_version": self.version, "reason": "test", "uri": self.uris[partition],
        }  # fmt: skip


def handler_of(answerer: Answerer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            answerer.asked.append(self.path)
            if parts.path == "/v1/table":
                self.answer(200, {"version": answerer.version, "age_seconds": answerer.age})
            elif parts.path == "/v1/partitions":
                rows = [{"partition": name, "location": name, "uri": uri} for name, uri in answerer.uris.items()]
                self.answer(200, {"partitions": rows})
            else:
                key = unquote(parts.path.removeprefix("/v1/route/"))
                if key == "refused":
                    self.answer(400, {"detail": "a key that no table can hold"})
                    return
                self.answer(200, answerer.route(key, parse_qs(parts.query)["op"][0]))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/v1/routes":
                answerer.asked.append(self.path)
                question = json.loads(body)
                if "refused" in question["keys"]:
                    self.answer(400, {"detail": "a key that no table can hold"})
                    return
                self.answer(200, {"routes": [answerer.route(key, question["op"]) for key in question["keys"]]})
                return
            answerer.refreshes += 1
            if answerer.age:
                self.answer(503, {"detail": "cut off from the control database"})
                return
            answerer.answered = dict(answerer.published)
            self.answer(200, {"version": answerer.version})

        def answer(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def answerer(partition_clients: dict[str, MongoClient]) -> Iterator[Answerer]:
    uris = {name: f"mongodb://{c.address[0]}:{c.address[1]}/?directConnection=true" for name, c in partition_clients.items()}
    made = Answerer(uris)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(made))
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def sharded(unique_name: str) -> ShardedCollection:
    return ShardedCollection(unique_name, "things", "station")


@pytest.fixture
def make_client(answerer: Answerer, sharded: ShardedCollection) -> Iterator[Callable[..., RoutedClient]]:
    """Builds routed clients of the answerer, whose URIs lead to real mongods."""
    made: list[RoutedClient] = []

    def make(options: ClientOptions = DEFAULTS, **parts: object) -> RoutedClient:
        connections = PartitionClients(lambda uri: MongoClient(uri, **PATIENCE))
        made.append(RoutedClient(SidecarRoutes(answerer.url), connections, [sharded], options=options, **parts))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., RoutedClient]) -> RoutedClient:
    return make_client()


@pytest.fixture(params=["sync", "async"])
def make_things(request, make_client, answerer: Answerer, sharded: ShardedCollection) -> Iterator[Callable[..., object]]:
    """Builds routed collections: once with the synchronous client, once with the asynchronous one.

    They have ``start_session`` of their client.
    """
    if request.param == "sync":

        def made_by_sync(options: ClientOptions = DEFAULTS) -> object:
            client = make_client(options)
            things = client[sharded.database][sharded.collection]
            things.start_session = client.start_session
            return things

        yield made_by_sync
        return
    loop, made = Loop(), []

    def make(options: ClientOptions = DEFAULTS) -> Looped:
        connections = PartitionClients(lambda uri: AsyncMongoClient(uri, **PATIENCE))
        made.append(AsyncRoutedClient(SidecarRoutes(answerer.url), connections, [sharded], options=options))
        things = Looped(made[-1][sharded.database][sharded.collection], loop)
        things.start_session = lambda **given: LoopedSession(made[-1].start_session(**given), loop)
        return things

    yield make
    for client in made:
        loop.run(client.close())
    loop.close()


@pytest.fixture
def things(make_things: Callable[..., object]) -> object:
    """The routed collection."""
    return make_things()


@pytest.fixture
def stand(partition_clients: dict[str, MongoClient], sharded: ShardedCollection):
    """The plain collection on a partition."""
    return {name: c[sharded.database][sharded.collection] for name, c in partition_clients.items()}


def no_fence() -> FenceLists:
    """What a table prescribes that is not there."""
    return FenceLists(KeySpace())


@pytest.fixture
def fences(partition_clients: dict[str, MongoClient], sharded: ShardedCollection) -> Iterator[dict[str, MongoFence]]:
    made = {name: MongoFence(c, sharded, expected=no_fence, timeout=FENCE_TIMEOUT) for name, c in partition_clients.items()}
    yield made
    for c in partition_clients.values():
        c["foreshard"]["fences"].delete_one({"_id": sharded.namespace})


@pytest.fixture
def move(answerer: Answerer, stand, fences) -> Callable[[str, str, str], None]:
    """A simplified move: fence the source, copy, remove the target's fence, publish. Late deletes are not forwarded."""

    def run(key: str, source: str, target: str) -> None:
        fences[source].fence([key])
        stand[target].with_options().delete_many({"station": key})
        documents = list(stand[source].find({"station": key}))
        if documents:
            stand[target].insert_many(documents, bypass_document_validation=True)
        fences[target].unfence([key])
        answerer.publish(key, target)

    return run


@pytest.fixture(autouse=True, scope="module")
def cancelled_sockets_stay_here() -> Iterator[None]:
    """Collect the sockets that asynchronous clients leave open, before other tests run."""
    yield
    collect_cancelled_sockets()
