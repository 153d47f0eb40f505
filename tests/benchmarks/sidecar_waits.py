"""How long requests wait at a given rate: an open loop (``open_loop.c``) in rounds of a second, alternating between the
servers.

First with ordinary scheduling. Then, if the operating system permits, with servers and client in real time (SCHED_FIFO, below
the meters): they run before all other processes, so that the remaining waits are caused by the servers themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import sidecar_hiccups as hiccups
from tests.benchmarks import sidecar_load as load
from tests.benchmarks.sidecar_servers import Server

SECONDS = 1.0
P99_GOAL_MS = 2.0
PRIORITY = 10


def waits(servers: list[Server], keys: int, rate: float, rounds: int) -> dict[str, Any]:
    """Measure with both schedulings."""
    figures = {"requests per second for the waits": rate, **_measured(servers, keys, rate, rounds, ahead=False)}
    try:
        with _ahead(servers):
            of_their_own = _measured(servers, keys, rate, rounds, ahead=True)
    except PermissionError:
        return figures
    return figures | {f"in real time: {what}": value for what, value in of_their_own.items()}


def _measured(servers: list[Server], keys: int, rate: float, rounds: int, *, ahead: bool) -> dict[str, Any]:
    """Waits in alternating rounds: the median round, the best round, and all requests together."""
    found: dict[str, list[list[load.Request]]] = {server.name: [] for server in servers}
    seen: dict[str, list[hiccups.Round]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers:
            with hiccups.watched(SECONDS, server.pids) as one:
                running = load.begin(server, rate, SECONDS, keys, connections=load.MANY, seed=number)
                if ahead:
                    _run_first(running.pid)
                found[server.name].append(load.finish(running))
            seen[server.name].append(one)
    figures: dict[str, Any] = {}
    for name, made in found.items():
        figures |= {f"{what}, {name}": value for what, value in _of(made, seen[name]).items()}
    return figures


def _of(made: list[list[load.Request]], seen: list[hiccups.Round]) -> dict[str, Any]:
    """The figures of one server."""
    waited = [[request.wait * 1e3 for request in one] for one in made]
    p99 = [load.quantile(one, 0.99) for one in waited]
    p50 = [load.quantile(one, 0.5) for one in waited]
    undisturbed = [value for value, one in zip(p99, seen, strict=True) if not one.disturbed]
    late = [(request.sent - request.due) * 1e3 for one in made for request in one]
    return {
        "p50 (ms), median of rounds": median(p50),
        "p50 (ms), best round": min(p50),
        "p99 (ms), median of rounds": median(p99),
        "p99 (ms), best round": min(p99),
        f"rounds with p99 ≤ {P99_GOAL_MS:g} ms": sum(value <= P99_GOAL_MS for value in p99),
        "p99 (ms), all requests": load.quantile([wait for one in waited for wait in one], 0.99),
        "longest (ms)": max(max(one) for one in waited),
        "sent after it was due, p50 (ms)": load.quantile(late, 0.5),
        "p99 (ms), median of undisturbed rounds": median(undisturbed) if undisturbed else None,
        **hiccups.summary(seen),
    }


@contextmanager
def _ahead(servers: list[Server]) -> Iterator[None]:
    """Schedule the servers before all other processes. Raise PermissionError if that is not allowed."""
    threads = [int(task.name) for server in servers for pid in server.pids for task in Path(f"/proc/{pid}/task").iterdir()]
    try:
        for thread in threads:
            _run_first(thread)
        yield
    finally:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _run_first(thread: int) -> None:
    os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(PRIORITY))
