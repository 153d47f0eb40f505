"""Ten thousand idle connections, and clients that never read: their cost, and their effect on other clients."""

from __future__ import annotations

import http.client
import random
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.benchmarks.sidecar_load import quantile
from tests.benchmarks.sidecar_servers import Server, key_of, sidecar

from foreshard.sidecar.serve import raise_file_limit

DEAF = 50
FLOOD = b"GET /v1/partitions HTTP/1.1\r\nhost: x\r\n\r\n" * 20_000


def crowd(folder: Path, keys: int, idle: int = 10_000) -> dict[str, Any]:
    """Waits of one client: alone, beside the idle connections, and beside clients that send without reading."""
    raise_file_limit()
    figures: dict[str, Any] = {"idle connections": idle, "clients that never read": DEAF}
    with sidecar(folder) as server, ExitStack() as open_ones:
        figures |= _state("alone", server, keys)
        for _ in range(idle):
            open_ones.enter_context(closing(socket.create_connection(("127.0.0.1", server.port))))
        figures |= _state("beside the idle", server, keys)
        for _ in range(DEAF):
            deaf = open_ones.enter_context(closing(socket.create_connection(("127.0.0.1", server.port))))
            deaf.setblocking(False)
            _send_what_goes(deaf)
        time.sleep(1.0)
        figures |= _state("beside those that never read, too", server, keys)
    return figures


def _send_what_goes(deaf: socket.socket) -> None:
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        try:
            deaf.send(FLOOD)
        except BlockingIOError:
            time.sleep(0.005)


def _state(name: str, server: Server, keys: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    waits = []
    for _ in range(3_000):
        begun = time.perf_counter()
        connection.request("GET", f"/v1/route/{key_of(random.randrange(keys))}")
        connection.getresponse().read()
        waits.append(time.perf_counter() - begun)
    connection.close()
    return {
        f"memory (MB), {name}": server.memory(),
        f"p50 (ms), {name}": quantile(waits, 0.5) * 1e3,
        f"p99 (ms), {name}": quantile(waits, 0.99) * 1e3,
    }
