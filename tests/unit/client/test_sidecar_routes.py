"""The sidecar's protocol over a real socket: keep-alive, replaced connections, invalid answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from foreshard.client.routing.build import build_router
from foreshard.client.routing.routes import ANYWHERE, Operation, ReadPreference
from foreshard.client.routing.sidecar_routes import SidecarRoutes
from foreshard.errors import ConfigurationError, RouteRefused, Unreachable

GOOD = {
    "key": "k", "partition": "alpha", "location": "Here", "role": "primary", "epoch": 3, "table_version": 9,
    "reason": "only_copy", "uri": "mongodb://alpha",
}  # fmt: skip


class Script:
    def __init__(self) -> None:
        self.status, self.body, self.close, self.requests, self.connections = 200, json.dumps(GOOD).encode(), False, [], 0
        self.tokens: list[str | None] = []


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            script.connections += 1
            super().setup()

        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            script.requests.append((self.command, self.path, content))
            script.tokens.append(self.headers.get("Authorization"))
            self.send_response(script.status)
            self.send_header("Content-Length", str(len(script.body)))
            self.end_headers()
            self.wfile.write(script.body)
            self.close_connection = script.close  # without a connection: close header

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def routes(url) -> Iterator[SidecarRoutes]:
    made = SidecarRoutes(url, timeout=2.0)
    yield made
    made.close()


def test_one_connection_serves_many_requests(routes, script) -> None:
    for _ in range(5):
        assert routes.route("k", Operation.READ, ReadPreference("San José", 1.5)).partition == "alpha"
    assert script.connections == 1
    assert script.requests[0][:2] == ("GET", "/v1/route/k?op=read&from=San%20Jos%C3%A9&max_staleness_ms=1500")


def test_a_connection_that_the_sidecar_closed_is_replaced(routes, script) -> None:
    script.close = True
    for _ in range(3):
        routes.route("k", Operation.WRITE, ANYWHERE)
    assert script.connections == 3


def test_keys_are_percent_encoded(routes, script) -> None:
    script.body = json.dumps({**GOOD, "key": "a/b?c=d&é"}).encode()
    routes.route("a/b?c=d&é", Operation.WRITE, ANYWHERE)
    assert script.requests[0][1] == "/v1/route/a%2Fb%3Fc%3Dd%26%C3%A9?op=write"


def test_many_keys_are_requested_at_once(routes, script) -> None:
    script.body = json.dumps({"routes": [GOOD, {**GOOD, "key": "m"}]}).encode()
    found = routes.routes(["k", "m"], Operation.READ, ReadPreference("Here", 0.0))
    assert list(found) == ["k", "m"]
    assert json.loads(script.requests[0][2]) == {"keys": ["k", "m"], "op": "read", "from": "Here", "max_staleness_ms": 0.0}


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b"{}", json.dumps({**GOOD, "epoch": "x"}).encode(), json.dumps({**GOOD, "key": "x"}).encode()]
)
def test_an_invalid_answer_is_an_error(routes, script, body) -> None:
    script.body = body
    with pytest.raises(Unreachable):
        routes.route("k", Operation.READ, ANYWHERE)


def test_a_refused_key_and_an_unavailable_sidecar_are_different_errors(routes, script) -> None:
    script.status, script.body = 400, json.dumps({"title": "bad", "detail": "the key is too long"}).encode()
    with pytest.raises(RouteRefused, match="the key is too long"):
        routes.route("k", Operation.READ, ANYWHERE)
    script.status, script.body = 503, json.dumps({"detail": "no table yet"}).encode()
    with pytest.raises(Unreachable, match="no table yet"):
        routes.route("k", Operation.READ, ANYWHERE)
    with pytest.raises(Unreachable, match="could not refresh"):
        routes.refresh()
    with pytest.raises(Unreachable):
        routes.partitions()


def test_partitions_are_read_with_their_addresses(routes, script) -> None:
    script.body = json.dumps({"partitions": [{"partition": "alpha", "location": "Here", "uri": "mongodb://alpha"}]}).encode()
    assert [(p.partition, p.uri) for p in routes.partitions()] == [("alpha", "mongodb://alpha")]


def test_the_error_for_a_sidecar_that_is_down_says_what_to_do() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unreachable, match=f"sidecar at http://127.0.0.1:{port} does not answer; start it"):
        SidecarRoutes(f"http://127.0.0.1:{port}").route("k", Operation.READ, ANYWHERE)


def test_a_key_that_is_not_valid_unicode_is_refused_without_a_request() -> None:
    with pytest.raises(RouteRefused, match="valid Unicode"):
        SidecarRoutes("http://127.0.0.1:1").route("\ud800", Operation.READ, ANYWHERE)


@pytest.mark.parametrize("url", ["127.0.0.1:7788", "ftp://x", "http://"])
def test_an_invalid_address_is_refused_at_once(url) -> None:
    with pytest.raises(ConfigurationError, match="sidecar_url"):
        SidecarRoutes(url)


def test_an_ipv6_address_works_from_the_settings_to_the_socket(monkeypatch, tmp_path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"age_seconds": 2.5}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    with Server(("::1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("FORESHARD_SIDECAR__HOST", "::1")
        monkeypatch.setenv("FORESHARD_SIDECAR__PORT", str(server.server_port))
        router = build_router(routing_folder=tmp_path)
        assert router.age() == 2.5
        router.close()
        server.shutdown()
    with pytest.raises(Unreachable, match=r"http://\[::1\]:"):
        SidecarRoutes(f"http://[::1]:{server.server_port}").age()


def test_the_sidecars_token_is_sent_with_every_request_and_is_in_no_error(script, url, monkeypatch) -> None:
    monkeypatch.setenv("FORESHARD_SIDECAR__TOKEN", "t0ken-of-16-signs")
    router = build_router(sidecar_url=url)
    assert router.route("k", Operation.WRITE, ANYWHERE, fresh=True).partition == "alpha"
    assert script.tokens
    assert set(script.tokens) == {"Bearer t0ken-of-16-signs"}
    script.status, script.body = 401, b"{}"
    with pytest.raises(ConfigurationError, match="FORESHARD_SIDECAR__TOKEN") as refused:
        router.route("k", Operation.WRITE, ANYWHERE, fresh=True)
    assert "t0ken" not in str(refused.value)
    router.close()


def test_without_a_token_none_is_sent(script, url) -> None:
    routes = SidecarRoutes(url)
    routes.route("k", Operation.WRITE, ANYWHERE)
    routes.close()
    assert script.tokens == [None]
