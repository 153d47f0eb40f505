"""Routing in process from the sidecar's last-known-good file, for the time when the sidecar is down.

The file says who owns a key, not how loaded partitions are or how fresh shadows are; so every route leads to the primary
copy. It may be stale, which is safe for writes because of the fence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from foreshard.adapters.routing_file import FILES, SavedRouting, read_routing, stamp
from foreshard.client.routes import Operation, PartitionAddress, Route, RouteSource
from foreshard.errors import CorruptRoutingFile, UnknownPartition, Unreachable
from foreshard.routing.table import locate

Result = TypeVar("Result")


class FileRoutes:
    """Routes from the files in ``folder``; they are read again when the sidecar has replaced them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read: tuple[int, SavedRouting] | None = None

    def route(self, key: str, operation: Operation, location: str | None) -> Route:  # noqa: ARG002 (the sidecar's protocol)
        """The key's primary copy."""
        saved = self._saved()
        placement = locate(saved.table, key)
        addresses = {p.partition_id: p for p in saved.partitions}
        if placement.primary not in addresses:
            raise UnknownPartition(placement.primary, tuple(addresses))
        at = addresses[placement.primary]
        reason = "the sidecar is down: the primary copy, by the last-known-good table"
        version = saved.table.version
        return Route(key, at.partition_id, at.geographic_location, "primary", placement.epoch, version, reason, at.uri)

    def routes(self, keys: Sequence[str], operation: Operation, location: str | None) -> dict[str, Route]:
        """The keys' primary copies."""
        return {key: self.route(key, operation, location) for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """The partitions that the file knows."""
        return tuple(PartitionAddress(p.partition_id, p.geographic_location, p.uri) for p in self._saved().partitions)

    def refresh(self) -> None:
        """Nothing newer than the file can be had."""

    def close(self) -> None:
        """Forget the file."""
        self._read = None

    def _saved(self) -> SavedRouting:
        found = stamp(self._folder)
        read = self._read
        if read is not None and read[0] == found:
            return read[1]
        for path in (self._folder / name for name in FILES):
            try:
                with self._lock:
                    self._read = (found, read_routing(path))
                    return self._read[1]
            except (OSError, CorruptRoutingFile):
                continue
        raise Unreachable("routing file", str(self._folder), "start the sidecar, which writes it")


class FallbackRoutes:
    """Asks ``first``; while it does not answer, asks ``then``, and tries ``first`` again every ``patience`` seconds."""

    def __init__(
        self, first: RouteSource, then: RouteSource, patience: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._then, self._patience, self._clock = first, then, patience, clock
        self._again_at = float("-inf")

    def route(self, key: str, operation: Operation, location: str | None) -> Route:
        """Where ``key`` lives."""
        return self._ask(lambda source: source.route(key, operation, location))

    def routes(self, keys: Sequence[str], operation: Operation, location: str | None) -> dict[str, Route]:
        """Where many keys live."""
        return self._ask(lambda source: source.routes(keys, operation, location))

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every registered partition."""
        return self._ask(lambda source: source.partitions())

    def refresh(self) -> None:
        """Have the newest table that there is."""
        self._ask(lambda source: source.refresh())

    def close(self) -> None:
        """Close both."""
        self._first.close()
        self._then.close()

    def _ask(self, question: Callable[[RouteSource], Result]) -> Result:
        missing: Unreachable | None = None
        if self._clock() >= self._again_at:
            try:
                return question(self._first)
            except Unreachable as error:
                self._again_at = self._clock() + self._patience
                missing = error
        try:
            return question(self._then)
        except Unreachable as error:
            raise (missing or error) from error
