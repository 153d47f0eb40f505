"""One core for both clients: written with ``async``, run with pymongo's synchronous or asynchronous driver.

With the synchronous driver nothing in the core ever suspends. :func:`run` therefore steps a coroutine once and has its result,
without an event loop. :func:`resolved` accepts the return values of both drivers.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache
from types import CoroutineType
from typing import Any, Protocol, TypeVar

from pymongo import _csot
from pymongo.errors import PyMongoError

Value = TypeVar("Value")

MOST_AT_ONCE = 16
"""Partitions that the synchronous client asks in parallel."""


def run(work: Coroutine[Any, Any, Value]) -> Value:
    """Return the result of ``work``, which must not suspend."""
    try:
        work.send(None)
    except StopIteration as done:
        result: Value = done.value
        return result
    work.close()
    raise RuntimeError("a step of the synchronous client waited for an event loop")


async def resolved(value: Value) -> Value:
    """Return ``value``, or await it if it comes from the asynchronous driver."""
    if isinstance(value, CoroutineType):
        awaited: Value = await value
        return awaited
    return value


def time_left() -> float | None:
    """Seconds that the app's own ``pymongo.timeout`` leaves; None without one. pymongo has no public accessor."""
    return _csot.remaining()


def is_own_deadline(error: PyMongoError) -> bool:
    """Whether an operation failed because the app's own ``pymongo.timeout`` is over. It says nothing about the partition."""
    return error.timeout and time_left() is not None


class _Blocking(Protocol):
    def __call__(self, work: Callable[[], Value], /) -> Awaitable[Value]: ...


class _Together(Protocol):
    def __call__(self, works: Sequence[Coroutine[Any, Any, Value]], /) -> Awaitable[list[Value]]: ...


@dataclass(frozen=True, slots=True)
class Mode:
    """How the core waits.

    ``blocking`` runs a call that may wait for the network. ``sleep`` pauses (seconds). ``together`` runs several coroutines
    concurrently and raises the first error.
    """

    blocking: _Blocking
    sleep: Callable[[float], Awaitable[None]]
    together: _Together


async def _here(work: Callable[[], Value]) -> Value:
    return work()


async def _sleep_here(seconds: float) -> None:
    time.sleep(seconds)


async def _in_threads(works: Sequence[Coroutine[Any, Any, Value]]) -> list[Value]:
    if len(works) < 2:
        return [run(work) for work in works]
    return [future.result() for future in [_threads().submit(copy_context().run, run, work) for work in works]]


@cache
def _threads() -> ThreadPoolExecutor:
    """The threads that ask partitions in parallel, created on first use."""
    return ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="foreshard-read")


def apart(mode: Mode) -> tuple[_Together, Callable[[], None]]:
    """A ``together`` for what waits long, which has threads of its own, and what ends these."""
    if mode is not SYNC:
        return mode.together, lambda: None
    threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="foreshard-watch")

    async def in_own_threads(works: Sequence[Coroutine[Any, Any, Value]]) -> list[Value]:
        return [future.result() for future in [threads.submit(copy_context().run, run, work) for work in works]]

    return in_own_threads, threads.shutdown


async def _in_tasks(works: Sequence[Coroutine[Any, Any, Value]]) -> list[Value]:
    return await asyncio.gather(*works)


async def _in_thread(work: Callable[[], Value]) -> Value:
    return await asyncio.to_thread(work)


SYNC = Mode(_here, _sleep_here, _in_threads)
ASYNC = Mode(_in_thread, asyncio.sleep, _in_tasks)
os.register_at_fork(after_in_child=_threads.cache_clear)
