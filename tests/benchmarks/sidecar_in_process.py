"""Routes in process, compared with a plain dictionary of the same keys; and batches over HTTP."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from tests.benchmarks.sidecar_load import quantile
from tests.benchmarks.sidecar_servers import key_of, sidecar
from tests.sidecar_config import CONFIG

from foreshard.model import RequestKind
from foreshard.routing.decision import RouteRequest
from foreshard.sidecar._service import RouteService
from foreshard.stores.files.routing_file import FILES, read_routing

ASKED = 200_000
TIMES = 7


def in_process(folder: Path, keys: int) -> dict[str, Any]:
    """Routes per second of processor time and the time of one route, compared with a dictionary."""
    saved = read_routing(folder / "routing" / FILES[0])
    service = RouteService(CONFIG)
    service.install_registry(saved.partitions, saved.locations)
    service.install_table(saved.table, saved.identity, "file", time.time())
    asked = [key_of(random.randrange(keys)) for _ in range(ASKED)]
    answers = service.prepare()
    assert answers is not None
    read, write = answers.routes.reads.route, answers.routes.writes.route
    known = {key_of(n): (1, key_of(n)) for n in range(keys)}
    requests = [RouteRequest(key, RequestKind.READ) for key in asked[:20_000]]
    reads, dictionary = _per_second(read, asked), _per_second(known.__getitem__, asked)
    not_listed = [f"other-{random.randrange(keys):07d}" for _ in range(ASKED)]
    by_slot = _per_second(read, not_listed)
    return {
        "prepared reads per second": reads,
        "prepared reads of keys by their slots per second": by_slot,
        "by slot ÷ listed": by_slot / reads,
        "prepared writes per second": _per_second(write, asked),
        "look-ups in a dictionary per second": dictionary,
        "prepared reads ÷ look-ups in a dictionary": reads / dictionary,
        "p50 of one prepared read (µs)": _median_time(read, asked),
        "p50 of one look-up in a dictionary (µs)": _median_time(known.__getitem__, asked),
        "full decisions (with what they weigh) per second": _per_second(service.route, requests),
    }


def _per_second(work: Callable[[Any], object], asked: Sequence[Any]) -> float:
    best = 0.0
    for _ in range(TIMES):
        begun = time.process_time()
        for _ in map(work, asked):
            pass
        best = max(best, len(asked) / (time.process_time() - begun))
    return best


def _median_time(work: Callable[[Any], object], asked: Sequence[Any]) -> float:
    """The median time of one call, without the time of the measurement itself."""
    clock = time.perf_counter_ns

    def times(call: Callable[[Any], object]) -> list[float]:
        found = []
        for key in asked:
            begun = clock()
            call(key)
            found.append(float(clock() - begun))
        return found

    idle = quantile([float(b - a) for a, b in ((clock(), clock()) for _ in repeat(None, 10_000))], 0.5)
    return (quantile(times(work), 0.5) - idle) / 1e3


def batches(folder: Path, keys: int, size: int = 10_000, number: int = 60) -> dict[str, Any]:
    """Keys per second through ``POST /v1/routes``, by wall clock and by the server's processor time."""
    bodies = [json.dumps({"keys": [key_of(random.randrange(keys)) for _ in range(size)]}).encode() for _ in range(number)]
    with sidecar(folder) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        walls = []
        used = server.cpu_seconds()
        for body in bodies:
            begun = time.perf_counter()
            connection.request("POST", "/v1/routes", body)
            answer = connection.getresponse().read()
            walls.append(time.perf_counter() - begun)
        used = server.cpu_seconds() - used
        assert len(json.loads(answer)["routes"]) == size
        connection.close()
    return {
        "keys per batch": size,
        "keys per CPU second of the server": size * number / used,
        "keys per second, best batch": size / min(walls),
        "keys per second, median batch": size / quantile(walls, 0.5),
    }
