"""Who answers "where does this key live, for me, now?": the protocol, the answer, and the router that an app may use alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from foreshard.errors import Unreachable


class Operation(StrEnum):
    """What a route is asked for: writes go to the primary copy, reads may go to a shadow copy."""

    READ = "read"
    WRITE = "write"


class Route(NamedTuple):
    """Where a key's copy stands; ``uri`` may hold what a log must not show, so it stays out of the representation."""

    key: str
    partition: str
    location: str
    role: str
    epoch: int
    table_version: int
    reason: str
    uri: str

    def __repr__(self) -> str:
        return f"Route({self.key!r} on {self.partition!r}, {self.role}, epoch {self.epoch}, version {self.table_version})"

    def same_owner(self, other: Route) -> bool:
        """Whether nothing has moved between both answers."""
        return (self.partition, self.epoch) == (other.partition, other.epoch)


@dataclass(frozen=True, slots=True)
class PartitionAddress:
    """A partition that holds data, and where it answers."""

    partition: str
    location: str
    uri: str

    def __repr__(self) -> str:
        return f"PartitionAddress({self.partition!r})"


class ReadPreference(NamedTuple):
    """What a read asks for besides its key: to be near ``location``, and at most ``max_staleness`` seconds behind."""

    location: str | None = None
    max_staleness: float | None = None


ANYWHERE = ReadPreference()


class RouteSource(Protocol):
    """The sidecar, or what stands in for it."""

    def route(self, key: str, operation: Operation, wish: ReadPreference) -> Route:
        """Raise :class:`Unreachable` where nobody answers, :class:`foreshard.errors.RouteRefused` where the key is refused."""

    def routes(self, keys: Sequence[str], operation: Operation, wish: ReadPreference) -> dict[str, Route]:
        """The routes of many keys, as of one table; raises like ``route``."""

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every registered partition."""

    def refresh(self) -> None:
        """Have the newest published table; raise :class:`Unreachable` where that can't be had."""

    def close(self) -> None:
        """Give connections back."""


class LocalSource(RouteSource, Protocol):
    """A source in this process that answers at once."""

    def version(self) -> int:
        """The version of the table that it answers from; 0 where it has none."""

    def avoid(self, partition: str) -> None:
        """Note that this process could not reach a partition."""


class Router:
    """Routes for one client: in process where there is a ``local`` source, else by asking ``source``.

    What ``source`` answers is kept for ``keep`` seconds, and dropped as soon as any answer shows a newer table; an answer that
    is newer than the local table stands over it until that has caught up. A kept answer, and a local table, may be stale. For
    writes that is safe, because the fence refuses a write at a key's old place; deletes pass the fence, so they ask with
    ``fresh=True``. ``keep`` must stay far below the grace period, after which an old place is emptied.
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
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed_at = float("-inf")

    def known(self, key: str, operation: Operation, wish: ReadPreference = ANYWHERE) -> Route | None:
        """The route of ``key`` where it can be told without asking anyone."""
        if self._local is not None:
            newer = self._newer(key) if self._learned else None
            if newer is not None:
                return newer
            try:
                return self._local.route(key, operation, wish)
            except Unreachable:
                pass
        kept = self._kept.get((key, operation, wish if operation is Operation.READ else ANYWHERE))
        return kept[1] if kept is not None and self._clock() - kept[0] < self._keep else None

    def route(self, key: str, operation: Operation, wish: ReadPreference = ANYWHERE, *, fresh: bool = False) -> Route:
        """Where ``key`` lives; ``fresh`` asks anew."""
        found = None if fresh else self.known(key, operation, wish)
        if found is not None:
            return found
        now = self._clock()
        answer = self._source.route(key, operation, wish)
        self._remember((key, operation, wish if operation is Operation.READ else ANYWHERE), answer, now)
        return answer

    def routes(
        self, keys: Sequence[str], operation: Operation, wish: ReadPreference = ANYWHERE, *, fresh: bool = False
    ) -> dict[str, Route]:
        """Where many keys live; those that are not known are asked for at once."""
        known: dict[str, Route] = {}
        if not fresh:
            known = {key: route for key in keys if (route := self.known(key, operation, wish)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if len(missing) == 1:
            known[missing[0]] = self.route(missing[0], operation, wish, fresh=fresh)
        elif missing:
            now = self._clock()
            answers = self._source.routes(missing, operation, wish)
            place = wish if operation is Operation.READ else ANYWHERE
            for key, answer in answers.items():
                self._remember((key, operation, place), answer, now)
            known.update(answers)
        return {key: known[key] for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every partition that may hold documents."""
        return self._source.partitions()

    def avoid(self, partition: str) -> None:
        """Send reads elsewhere for a while: this process could not reach ``partition``."""
        if self._local is not None:
            self._local.avoid(partition)

    def refresh(self, since: float) -> None:
        """Have a table that was read after the moment ``since`` of the clock; many waiting threads share one request.

        A sidecar that can't refresh now is no error here: the caller asks again until its deadline.
        """
        with self._refreshing:
            if self._refreshed_at > since:
                return
            begun = self._clock()
            try:
                self._source.refresh()
            except Unreachable:
                pass
            else:
                self._refreshed_at = begun
            self.forget()

    def forget(self) -> None:
        """Ask anew for every key."""
        with self._lock:
            self._kept.clear()

    def now(self) -> float:
        """The clock that ``refresh`` compares with."""
        return self._clock()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _newer(self, key: str) -> Route | None:
        """What the sidecar said of ``key`` since the local table; forgotten once that is as new."""
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
