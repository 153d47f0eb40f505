"""What all connections of a process share: their number, their clock, what they may hold together, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from foreshard.routing.simple import SimpleRoutes
from foreshard.sidecar import _limits as limits
from foreshard.sidecar._endpoints import Endpoints
from foreshard.sidecar._figures import ROUTE
from foreshard.sidecar._lookups import Lookups
from foreshard.sidecar._problems import Problem, TooLarge
from foreshard.sidecar._service import PREPARED_SECONDS

SWEPT_AT_ONCE = 500
"""Connections that are looked at between two chances for requests."""

log = logging.getLogger(__name__)


class Connection(Protocol):
    """What one connection is asked to do."""

    transport: asyncio.Transport

    def overdue(self, tick: int) -> str:
        """Why it should end now, "" where it should not."""

    def time_out(self) -> None:
        """Tell a slow client why it ends."""

    def leave(self) -> None:
        """Close where nothing is under way; otherwise the next answer is the last."""


class OpenConnections:
    """One per process; ``tick`` counts seconds."""

    def __init__(self, endpoints: Endpoints, maximum: int = limits.MAXIMUM_CONNECTIONS) -> None:
        self.endpoints = endpoints
        self.service = endpoints.service
        self.lookups = Lookups(endpoints.service, self._prepare)
        self.times = endpoints.figures.times[ROUTE]
        self._settling = False
        self.tick = 0
        self.leaving = False
        self.body_bytes = 0
        self._maximum = maximum
        self._all: set[Connection] = set()
        self._stalled: dict[Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcomes = endpoints.figures.connections
        endpoints.metrics.open_connections = self.__len__

    def __len__(self) -> int:
        return len(self._all)

    def add(self, one: Connection) -> bool:
        """Count a connection; False where there are too many."""
        self._all.add(one)
        kept = len(self._all) <= self._maximum and not self.leaving
        self._outcomes["accepted" if kept else "refused"] += 1
        return kept

    def remove(self, one: Connection) -> None:
        """Forget a connection."""
        self._all.discard(one)
        self._stalled.pop(one, None)

    def body_refused(self, so_far: int, more: int) -> Problem | None:
        """Count ``more`` bytes of a body, unless it, or all bodies together, would become too large."""
        if so_far + more > limits.MAXIMUM_BODY_BYTES:
            return TooLarge(413, "body-too-large", "body", limits.MAXIMUM_BODY_BYTES)
        if self.body_bytes + more > limits.MAXIMUM_BODIES_BYTES:
            return Problem(503, "busy", "too many large bodies at once", "send it again, or in smaller parts")
        self.body_bytes += more
        return None

    def stalls(self, one: Connection) -> None:
        """Note that a client does not take its answers; too many of them would fill the memory."""
        self._stalled[one] = None
        if len(self._stalled) > limits.MAXIMUM_STALLED:
            first = next(iter(self._stalled))
            del self._stalled[first]
            self._drop(first, "stalled")

    def flows(self, one: Connection) -> None:
        """Note that it does again."""
        self._stalled.pop(one, None)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what takes a while."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def soon(call: Callable[[], None]) -> None:
        """Call later, after others have had a chance."""
        asyncio.get_running_loop().call_soon(call)

    async def sweep(self) -> None:
        """Drop what is overdue, once a second."""
        while True:
            await asyncio.sleep(1.0)
            self.tick += 1
            await self.look_around()

    async def look_around(self) -> None:
        """Look at every connection once."""
        for number, one in enumerate(tuple(self._all)):
            if number % SWEPT_AT_ONCE == SWEPT_AT_ONCE - 1:
                await asyncio.sleep(0)
            why = one.overdue(self.tick)
            if why == "slow":
                self._outcomes[why] += 1
                one.time_out()
            elif why:
                self._drop(one, why)

    async def leave(self, seconds: float = limits.SHUTDOWN_SECONDS) -> None:
        """Answer what is under way, close the others, and drop what is left after ``seconds``."""
        self.leaving = True
        for one in tuple(self._all):
            one.leave()
        for _ in range(round(seconds * 20)):
            if not self._all:
                return
            await asyncio.sleep(0.05)
        for one in tuple(self._all):
            one.transport.abort()
        await asyncio.sleep(0)

    def _prepare(self) -> SimpleRoutes | None:
        """Prepare decisions, and settle them after a while; nothing runs while nobody asks."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_later(PREPARED_SECONDS, self._settle)
        return self.service.simple()

    def _settle(self) -> None:
        self._settling = False
        self.service.settle()

    def _drop(self, one: Connection, why: str) -> None:
        if why != "closed":
            self._outcomes[why] += 1
        one.transport.abort()
