"""The servers to compare: a sidecar, nginx's map and HAProxy's map, with one million keys each, on one core."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from tests.slots import slot_map

from foreshard.model import Location, Partition, Placement, RoutingTable
from foreshard.ports.routing_file import SavedRouting
from foreshard.stack._process import free_port
from foreshard.stores.files.routing_file import RoutingFile

PARTITIONS = tuple(
    Partition(f"p-{n:02d}", "San Francisco", 1e9, f"mongodb://127.0.0.1:{27000 + n}/?directConnection=true") for n in range(16)
)
PLACES = (Location("San Francisco", 37.789, -122.401),)
RULE = slot_map(tuple(p.partition_id for p in PARTITIONS), (1.0,) * len(PARTITIONS))
NOWHERE = "mongodb://127.0.0.1:1/?directConnection=true"
ANSWER = (
    r"\"location\":\"San Francisco\",\"role\":\"primary\",\"table_version\":1,\"reason\":\"the only copy is on p-00\","
    r"\"reason_code\":\"only_copy\",\"uri\":\"mongodb://127.0.0.1:27000/?directConnection=true\"}"
)
"""What the peers say besides the key, the partition and the epoch: as much as a sidecar says."""


def key_of(number: int) -> str:
    return f"key-{number:07d}"


def placement_of(number: int) -> Placement:
    return Placement(key_of(number), PARTITIONS[number * 7919 % 16].partition_id, (), number % 9 + 1)


def table_of(keys: int) -> RoutingTable:
    return RoutingTable(1, {p.key: p for p in map(placement_of, range(keys))}, RULE, datetime.now(UTC))


def save(folder: Path, keys: int) -> None:
    """Write the table for a sidecar to map. It lists ``keys`` keys; slots place all others."""
    RoutingFile(folder / "routing").save(SavedRouting("bench", table_of(keys), PARTITIONS, PLACES, time.time()))


@dataclass(frozen=True)
class Server:
    """A running server: its port and its worker processes."""

    name: str
    port: int
    pids: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """The processor time of its threads, by the scheduler's accounting."""
        return sum(_scheduled(pid) for pid in self.pids) / 1e9

    def memory(self) -> float:
        """Proportional set size of all its processes (MB). Shared pages count once."""
        return sum(_pss(pid) for pid in self.pids) / 1e6


def _scheduled(pid: int) -> int:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def children(pid: int) -> tuple[int, ...]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return tuple(map(int, found))


@contextmanager
def sidecar(
    folder: Path,
    *,
    workers: int = 1,
    core: int | None = 0,
    environment: Mapping[str, str] | None = None,
    name: str = "sidecar",
) -> Iterator[Server]:
    """A sidecar with the table saved in ``folder``."""
    port = free_port()
    command = [sys.executable, "-c", "from foreshard.cli.main import main; main()", "sidecar", "--port", str(port)]
    settings = {"FORESHARD_CONTROL_URI": NOWHERE, "FORESHARD_DATA_DIR": str(folder), **(environment or {})}
    with _running([*command, "--workers", str(workers)], core, os.environ | settings) as process:
        _until_answered(f"http://127.0.0.1:{port}/readyz", process)
        deadline = time.monotonic() + 10
        while len(children(process.pid)) < workers and time.monotonic() < deadline:
            time.sleep(0.05)
        yield Server(name, port, (process.pid, *children(process.pid)))


@contextmanager
def nginx(folder: Path, keys: int) -> Iterator[Server]:
    """nginx's map, one worker."""
    port = free_port()
    rows = (f'{p.key} \'"partition":"{p.primary}","epoch":{p.epoch}\';\n' for p in map(placement_of, range(keys)))
    _write(folder / "nginx.map", rows)
    answer = ANSWER.replace('\\"', '"')
    _write(folder / "nginx.conf", [f"""
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; server_tokens off; keepalive_requests 1000000000; default_type application/json;
  map_hash_max_size 2097152; map_hash_bucket_size 256;
  map $route_key $target {{ default '"partition":"","epoch":0'; include {folder}/nginx.map; }}
  server {{
    listen 127.0.0.1:{port};
    location ~ ^/v1/route/(?<route_key>.+)$ {{ return 200 '{{"key":"$route_key",$target,{answer}'; }}
  }}
}}
"""])  # fmt: skip
    with _running([program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")], 0, os.environ) as process:
        _until_answered(f"http://127.0.0.1:{port}/v1/route/{key_of(5)}", process)
        yield Server("nginx map", port, children(process.pid))


@contextmanager
def haproxy(folder: Path, keys: int) -> Iterator[Server]:
    """HAProxy's map, one thread."""
    port = free_port()
    rows = (f'{p.key} "partition":"{p.primary}","epoch":{p.epoch}\n' for p in map(placement_of, range(keys)))
    _write(folder / "haproxy.map", rows)
    target = f"%[var(txn.key),map({folder}/haproxy.map)]"
    _write(folder / "haproxy.cfg", [f"""
global
  maxconn 1000
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 1s
frontend routes
  bind 127.0.0.1:{port}
  http-request set-var(txn.key) path,regsub(^/v1/route/,)
  http-request return status 200 content-type application/json lf-string "{{\\"key\\":\\"%[var(txn.key)]\\",{target},{ANSWER}"
"""])  # fmt: skip
    with _running([program("haproxy"), "-f", str(folder / "haproxy.cfg")], 0, os.environ) as process:
        _until_answered(f"http://127.0.0.1:{port}/v1/route/{key_of(5)}", process)
        yield Server("HAProxy map", port, (process.pid,))


def program(name: str) -> str:
    """The path of a tool. Debian keeps servers out of an ordinary user's PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"{name} is missing; run: make bench-system")
    return found


@contextmanager
def _running(command: list[str], core: int | None, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    pinned = ["taskset", "-c", str(core), *command] if core is not None else command
    process = subprocess.Popen(pinned, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w") as file:
        file.writelines(lines)


def _until_answered(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with code {process.returncode}")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
        time.sleep(0.02)
    raise SystemExit(f"{url} does not answer")
