"""A sidecar with several workers, and its Unix socket: one table, common figures, replaced workers."""

from __future__ import annotations

import asyncio
import http.client as http_client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from tests.integration.test_sidecar_process import environment, published, running  # noqa: F401 - fixtures
from tests.unit.sidecar.conversation import read_answers, request

from foreshard.model import PlacementChange

WORKERS = 3


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def figure(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def children(port: int) -> list[int]:
    """The worker processes of the sidecar that listens at ``port``."""
    marks = (b"sidecar", str(port).encode())
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if all(mark in words for mark in marks):
            found.append((int(folder.name), parent))
    pids = {pid for pid, _ in found}
    return [pid for pid, parent in found if parent in pids]


def start_another(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:  # noqa: F811
    """Start a sidecar whose address is in use."""
    command = [sys.executable, "-c", "from foreshard.cli.main import main; main()", "sidecar", *options]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def shared(environment, published) -> Iterator[httpx.Client]:  # noqa: F811
    with running(environment, "--workers", str(WORKERS)) as http:
        until(lambda: figure(http, "foreshard_sidecar_workers") == WORKERS)
        yield http


def ask_often(http: httpx.Client, times: int) -> set[str]:
    """Ask over a new connection each time; return the table versions of the answers."""

    def once(_: int) -> str:
        connection = http_client.HTTPConnection("127.0.0.1", http.base_url.port, timeout=10)
        connection.request("GET", "/v1/route/k%2F1?op=write")
        version = json.loads(connection.getresponse().read())["table_version"]
        connection.close()
        return str(version)

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(once, range(times)))


def test_workers_follow_the_table_together_and_show_their_figures_as_one(shared, published):  # noqa: F811
    ask_often(shared, 60)
    until(lambda: figure(shared, 'foreshard_sidecar_requests_total{op="write"') == 60)
    published.publish([PlacementChange("k/1", "beta", (), 1, 2)], "move")
    recently = datetime.now(UTC) - timedelta(minutes=1)
    until(lambda: published.acknowledged(2, heard_since=recently) == (WORKERS, WORKERS))
    assert ask_often(shared, 30) == {"2"}
    until(lambda: figure(shared, "foreshard_sidecar_table_version") == 2)


def test_a_worker_that_dies_is_replaced_and_its_counters_continue(shared):
    ask_often(shared, 40)
    until(lambda: figure(shared, 'foreshard_sidecar_requests_total{op="write"') == 40)
    time.sleep(1.0)
    before = children(shared.base_url.port)
    assert len(before) == WORKERS
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(children(shared.base_url.port)) == WORKERS and before[0] not in children(shared.base_url.port))
    until(lambda: ask_often(shared, 30) == {"1"})
    until(lambda: figure(shared, 'foreshard_sidecar_requests_total{op="write"') >= 70)


def test_requests_wait_while_the_only_worker_is_replaced(environment, published):  # noqa: F811
    with running(environment) as http:
        (worker,) = children(http.base_url.port)
        os.kill(worker, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2])
        assert ask_often(http, 3) == {"1"}
        assert worker not in children(http.base_url.port)


def test_a_unix_socket_answers_like_the_port_and_is_removed_afterwards(environment, published, tmp_path):  # noqa: F811
    path = tmp_path / "sidecar.sock"
    with running(environment, "--workers", "2", "--socket", str(path)) as http:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://sidecar") as local:
            asked = "/v1/route/hot?op=write"
            assert local.get(asked).json() == http.get(asked).json()
        second = start_another(environment, "--port", "0", "--socket", str(path))
        assert second.returncode == 1
        assert f"another process listens at {path}" in second.stderr
    assert not path.exists()
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    with running(environment, "--socket", str(path)):
        assert path.is_socket()


def test_a_port_in_use_is_noticed_with_several_workers_too(environment, published):  # noqa: F811
    with running(environment, "--workers", "2") as http:
        port = str(http.base_url.port)
        second = start_another(environment, "--port", port, "--workers", "2")
    assert second.returncode == 1
    assert f"port {port} for sidecar is in use" in second.stderr


def test_idle_and_silent_connections_do_not_delay_other_connections(environment, published):  # noqa: F811
    async def crowd(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        deaf = [await asyncio.open_connection("127.0.0.1", port, limit=1024) for _ in range(5)]
        for _, writer in deaf:
            writer.write(request("GET", "/v1/partitions") * 20_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/v1/route/hot") * 200 + request("GET", "/healthz", None, "connection: close"))
        answers = read_answers(await asyncio.wait_for(reader.read(), 20))
        assert [a.status for a in answers] == [200] * 201
        for _, each in ((reader, writer), *idle, *deaf):
            each.transport.abort()
        await asyncio.sleep(0.05)

    with running(environment) as http:
        asyncio.run(crowd(http.base_url.port))
        assert http.get("/readyz").status_code == 200


def test_a_hangup_reloads_the_table_and_ends_no_worker(shared):
    port = shared.base_url.port
    before = sorted(children(port))
    parent = int(Path(f"/proc/{before[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
    for process in (parent, before[0]):
        os.kill(process, signal.SIGHUP)
    time.sleep(1.0)
    assert sorted(children(port)) == before
    assert shared.get("/readyz").status_code == 200
