"""State that all connections of a process share: their number, their clock, their memory, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from foreshard.sidecar import _limits as limits
from foreshard.sidecar._endpoints import Endpoints
from foreshard.sidecar._figures import ROUTE
from foreshard.sidecar._lookups import Lookups
from foreshard.sidecar._prepared_answers import PreparedAnswers
from foreshard.sidecar._problems import Problem, TooLarge
from foreshard.sidecar._service import PREPARED_SECONDS

SWEPT_AT_ONCE = 500
"""Connections to check before requests get a turn."""

log = logging.getLogger(__name__)


class Connection(Protocol):
    """The methods of a connection that :class:`OpenConnections` calls."""

    transport: asyncio.Transport

    def overdue(self, tick: int) -> str:
        """Why the connection should end now; "" if it should not."""

    def time_out(self) -> None:
        """Tell a slow client why its connection ends."""

    def leave(self) -> None:
        """Close, or make the next answer the last one if a request is in progress."""


class OpenConnections:
    """All connections of one process. ``tick`` counts seconds."""

    def __init__(self, endpoints: Endpoints, maximum: int = limits.MAXIMUM_CONNECTIONS) -> None:
        self.endpoints = endpoints
        self.service = endpoints.service
        self.lookups = Lookups(endpoints.service, self._prepare)
        self.times = endpoints.figures.times[ROUTE]
        self._expiry_due = False
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
        """Add a connection. Return False if there are too many."""
        self._all.add(one)
        kept = len(self._all) <= self._maximum and not self.leaving
        self._outcomes["accepted" if kept else "refused"] += 1
        return kept

    def remove(self, one: Connection) -> None:
        """Remove a connection."""
        self._all.discard(one)
        self._stalled.pop(one, None)

    def body_refused(self, so_far: int, more: int) -> Problem | None:
        """Count ``more`` bytes of a body. Return the problem if it, or all bodies together, would become too large."""
        if so_far + more > limits.MAXIMUM_BODY_BYTES:
            return TooLarge(413, "body-too-large", "body", limits.MAXIMUM_BODY_BYTES)
        if self.body_bytes + more > limits.MAXIMUM_BODIES_BYTES:
            return Problem(503, "busy", "too many large bodies at once", "retry, or send smaller parts")
        self.body_bytes += more
        return None

    def stalls(self, one: Connection) -> None:
        """Record that a client does not read its answers. Drop the first such client if there are too many."""
        self._stalled[one] = None
        if len(self._stalled) > limits.MAXIMUM_STALLED:
            first = next(iter(self._stalled))
            del self._stalled[first]
            self._drop(first, "stalled")

    def flows(self, one: Connection) -> None:
        """Record that a client reads its answers again."""
        self._stalled.pop(one, None)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` as a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def soon(call: Callable[[], None]) -> None:
        """Schedule ``call`` after the events that are already waiting."""
        asyncio.get_running_loop().call_soon(call)

    async def sweep(self) -> None:
        """Once a second, end the connections that are overdue."""
        while True:
            await asyncio.sleep(1.0)
            self.tick += 1
            await self.check_all()

    async def check_all(self) -> None:
        """Check every connection once."""
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
        """Answer the requests in progress, close idle connections, and drop the rest after ``seconds``."""
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

    def _prepare(self) -> PreparedAnswers | None:
        """Prepare answers, and schedule their expiry. No timer runs while no request comes."""
        if not self._expiry_due:
            self._expiry_due = True
            asyncio.get_running_loop().call_later(PREPARED_SECONDS, self._expire)
        return self.service.prepare()

    def _expire(self) -> None:
        self._expiry_due = False
        self.service.expire_prepared()

    def _drop(self, one: Connection, why: str) -> None:
        if why != "closed":
            self._outcomes[why] += 1
        one.transport.abort()
