"""Who answers "where does this key live, for me, now?": the protocol, the answer, and the short-lived cache over it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from foreshard.errors import Unreachable


class Operation(StrEnum):
    """What a route is asked for: writes go to the primary copy, reads may go to a shadow copy."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Route:
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


class RouteSource(Protocol):
    """The sidecar, or what stands in for it."""

    def route(self, key: str, operation: Operation, location: str | None) -> Route:
        """Raise :class:`Unreachable` where nobody answers, :class:`foreshard.errors.RouteRefused` where the key is refused."""
        ...

    def routes(self, keys: Sequence[str], operation: Operation, location: str | None) -> dict[str, Route]:
        """The routes of many keys, as of one table; raises like ``route``."""
        ...

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every registered partition."""
        ...

    def refresh(self) -> None:
        """Have the newest published table; raise :class:`Unreachable` where that can't be had."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class Router:
    """Routes for one client: answers are kept for ``keep`` seconds, and dropped as soon as any answer shows a newer table.

    A kept answer may be stale. For writes that is safe, because the fence refuses a write at a key's old place; deletes pass
    the fence, so they ask with ``fresh=True``. ``keep`` must stay far below the grace period, after which an old place is
    emptied.
    """

    def __init__(
        self, source: RouteSource, keep: float = 0.5, size: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._keep, self._size, self._clock = source, keep, size, clock
        self._kept: dict[tuple[str, Operation, str | None], tuple[float, Route]] = {}
        self._version = 0
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed_at = float("-inf")

    def route(self, key: str, operation: Operation, location: str | None = None, *, fresh: bool = False) -> Route:
        """Where ``key`` lives; ``fresh`` asks anew."""
        asked = (key, operation, location if operation is Operation.READ else None)
        now = self._clock()
        kept = None if fresh else self._kept.get(asked)
        if kept is not None and now - kept[0] < self._keep:
            return kept[1]
        answer = self._source.route(key, operation, location)
        self._remember(asked, answer, now)
        return answer

    def routes(
        self, keys: Sequence[str], operation: Operation, location: str | None = None, *, fresh: bool = False
    ) -> dict[str, Route]:
        """Where many keys live; those that no kept answer tells are asked for at once."""
        now = self._clock()
        place = location if operation is Operation.READ else None
        known: dict[str, Route] = {}
        if not fresh:
            kept = {key: self._kept.get((key, operation, place)) for key in keys}
            known = {key: one[1] for key, one in kept.items() if one is not None and now - one[0] < self._keep}
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if len(missing) == 1:
            known[missing[0]] = self.route(missing[0], operation, location, fresh=fresh)
        elif missing:
            answers = self._source.routes(missing, operation, location)
            for key, answer in answers.items():
                self._remember((key, operation, place), answer, now)
            known.update(answers)
        return {key: known[key] for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every partition that may hold documents."""
        return self._source.partitions()

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

    def _remember(self, asked: tuple[str, Operation, str | None], answer: Route, asked_at: float) -> None:
        if self._keep <= 0:
            return
        with self._lock:
            if answer.table_version < self._version:
                return
            if answer.table_version > self._version or len(self._kept) >= self._size:
                self._kept.clear()
                self._version = answer.table_version
            self._kept[asked] = (asked_at, answer)
