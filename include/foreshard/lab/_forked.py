"""Runs calls in forked processes, which share the parent's memory read-only and return their results."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_inherited: dict[Any, Callable[[], Any]] = {}


@contextmanager
def fork_pool(calls: Mapping[Any, Callable[[], _Result]], processes: int) -> Iterator[dict[Any, Future[_Result]]]:
    """Run all ``calls`` in order, at most ``processes`` at a time. Results must be picklable."""
    _inherited.update(calls)
    try:
        with ProcessPoolExecutor(min(processes, len(calls)), multiprocessing.get_context("fork")) as pool:
            yield {name: pool.submit(_call, name) for name in calls}
    finally:
        _inherited.clear()


def each_forked(calls: Sequence[Callable[[], _Result]], processes: int) -> list[_Result]:
    """Return the result of each call. With one process or one call, everything runs in this process."""
    if processes < 2 or len(calls) < 2:
        return [call() for call in calls]
    with fork_pool(dict(enumerate(calls)), processes) as running:
        return [future.result() for future in running.values()]


def _call(name: Any) -> Any:
    """Run one call in a forked process. Freezing excludes the inherited objects from garbage collection."""
    gc.freeze()
    return _inherited[name]()
