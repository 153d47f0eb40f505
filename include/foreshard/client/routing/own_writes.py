"""When this client has written each key, so that it reads its own writes from no shadow that lacks them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from foreshard.client.routing.forking import renewed_after_fork

MOST_REMEMBERED = 20_000


class OwnWrites:
    """The monotonic times of a client's last writes. Thread-safe.

    If there are too many keys, the older half is forgotten, and its latest time stands for all keys that are not remembered.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MOST_REMEMBERED) -> None:
        self._clock, self._most = clock, most
        self._at: dict[str, float] = {}
        self._forgotten = float("-inf")
        self.renew()
        renewed_after_fork(self)

    def note(self, *keys: str) -> None:
        """Note that a write of these keys has been answered, or may have been applied."""
        with self._lock:
            now = self._clock()
            for key in keys:
                self._at.pop(key, None)
                self._at[key] = now
            while len(self._at) > self._most:
                for old in list(self._at)[: self._most // 2]:
                    self._forgotten = self._at.pop(old)

    def are_in(self, key: str, caught_up: float | None) -> bool:
        """Whether a copy that has all writes up to the time ``caught_up`` (None: unknown) has this client's."""
        written = self._at.get(key, self._forgotten)
        return written == float("-inf") or (caught_up is not None and caught_up > written)

    def renew(self) -> None:
        """Make a new lock, here and in the child of a fork."""
        self._lock = threading.Lock()
