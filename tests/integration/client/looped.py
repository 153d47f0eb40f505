"""Runs the tests of the synchronous client on the asynchronous one: each call goes to an event loop in another thread."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any


def collect_cancelled_sockets() -> None:
    """pymongo 4.20 leaves a socket open if connecting is cancelled (``pool_shared._async_create_connection``)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Loop:
    """One event loop in one thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.run(asyncio.sleep(0.05))  # the last closed client closes its sockets in the next iteration
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        collect_cancelled_sockets()


class Looped:
    """A routed collection or cursor of the asynchronous client, used like the synchronous one."""

    def __init__(self, inner: Any, loop: Loop) -> None:
        self._inner, self._loop = inner, loop

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **options: Any) -> Any:
            if isinstance(options.get("session"), LoopedSession):
                options["session"] = options["session"].inner
            return self._plain(attribute(*arguments, **options))

        return call

    def __iter__(self) -> Looped:
        return self

    def __next__(self) -> Any:
        async def step() -> Any:
            return await anext(self._inner, None)

        document = self._loop.run(step())
        if document is None:
            raise StopIteration
        return document

    def __enter__(self) -> Looped:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _plain(self, result: Any) -> Any:
        if inspect.iscoroutine(result):
            result = self._loop.run(result)
        return Looped(result, self._loop) if hasattr(result, "__anext__") else result


class LoopedSession:
    """A session of the asynchronous client, used like a synchronous one."""

    def __init__(self, inner: Any, loop: Loop) -> None:
        self.inner, self._loop = inner, loop

    @property
    def in_transaction(self) -> bool:
        return bool(self.inner.in_transaction)

    def start_transaction(self, **options: Any) -> LoopedTransaction:
        return LoopedTransaction(self._loop.run(self.inner.start_transaction(**options)), self._loop)

    def commit_transaction(self) -> None:
        self._loop.run(self.inner.commit_transaction())

    def abort_transaction(self) -> None:
        self._loop.run(self.inner.abort_transaction())

    def end_session(self) -> None:
        self._loop.run(self.inner.end_session())

    def with_transaction(self, callback: Callable[[LoopedSession], Any], **options: Any) -> Any:
        async def call(_session: Any) -> Any:
            return await asyncio.to_thread(callback, self)

        return self._loop.run(self.inner.with_transaction(call, **options))

    def __enter__(self) -> LoopedSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_session()


class LoopedTransaction:
    """An open transaction of the asynchronous client."""

    def __init__(self, inner: Any, loop: Loop) -> None:
        self._inner, self._loop = inner, loop

    def __enter__(self) -> LoopedTransaction:
        self._loop.run(self._inner.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._loop.run(self._inner.__aexit__(*error))
