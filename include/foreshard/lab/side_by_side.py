"""Runs several policies in parallel, each in its own process. They share only the log, which is read-only."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any, TypeVar

from foreshard.lab._forked import fork_pool

PolicyProgress = Callable[[str, int, int], None]
"""progress(policy, done, of). ``of`` may grow."""
_Result = TypeVar("_Result")
Start = Callable[[Callable[[int, int], None] | None], _Result]
"""Runs one policy and reports (done, of) to the given function."""

_POLL_SECONDS = 0.2


def side_by_side(
    starts: Mapping[str, Start[_Result]], processes: int, progress: PolicyProgress | None = None
) -> dict[str, _Result]:
    """Run all of ``starts``, the last one first, ``processes`` at a time. The result is in the order of ``starts``.

    With one process, everything runs in this process.
    """
    if processes < 2 or len(starts) < 2:
        return {name: start(_reporter(progress, name)) for name, start in starts.items()}
    messages = multiprocessing.get_context("fork").Queue()
    calls = {name: partial(start, partial(_report, messages, name)) for name, start in reversed(tuple(starts.items()))}
    try:
        with fork_pool(calls, processes) as running:
            _follow(set(running.values()), messages, progress)
            return {name: running[name].result() for name in starts}
    finally:
        messages.close()


def _reporter(progress: PolicyProgress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, of: progress(name, done, of)


def _report(messages: Any, name: str, done: int, of: int) -> None:
    messages.put((name, done, of))


def _follow(open_: set[Future[_Result]], messages: Any, progress: PolicyProgress | None) -> None:
    """Pass on progress until all processes end. Raise the first failure."""
    while open_:
        done, open_ = wait(open_, _POLL_SECONDS, FIRST_COMPLETED)
        with suppress(Empty):
            while True:
                said = messages.get_nowait() if open_ else messages.get(timeout=_POLL_SECONDS)
                if progress:
                    progress(*said)
        for future in done:
            future.result()
