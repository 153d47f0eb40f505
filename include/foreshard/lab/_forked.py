"""Work in forked processes: these have the log and all else without a copy, and give back what they found.

They share nothing but what no one changes.
"""

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
    """Make all ``calls``, at most ``processes`` at a time, in their order; what they return must be picklable."""
    _inherited.update(calls)
    try:
        with ProcessPoolExecutor(min(processes, len(calls)), multiprocessing.get_context("fork")) as pool:
            yield {name: pool.submit(_call, name) for name in calls}
    finally:
        _inherited.clear()


def each_forked(calls: Sequence[Callable[[], _Result]], processes: int) -> list[_Result]:
    """What each of ``calls`` returns; with one process, or one call, everything runs in this one."""
    if processes < 2 or len(calls) < 2:
        return [call() for call in calls]
    with fork_pool(dict(enumerate(calls)), processes) as running:
        return [future.result() for future in running.values()]


def _call(name: Any) -> Any:
    """In a process of its own; what it has inherited is no garbage, and isn't looked at again and again."""
    gc.freeze()
    return _inherited[name]()
