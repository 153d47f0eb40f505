"""The sidecar as a process: HTTP, signals, restarts without the database; and the commands that use it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from tests.slots import slot_map

from foreshard.cli.group import cli
from foreshard.model import Location, Partition, Placement, PlacementChange, RoutingTable
from foreshard.model.key_space import slot_unit
from foreshard.stack._process import free_port
from foreshard.stores.control.registry import MongoPartitionRegistry
from foreshard.stores.control.routing.store import MongoRoutingStore

RULE = slot_map(("alpha", "beta"), (1.0, 1.0))
NOWHERE = "mongodb://127.0.0.1:1/?directConnection=true"


@pytest.fixture
def environment(mongods, unique_name, work_folder) -> dict[str, str]:
    return {
        "FORESHARD_CONTROL_URI": mongods[0].uri,
        "FORESHARD_CONTROL_DATABASE": unique_name,
        "FORESHARD_DATA_DIR": str(work_folder),
    }


@pytest.fixture
def published(control, unique_name) -> MongoRoutingStore:
    """A registry and a first table."""
    places = [Location("here", 0, 0), Location("there", 10, 10)]
    found = [Partition("alpha", "here", 10, "mongodb://u:pa55@alpha/"), Partition("beta", "there", 10, "mongodb://beta/")]
    MongoPartitionRegistry(control[unique_name]).register(found, places)
    store = MongoRoutingStore(control[unique_name])
    placements = {"k/1": Placement("k/1", "alpha"), "hot": Placement("hot", "alpha", ("beta",), 2)}
    store.initialise(RoutingTable(1, placements, RULE, datetime(2025, 1, 1, tzinfo=UTC)))
    return store


@contextmanager
def running(environment: dict[str, str], *options: str, verify: Any = True) -> Iterator[httpx.Client]:
    """A sidecar process, once it is ready. ``verify``: what checks its certificate, if it has one."""
    port = free_port()
    command = [sys.executable, "-c", "from foreshard.cli.main import main; main()", "sidecar", "--port", str(port), *options]
    process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
    try:
        scheme = "http" if verify is True else "https"
        with httpx.Client(base_url=f"{scheme}://127.0.0.1:{port}", timeout=10, verify=verify) as http:
            deadline = time.monotonic() + 30
            while not ready(http):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield http
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) in (0, -signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stderr.close()


def ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_sidecar_answers_refreshes_acknowledges_and_stops_on_a_signal(environment, published):
    with running(environment) as http:
        assert http.get("/v1/route/k%2F1?op=write&from=here").json()["partition"] == "alpha"
        published.publish([PlacementChange("k/1", "beta", (), 1, 2)], "move")
        assert http.post("/v1/refresh").json() == {"table_version": 2}
        assert http.get("/v1/route/k%2F1?op=write&from=here").json()["partition"] == "beta"
        assert "pa55" not in http.get("/v1/partitions").text
        assert http.post("/v1/routes", json={"keys": ["k/1", "hot"]}).json()["table_version"] == 2
        recently = datetime.now(UTC) - timedelta(minutes=1)
        deadline = time.monotonic() + 10
        while published.acknowledged(2, heard_since=recently) != (1, 1):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "foreshard_sidecar_connected 1.0" in http.get("/metrics").text
    assert published.acknowledged(0, heard_since=recently) == (0, 0)


def test_a_sidecar_with_a_token_answers_those_who_have_it(environment, published):
    token = {"FORESHARD_SIDECAR__TOKEN": "t0ken-of-16-signs"}
    with running(environment | token, "--workers", "2") as http:
        for path in ("/v1/table", "/v1/route/hot", "/v1/partitions", "/metrics", "/openapi.json"):
            assert http.get(path).status_code == 401
            assert http.get(path, headers={"Authorization": "Bearer t0ken-of-16-signs"}).status_code == 200
        ask = ["route", "hot", "--op", "write", "--json", "--url", str(http.base_url)]
        assert '"partition": "alpha"' in CliRunner().invoke(cli, ask, env=environment | token).output
        refused = CliRunner().invoke(cli, ask, env=environment)
        assert "Authorization: Bearer" in str(refused.exception)
    weak = CliRunner().invoke(cli, ["sidecar"], env=environment | {"FORESHARD_SIDECAR__TOKEN": "two words, 16 signs"})
    assert "openssl rand -hex 32" in str(weak.exception) + weak.output
    assert "two words" not in str(weak.exception) + weak.output


def test_a_restarted_sidecar_answers_without_the_database_and_refuses_a_refresh(environment, published):
    with running(environment):
        pass
    with running(environment | {"FORESHARD_CONTROL_URI": NOWHERE}) as http:
        assert http.get("/v1/route/hot?op=write").json()["epoch"] == 2
        table = http.get("/v1/table").json()
        assert (table["version"], table["source"], table["connected"]) == (1, "file", False)
        refused = http.post("/v1/refresh")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:foreshard:problem:refresh-failed")
        assert http.get("/healthz").status_code == 200


def test_bytes_that_are_not_http_are_refused_and_other_clients_are_served(environment, published):
    with running(environment) as http:
        port = http.base_url.port
        for bad in (b"GET /v1/route/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01 nonsense\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 5) as raw:
                raw.sendall(bad)
                assert raw.recv(100).startswith(b"HTTP/1.1 400")
        with socket.create_connection(("127.0.0.1", port), 5) as silent:
            silent.sendall(b"GET /v1/route/hot HT")
            assert http.get("/v1/route/hot").status_code == 200
        with socket.create_connection(("127.0.0.1", port), 5) as raw:
            raw.sendall(b"GET /v1/route/hot HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
            received = b""
            while received.count(b"HTTP/1.1 200 OK") < 20:
                part = raw.recv(65536)
                assert part
                received += part


def test_a_port_in_use_is_reported_in_one_line_without_a_traceback(environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-c", "from foreshard.cli.main import main; main()", "sidecar", "--port", str(port)]
        run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stderr.strip() == (
        f"foreshard: port {port} for sidecar is in use; stop the process that listens there or choose another port"
    )


def run(environment: dict[str, str], *arguments: str):
    return CliRunner().invoke(cli, arguments, env=environment | {"COLUMNS": "200"})


def test_route_explains_the_decision_step_by_step(environment, published):
    with running(environment) as http:
        url = str(http.base_url)
        done = run(environment, "route", "hot", "--op", "read", "--from", "there", "--url", url)
        assert done.exit_code == 0, done.output
        assert "1. table version 1: 'hot': listed → alpha (epoch 2)" in done.output
        assert "2. primary copy on alpha, shadows on beta" in done.output
        assert "[nearer_stale]" in done.output
        assert "5. send the read to alpha (primary, here) at mongodb://alpha/" in done.output
        assert "how far behind is unknown" in done.output
        assert all(name in done.output for name in ("km", "round trip (ms)", "behind (s)", "load", "cost (ms)", "verdict"))
        unlisted = run(environment, "route", "nobody/knows", "--op", "write", "--url", url)
        assert (
            f"slot {published.space().slot_of('nobody/knows')} → {published.placement('nobody/knows').primary}"
            in unlisted.output
        )
        refused = run(environment, "route", "x" * 5000, "--url", url)
        assert "was refused with status 400" in str(refused.exception)
    gone = run(environment, "route", "hot", "--url", url)
    assert "does not answer; start it" in str(gone.exception)


def test_table_shows_versions_differences_and_the_steps_of_a_rollback(environment, published):
    published.publish([PlacementChange("k/1", "beta", (), 1, 2), PlacementChange("new", "beta", ("alpha",), 0, 1)], "cause 2")
    published.publish([PlacementChange("hot", "alpha", (), 2, 3)], "cause 3")
    published.publish([PlacementChange(slot_unit(811), "beta", (), 1, 2)], "cause 4")
    shown = run(environment, "table", "show", "--key", "hot", "--key", "unknown")
    assert "version 4" in shown.output
    assert f"slot {published.space().slot_of('unknown')}" in shown.output
    assert all(cause in run(environment, "table", "versions").output for cause in ("cause 2", "cause 3", "first table"))
    difference = run(environment, "table", "diff", "1").output
    assert "alpha + beta (epoch 2)" in difference
    assert "beta + alpha (epoch 1)" in difference
    assert "hot" not in run(environment, "table", "diff", "1", "2").output
    back = run(environment, "table", "rollback", "1", "--dry-run").output
    assert "move 'k/1' from beta to alpha" in back
    assert "shadow of 'hot' on beta (primary on alpha)" in back
    assert "remove shadow of 'new' on alpha" in back
    assert published.version() == 4
    assert "--dry-run" in run(environment, "table", "rollback", "1").output
    assert "choose one from 1 to 4" in str(run(environment, "table", "diff", "9").exception)


def test_an_empty_database_is_reported_in_one_line(environment, monkeypatch):
    assert "publish one with foreshard table init" in str(run(environment, "table", "show").exception)
    monkeypatch.setattr("foreshard.stores.mongo_connections.SERVER_SELECTION_MS", 200)
    down = run(environment | {"FORESHARD_CONTROL_URI": NOWHERE}, "table", "show")
    assert "control database at 127.0.0.1:1 does not answer" in str(down.exception)
