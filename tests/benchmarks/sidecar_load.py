"""Loads for the servers: wrk as fast as it can; h2load at a given rate; and a low rate whatever the answers (open loop)."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import uvloop
from tests.benchmarks.sidecar_servers import Server, key_of, program

CONNECTIONS = 32
CLIENT_CORE = 1
MANY = 128
TICK = 0.0002
SCRIPT = """
local made, at = {{}}, 0
init = function(args)
  math.randomseed({seed})
  for i = 1, 200000 do made[i] = wrk.format("GET", string.format("/v1/route/key-%07d?op=read", math.random(0, {last}))) end
end
request = function() at = at % 200000 + 1; return made[at] end
"""


def lookups_per_cpu_second(server: Server, keys: int, seconds: float, seed: int) -> float:
    """wrk on its own core; answers by the processor time that the server took meanwhile."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(seed=seed, last=keys - 1))
        script.flush()
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", script.name]
        command = ["taskset", "-c", str(CLIENT_CORE), program("wrk"), *options, f"http://127.0.0.1:{server.port}/"]
        before = server.cpu_seconds()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        used = server.cpu_seconds() - before
    found = re.search(r"(\d+) requests in", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{server.name} answered wrongly:\n{output}")
    return int(found[1]) / used


def waits_at(server: Server, rate: float, seconds: int, keys: int) -> list[float]:
    """Seconds that each request took which h2load sent at ``rate``/s over ``MANY`` connections, on the client's core.

    A connection sends its next request when it is due, or as soon as the one before is answered; with so many connections
    requests of one are so far apart that one answer holds up the next request only where it took that long.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, log = Path(folder) / "asked", Path(folder) / "log"
        url = f"http://127.0.0.1:{server.port}/v1/route/"
        asked.write_text("".join(f"{url}{key_of(random.randrange(keys))}?op=read\n" for _ in range(20_000)))
        options = ["--h1", f"-c{MANY}", "-t1", f"-D{seconds}", f"--rps={rate / MANY}", f"--log-file={log}", "-i", str(asked)]
        command = ["taskset", "-c", str(CLIENT_CORE), program("h2load"), *options]
        subprocess.run(command, check=True, capture_output=True)
        rows = [line.split("\t") for line in log.read_text().splitlines()]
    if not rows or any(row[1] != "200" for row in rows):
        raise SystemExit(f"{server.name} answered wrongly")
    return [int(row[2]) / 1e6 for row in rows]


class _Client(asyncio.Protocol):
    """One connection; ``due`` are the moments at which its unanswered requests were due."""

    def __init__(self, waits: list[tuple[float, float]]) -> None:
        self.due: deque[float] = deque()
        self._waits = waits
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        for _ in range(data.count(b"HTTP/1.1 200")):
            due = self.due.popleft()
            self._waits.append((due, now - due))


async def _open_loop(port: int, rate: float, seconds: float, keys: int) -> list[tuple[float, float]]:
    loop = asyncio.get_running_loop()
    waits: list[tuple[float, float]] = []
    clients = [(await loop.create_connection(lambda: _Client(waits), "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    sent = [
        b"GET /v1/route/%b?op=read HTTP/1.1\r\nhost: x\r\n\r\n" % key_of(random.randrange(keys)).encode() for _ in range(20_000)
    ]
    begun, number = time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        while number < now * rate:
            client = clients[number % CONNECTIONS]
            client.due.append(begun + number / rate)
            client.transport.write(sent[number % len(sent)])
            number += 1
        await asyncio.sleep(TICK)
    for _ in range(200):
        if not any(client.due for client in clients):
            break
        await asyncio.sleep(0.01)
    lost = sum(len(client.due) for client in clients)
    if lost:
        raise SystemExit(f"{lost} of {number} requests were not answered")
    return waits


def open_loop(port: int, rate: float, seconds: float, keys: int) -> list[tuple[float, float]]:
    """(moment due, seconds until the answer) of requests sent at ``rate``/s over ``CONNECTIONS`` connections.

    Each counts from the moment when it was due, also where it could only be sent later: a slow server, or a machine that is
    busy with something else, can't hide behind requests that were not sent.
    """
    return uvloop.run(_open_loop(port, rate, seconds, keys))


def main() -> None:
    """``python -m … PORT RATE SECONDS KEYS``: print a line per request, for a process of its own."""
    port, rate, seconds, keys = sys.argv[1:5]
    for due, wait in open_loop(int(port), float(rate), float(seconds), int(keys)):
        print(f"{due} {wait}")


def begin(server: Server, rate: float, seconds: float, keys: int) -> subprocess.Popen[str]:
    """Begin an open loop in a process of its own, on the client's core."""
    arguments = [str(server.port), str(rate), str(seconds), str(keys)]
    command = ["taskset", "-c", str(CLIENT_CORE), sys.executable, "-m", "tests.benchmarks.sidecar_load", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def finish(process: subprocess.Popen[str]) -> list[tuple[float, float]]:
    """What it measured."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit("the load broke off")
    return [(float(due), float(wait)) for due, wait in (line.split() for line in output.splitlines())]


def quantile(values: list[float], share: float) -> float:
    """The value that ``share`` of the values don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    main()
