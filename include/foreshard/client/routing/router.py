"""The router of a client, and its asynchronous form."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from foreshard.client._driving import Mode
from foreshard.client.routing.forking import renewed_after_fork
from foreshard.client.routing.own_writes import OwnWrites
from foreshard.client.routing.routes import (
    ANYWHERE,
    LocalSource,
    Operation,
    PartitionAddress,
    ReadPreference,
    Route,
    RouteSource,
)
from foreshard.errors import Unreachable
from foreshard.routing.decision import SHADOW
from foreshard.routing.homes import Homes

if TYPE_CHECKING:
    pass


CONFIRMED = 5.0
"""Seconds for which a table counts as the newest after the control database has confirmed it. Sidecars ask every second, and no
move removes its source's copy before the sidecars that were heard lately have its table."""
AGE_KEPT = 1.0


class Router:
    """Routes for one client: in process if there is a ``local`` source, otherwise by asking ``source``.

    Answers of ``source`` are kept for ``keep`` seconds, or until an answer shows a newer table. An answer that is newer than
    the local table overrides it until the local table has caught up. A kept answer or a local table may be stale. That is safe
    for the client's writes, because the fence refuses a write to a key's old partition. A delete of pymongo's own passes the
    fence, so it needs ``fresh=True``. ``keep`` must be far below the time for which a move's source copy is kept.
    """

    def __init__(
        self,
        source: RouteSource,
        keep: float = 0.5,
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        local: LocalSource | None = None,
    ) -> None:
        self._source, self._keep, self._size, self._clock = source, keep, size, clock
        self._local = local
        self._learned: dict[str, Route] = {}
        self._kept: dict[tuple[str, Operation, ReadPreference], tuple[float, Route]] = {}
        self._version = 0
        self.renew()
        renewed_after_fork(self)
        self._refreshed_at = float("-inf")
        self._age = (float("-inf"), math.inf)
        self.own_writes = OwnWrites()
        self._newest = 0

    def renew(self) -> None:
        """Make new locks, here and in the child of a fork."""
        self._lock, self._refreshing = threading.Lock(), threading.Lock()

    def known(self, key: str, operation: Operation, preference: ReadPreference = ANYWHERE) -> Route | None:
        """Return the route of ``key`` if it is known without a request; None otherwise."""
        found = self._known(key, operation, preference)
        if found is not None and found.role == SHADOW and self._misses_own_writes(found, preference):
            return self._known(key, Operation.WRITE, preference)
        return found

    def _misses_own_writes(self, shadow: Route, preference: ReadPreference) -> bool:
        if not preference.own_writes:
            return False
        if self._local is None:
            return not self.own_writes.are_in(shadow.key, None, None)
        caught_up = self._local.caught_up(shadow.key, shadow.partition)
        return not self.own_writes.are_in(shadow.key, caught_up, self._local.applied_to(shadow.key, shadow.partition))

    def _known(self, key: str, operation: Operation, preference: ReadPreference) -> Route | None:
        if self._local is not None and not (self._newest and self._is_behind()):
            newer = self._newer(key) if self._learned else None
            if newer is not None:
                return newer
            try:
                return self._local.route(key, operation, preference)
            except Unreachable:
                pass
        kept = self._kept.get((key, operation, preference if operation is Operation.READ else ANYWHERE))
        return kept[1] if kept is not None and self._clock() - kept[0] < self._keep else None

    def route(self, key: str, operation: Operation, preference: ReadPreference = ANYWHERE, *, fresh: bool = False) -> Route:
        """Return where ``key`` lives. ``fresh``: ask again, even if the route is known."""
        found = None if fresh else self.known(key, operation, preference)
        if found is not None:
            return found
        now = self._clock()
        answer = self._source.route(key, operation, preference)
        self._remember((key, operation, preference if operation is Operation.READ else ANYWHERE), answer, now)
        if answer.is_shadow and self._misses_own_writes(answer, preference):
            return self.route(key, Operation.WRITE)
        return answer

    def routes(
        self, keys: Sequence[str], operation: Operation, preference: ReadPreference = ANYWHERE, *, fresh: bool = False
    ) -> dict[str, Route]:
        """Return where many keys live. Unknown ones are asked for in one request."""
        known: dict[str, Route] = {}
        if not fresh:
            known = {key: route for key in keys if (route := self.known(key, operation, preference)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if len(missing) == 1:
            known[missing[0]] = self.route(missing[0], operation, preference, fresh=fresh)
        elif missing:
            now = self._clock()
            answers = self._source.routes(missing, operation, preference)
            place = preference if operation is Operation.READ else ANYWHERE
            for key, answer in answers.items():
                self._remember((key, operation, place), answer, now)
            known.update(answers)
            late = [key for key, one in answers.items() if one.is_shadow and self._misses_own_writes(one, preference)]
            known.update(self.routes(late, Operation.WRITE) if late else {})
        return {key: known[key] for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every partition that may have documents."""
        return self._source.partitions()

    def homes(self) -> tuple[tuple[PartitionAddress, ...], Homes] | None:
        """The partitions and what lives on each, as the local table says.

        None without a local table, and while the sidecar has answered from a newer one.
        """
        if self._local is None or self._is_behind() or any(self._newer(key) is not None for key in tuple(self._learned)):
            return None
        try:
            return self._local.homes()
        except Unreachable:
            return None

    def age(self) -> float:
        """Seconds since the control database last confirmed the table; infinite if unknown.

        The sidecar is asked once a second at most, and only without a local table.
        """
        known = self.known_age()
        if known is not None:
            return known
        now = self._clock()
        try:
            age = self._source.age()
        except Unreachable:
            age = math.inf
        self._age = (now, age)
        return age

    def known_age(self) -> float | None:
        """Return the age if it is known without a request; None otherwise."""
        if self._local is not None:
            try:
                return self._local.age()
            except Unreachable:
                pass
        asked_at, age = self._age
        passed = self._clock() - asked_at
        return age + passed if passed < AGE_KEPT else None

    def avoid(self, partition: str) -> None:
        """Send reads to other copies for a while: this process could not reach ``partition``."""
        if self._local is not None:
            self._local.avoid(partition)

    def refresh(self, since: float) -> bool:
        """Get a table that was read after the time ``since`` of the clock. Waiting threads share one request.

        Return False if the sidecar can't refresh now: the caller asks again until its deadline.
        """
        with self._refreshing:
            if self._refreshed_at > since:
                return True
            begun = self._clock()
            try:
                self._newest = max(self._newest, self._source.refresh())
            except Unreachable:
                return False
            else:
                self._refreshed_at = begun
            finally:
                self.forget()
            return True

    def forget(self) -> None:
        """Drop all kept answers."""
        with self._lock:
            self._kept.clear()

    def now(self) -> float:
        """The time that ``refresh`` compares with."""
        return self._clock()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _is_behind(self) -> bool:
        """Whether a refresh has reported a newer table than the local one."""
        if self._local is not None and self._local.version() >= self._newest:
            self._newest = 0
        return self._newest > 0

    def _newer(self, key: str) -> Route | None:
        """Return the sidecar's answer for ``key`` if it is newer than the local table; otherwise drop it."""
        found = self._learned.get(key)
        if found is None or self._local is None:
            return None
        if self._local.version() < found.table_version:
            return found
        with self._lock:
            self._learned.pop(key, None)
        return None

    def _remember(self, asked: tuple[str, Operation, ReadPreference], answer: Route, asked_at: float) -> None:
        if self._local is not None and asked[1] is Operation.WRITE and answer.table_version > self._local.version():
            with self._lock:
                if len(self._learned) >= self._size:
                    self._learned.clear()
                self._learned[asked[0]] = answer
        if self._keep <= 0:
            return
        with self._lock:
            if answer.table_version < self._version:
                return
            if answer.table_version > self._version or len(self._kept) >= self._size:
                self._kept.clear()
                self._version = answer.table_version
            self._kept[asked] = (asked_at, answer)


@dataclass(frozen=True, slots=True)
class AsyncRouter:
    """A router for the client's core: known routes are returned at once, other calls never block an event loop."""

    router: Router
    mode: Mode

    async def route(
        self, key: str, operation: Operation, preference: ReadPreference = ANYWHERE, *, fresh: bool = False
    ) -> Route:
        """Return where ``key`` lives."""
        found = None if fresh else self.router.known(key, operation, preference)
        if found is not None:
            return found
        return await self.mode.blocking(partial(self.router.route, key, operation, preference, fresh=fresh))

    async def routes(
        self, keys: Sequence[str], operation: Operation, preference: ReadPreference = ANYWHERE, *, fresh: bool = False
    ) -> dict[str, Route]:
        """Return where many keys live."""
        if len(keys) == 1:
            return {keys[0]: await self.route(keys[0], operation, preference, fresh=fresh)}
        return await self.mode.blocking(partial(self.router.routes, keys, operation, preference, fresh=fresh))

    async def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every partition that may have documents."""
        return await self.mode.blocking(self.router.partitions)

    async def refresh(self, since: float) -> bool:
        """Get a table that was read after the time ``since`` of the router's clock. Return False if that fails."""
        return await self.mode.blocking(partial(self.router.refresh, since))

    async def is_old(self) -> bool:
        """Whether the table may be old: the control database has not confirmed it for ``CONFIRMED`` seconds."""
        age = self.router.known_age()
        if age is None:
            age = await self.mode.blocking(self.router.age)
        return age > CONFIRMED

    def avoid(self, partition: str) -> None:
        """Send reads to other copies for a while."""
        self.router.avoid(partition)

    def now(self) -> float:
        """The time of the router's clock."""
        return self.router.now()
