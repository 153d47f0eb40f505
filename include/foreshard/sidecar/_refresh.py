"""Refreshes for fenced clients: one read of the control database is running and one is waiting, however many clients ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from foreshard.errors import Unreachable
from foreshard.sidecar._problems import Problem

TIMEOUT = 1.5


class Refresher:
    """Runs ``sync``, which blocks, in a thread. A call during a running read waits for the read after it."""

    def __init__(self, sync: Callable[[], int], timeout: float = TIMEOUT) -> None:
        self._sync, self._timeout = sync, timeout
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="refresh")
        self._under_way: asyncio.Task[int] | None = None
        self._waiting: asyncio.Task[int] | None = None

    async def __call__(self) -> int:
        """Return the version of a table that was read after this call. Raise :class:`Problem` if that fails."""
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_task(self._read(self._under_way))
            self._waiting.add_done_callback(_retrieve)
        try:
            return await asyncio.wait_for(asyncio.shield(self._waiting), self._timeout)
        except (TimeoutError, Unreachable) as error:
            detail = f"the control database does not answer ({type(error).__name__}); the last table stays in use"
            raise Problem(503, "refresh-failed", "the table could not be refreshed", detail) from error

    def close(self) -> None:
        """Stop reading."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _read(self, before: asyncio.Task[int] | None) -> int:
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._under_way, self._waiting = self._waiting, None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._sync)


def _retrieve(task: asyncio.Task[int]) -> None:
    """Mark the error of a read as seen: its caller may have timed out."""
    if not task.cancelled():
        task.exception()
