"""Asks the sidecar and, while it does not answer, what stands in for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from foreshard.client._routes import Operation, PartitionAddress, ReadPreference, Route, RouteSource
from foreshard.errors import Unreachable

_Result = TypeVar("_Result")


class FallbackRoutes:
    """Asks ``first``; while it does not answer, asks ``then``, and tries ``first`` again every ``patience`` seconds."""

    def __init__(
        self, first: RouteSource, then: RouteSource, patience: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._then, self._patience, self._clock = first, then, patience, clock
        self._again_at = float("-inf")
        self._missing: Unreachable | None = None

    def route(self, key: str, operation: Operation, wish: ReadPreference) -> Route:
        """Where ``key`` lives."""
        return self._ask(lambda source: source.route(key, operation, wish))

    def routes(self, keys: Sequence[str], operation: Operation, wish: ReadPreference) -> dict[str, Route]:
        """Where many keys live."""
        return self._ask(lambda source: source.routes(keys, operation, wish))

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

    def _ask(self, question: Callable[[RouteSource], _Result]) -> _Result:
        if self._clock() >= self._again_at:
            try:
                return question(self._first)
            except Unreachable as error:
                self._again_at = self._clock() + self._patience
                self._missing = error
        try:
            return question(self._then)
        except Unreachable as error:
            raise (self._missing or error) from error
