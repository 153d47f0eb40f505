"""When this client has written each key, so that it reads its own writes from no shadow that lacks them.

A write is remembered with the cluster time that its partition has answered with. A shadow that has everything up to a time of
the same partition has the write if its time is not earlier. No clock is compared. A time of the partition is missing where the
answer was lost, and does not help after the key has moved to another one. Then the shadow must be ``UNSURE`` seconds ahead of
the write, by the control database's clock, which may be set forward.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from foreshard.client.routing.forking import renewed_after_fork
from foreshard.model.cluster_time import ClusterTime

MOST_REMEMBERED = 20_000
UNSURE = 60.0
"""Seconds that a shadow must be ahead of a write whose cluster time does not compare with the shadow's."""


class OwnWrite(NamedTuple):
    """A write: its monotonic time, and the cluster time at which its partition had it (None: unknown)."""

    moment: float
    at: ClusterTime | None


class OwnWrites:
    """A client's last write of each key. Thread-safe.

    If there are too many keys, the older half is forgotten, and its latest time stands for all keys that are not remembered.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MOST_REMEMBERED) -> None:
        self._clock, self._most = clock, most
        self._written: dict[str, OwnWrite] = {}
        self._forgotten = float("-inf")
        self.renew()
        renewed_after_fork(self)

    def note(self, *keys: str, at: ClusterTime | None = None) -> None:
        """Note that a write of these keys has been answered, or may have been applied."""
        with self._lock:
            write = OwnWrite(self._clock(), at)
            for key in keys:
                self._written.pop(key, None)
                self._written[key] = write
            while len(self._written) > self._most:
                for old in list(self._written)[: self._most // 2]:
                    self._forgotten = self._written.pop(old).moment

    def are_in(self, key: str, caught_up: float | None, applied_to: ClusterTime | None) -> bool:
        """Whether a copy has this client's writes of ``key``.

        It has all writes up to ``applied_to``, and up to the monotonic time ``caught_up`` (None: unknown).
        """
        written = self._written.get(key)
        if written is None and self._forgotten == float("-inf"):
            return True
        at = written.at if written is not None else None
        if at is not None and applied_to is not None and applied_to.partition == at.partition:
            return applied_to.covers(at)
        moment = self._forgotten if written is None else written.moment
        return caught_up is not None and caught_up > moment + UNSURE

    def renew(self) -> None:
        """Make a new lock, here and in the child of a fork."""
        self._lock = threading.Lock()
