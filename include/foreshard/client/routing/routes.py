"""Routes, the sources that answer them, and the fallback from one source to another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from foreshard.client._types import Result
from foreshard.errors import Unreachable
from foreshard.model.cluster_time import ClusterTime
from foreshard.routing.decision import SHADOW
from foreshard.routing.homes import Homes


class Operation(StrEnum):
    """The kind of access: writes go to the primary copy, reads may go to a shadow."""

    READ = "read"
    WRITE = "write"


class Route(NamedTuple):
    """The copy to use for one access. ``uri`` may contain secrets, so ``repr`` leaves it out."""

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

    @property
    def is_shadow(self) -> bool:
        """Whether it leads to a shadow."""
        return self.role == SHADOW

    def same_owner(self, other: Route) -> bool:
        """Whether the key has the same owner in both answers."""
        return (self.partition, self.epoch) == (other.partition, other.epoch)


@dataclass(frozen=True, slots=True)
class PartitionAddress:
    """A partition and its address."""

    partition: str
    location: str
    uri: str

    def __repr__(self) -> str:
        return f"PartitionAddress({self.partition!r})"


class ReadPreference(NamedTuple):
    """Preferences of a read: a copy near ``location``, at most ``max_staleness`` seconds behind.

    ``own_writes``: one that has this client's own writes.
    """

    location: str | None = None
    max_staleness: float | None = None
    own_writes: bool = True


ANYWHERE = ReadPreference()


class RouteSource(Protocol):
    """Answers where keys live: the sidecar, or its files."""

    def route(self, key: str, operation: Operation, preference: ReadPreference) -> Route:
        """Return where ``key`` lives.

        Raise :class:`Unreachable`, or :class:`foreshard.errors.RouteRefused` for an invalid key.
        """

    def routes(self, keys: Sequence[str], operation: Operation, preference: ReadPreference) -> dict[str, Route]:
        """Return where many keys live, all from one table. Raises like ``route``."""

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every registered partition."""

    def refresh(self) -> int:
        """Get the newest published table and return its version (0: unknown). Raise :class:`Unreachable` if that fails."""

    def age(self) -> float:
        """Seconds since the control database last confirmed the table; infinite if unknown. Raise :class:`Unreachable`."""

    def close(self) -> None:
        """Release connections and files."""


class LocalSource(RouteSource, Protocol):
    """A source in this process. It never waits for the network."""

    def version(self) -> int:
        """The version of its table; 0 without a table."""

    def caught_up(self, key: str, partition: str) -> float | None:
        """The monotonic time up to which a shadow has all writes, at least; None if unknown."""

    def applied_to(self, key: str, partition: str) -> ClusterTime | None:
        """The cluster time of its source up to which a shadow has all writes; None if unknown."""

    def homes(self) -> tuple[tuple[PartitionAddress, ...], Homes] | None:
        """The partitions and what lives on each; None if the table lists too many keys. Raise :class:`Unreachable`."""

    def avoid(self, partition: str) -> None:
        """Record that this process could not reach a partition."""


class FallbackRoutes:
    """Asks ``first``. While it does not answer, asks ``then``, and tries ``first`` again every ``patience`` seconds."""

    def __init__(
        self, first: RouteSource, then: RouteSource, patience: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._then, self._patience, self._clock = first, then, patience, clock
        self._again_at = float("-inf")
        self._missing: Unreachable | None = None

    def route(self, key: str, operation: Operation, preference: ReadPreference) -> Route:
        """Return where ``key`` lives."""
        return self._ask(lambda source: source.route(key, operation, preference))

    def routes(self, keys: Sequence[str], operation: Operation, preference: ReadPreference) -> dict[str, Route]:
        """Return where many keys live."""
        return self._ask(lambda source: source.routes(keys, operation, preference))

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every registered partition."""
        return self._ask(lambda source: source.partitions())

    def refresh(self) -> int:
        """Get the newest table. Raise :class:`Unreachable` if ``first`` can't: the other source has no newer one by itself."""
        if self._clock() >= self._again_at:
            try:
                version = self._first.refresh()
            except Unreachable as error:
                self._again_at, self._missing = self._clock() + self._patience, error
            else:
                self._missing = None
                return version
        version = self._then.refresh()
        if self._missing is not None:
            raise self._missing
        return version

    def age(self) -> float:
        """The age of the table that answers."""
        return self._ask(lambda source: source.age())

    def close(self) -> None:
        """Close both sources."""
        self._first.close()
        self._then.close()

    def _ask(self, question: Callable[[RouteSource], Result]) -> Result:
        if self._clock() >= self._again_at:
            try:
                answer = question(self._first)
            except Unreachable as error:
                self._again_at, self._missing = self._clock() + self._patience, error
            else:
                self._missing = None
                return answer
        try:
            return question(self._then)
        except Unreachable as error:
            raise (self._missing or error) from error
