"""Several policies' runs at once, each in a process of its own: they share nothing but the log, which no one changes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from queue import Empty
from typing import Any

from foreshard.replay.simulate import Run

Progress = Callable[[str, int, int], None]
"""progress(policy, done, of)."""
Start = Callable[[Callable[[int, int], None] | None], Run]
"""Runs one policy, telling (done, of) to what it is given."""

_LOOKED_AT_EVERY = 0.2
_inherited: dict[str, Start] = {}
_told: Any = None


def side_by_side(starts: Mapping[str, Start], processes: int, progress: Progress | None = None) -> dict[str, Run]:
    """Run all of ``starts``, ``processes`` at a time and the last named first; the result is in their order.

    Processes are forked, so that they have the log without a copy; with one process everything runs in this one.
    """
    if processes < 2 or len(starts) < 2:
        return {name: start(_teller(progress, name)) for name, start in starts.items()}
    global _told
    context = multiprocessing.get_context("fork")
    _told = context.Queue()
    _inherited.update(starts)
    try:
        with ProcessPoolExecutor(min(processes, len(starts)), mp_context=context) as pool:
            running = {pool.submit(_run, name): name for name in reversed(tuple(starts))}
            _follow(set(running), progress)
            runs = {name: future.result() for future, name in running.items()}
    finally:
        _inherited.clear()
        _told.close()
        _told = None
    return {name: runs[name] for name in starts}


def _teller(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, of: progress(name, done, of)


def _run(name: str) -> Run:
    return _inherited[name](lambda done, of: _told.put((name, done, of)))


def _follow(open_: set[Future[Run]], progress: Progress | None) -> None:
    """Pass on what the processes tell until all have ended; the first failure ends it."""
    while open_:
        done, open_ = wait(open_, _LOOKED_AT_EVERY, FIRST_COMPLETED)
        with suppress(Empty):
            while True:
                said = _told.get_nowait() if open_ else _told.get(timeout=_LOOKED_AT_EVERY)
                if progress:
                    progress(*said)
        for future in done:
            future.result()
