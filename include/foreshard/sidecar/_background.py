"""Starts the follower of the control database in a thread, while requests are already answered.

The follower needs the database driver, which takes about 0.1 s to import. Importing it in a thread keeps that out of a restart:
the saved table answers first.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from foreshard.errors import Unreachable

if TYPE_CHECKING:
    from foreshard.sidecar._follower import Follower

SYNC_PATIENCE = 1.5
"""Seconds that a refresh waits for a follower that is still being built."""

log = logging.getLogger(__name__)


class Background:
    """Builds and starts a worker's follower. One per worker process."""

    def __init__(self, build: Callable[[], Follower]) -> None:
        self._build = build
        self._built = threading.Event()
        self._stopped = False
        self._follower: Follower | None = None
        self._thread = threading.Thread(target=self._run, name="start", daemon=True)

    def start(self) -> None:
        """Build the follower in a thread, then start it."""
        self._thread.start()

    def first_try(self, seconds: float) -> None:
        """Wait until the follower has tried the control database once, for at most ``seconds``."""
        deadline = time.monotonic() + seconds
        if self._built.wait(seconds) and self._follower is not None:
            self._follower.first_try.wait(max(0.0, deadline - time.monotonic()))

    def sync(self) -> int:
        """Call the follower's ``sync``. Raise :class:`Unreachable` before the follower has started."""
        if not self._built.wait(SYNC_PATIENCE) or self._follower is None:
            raise Unreachable("control database", "its address", "the sidecar has just started; ask again")
        return self._follower.sync()

    def stop(self) -> None:
        """Stop following. Blocks for a few seconds at most."""
        self._stopped = True
        if self._follower is not None:
            self._follower.stop()

    def _run(self) -> None:
        try:
            self._follower = self._build()
            if not self._stopped:
                self._follower.start()
        except Exception:
            log.exception("the sidecar can't follow the control database; it answers from its file")
        finally:
            gc.enable()
            self._built.set()
