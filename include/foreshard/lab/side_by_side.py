"""Several policies' runs at once, each in a process of its own: they share nothing but the log, which no one changes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any

from foreshard.lab._forked import fork_pool
from foreshard.lab.simulate import Run

PolicyProgress = Callable[[str, int, int], None]
"""progress(policy, done, of)."""
Start = Callable[[Callable[[int, int], None] | None], Run]
"""Runs one policy, telling (done, of) to what it is given."""

_LOOKED_AT_EVERY = 0.2


def side_by_side(starts: Mapping[str, Start], processes: int, progress: PolicyProgress | None = None) -> dict[str, Run]:
    """Run all of ``starts``, ``processes`` at a time and the last named first; the result is in their order.

    With one process everything runs in this one.
    """
    if processes < 2 or len(starts) < 2:
        return {name: start(_teller(progress, name)) for name, start in starts.items()}
    told = multiprocessing.get_context("fork").Queue()
    calls = {name: partial(start, partial(_tell, told, name)) for name, start in reversed(tuple(starts.items()))}
    try:
        with fork_pool(calls, processes) as running:
            _follow(set(running.values()), told, progress)
            return {name: running[name].result() for name in starts}
    finally:
        told.close()


def _teller(progress: PolicyProgress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, of: progress(name, done, of)


def _tell(told: Any, name: str, done: int, of: int) -> None:
    told.put((name, done, of))


def _follow(open_: set[Future[Run]], told: Any, progress: PolicyProgress | None) -> None:
    """Pass on what the processes tell until all have ended; the first failure ends it."""
    while open_:
        done, open_ = wait(open_, _LOOKED_AT_EVERY, FIRST_COMPLETED)
        with suppress(Empty):
            while True:
                said = told.get_nowait() if open_ else told.get(timeout=_LOOKED_AT_EVERY)
                if progress:
                    progress(*said)
        for future in done:
            future.result()
