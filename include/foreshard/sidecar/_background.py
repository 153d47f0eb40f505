"""Begins to follow the control database while requests are answered already.

What the follower needs (the settings' checks, the database's driver) takes a third of a second to import, most of a start.
So it is imported in the follower's own thread, after the saved table answers. Imports give way to answers like any other code,
but for pieces of some milliseconds; only a process that has just started is held up by them.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from foreshard.errors import Unreachable
from foreshard.sidecar._workers import START_ANEW

if TYPE_CHECKING:
    from foreshard.settings import Settings
    from foreshard.sidecar._follower import Follower
    from foreshard.sidecar._saved_copy import SavedCopy
    from foreshard.sidecar._service import RouteService

SYNC_PATIENCE = 1.5
"""How long a refresh waits for a follower that is being made (s)."""
IMPORTED_LATER = (
    "foreshard.wiring",
    "foreshard.sidecar._follower",
    *(f"foreshard.stores.control.{name}" for name in ("registry", "routing_table", "partition_loads", "control_feed")),
    "foreshard.sidecar._exposition",
)

Build = Callable[[], "Follower"]
Read = Callable[[], "Settings | None"]
"""Reads the settings; None: they are not what was remembered of them."""

log = logging.getLogger(__name__)


class Background:
    """One per worker process."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._made = threading.Event()
        self._stopped = False
        self._follower: Follower | None = None
        self._thread = threading.Thread(target=self._run, name="start", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def first_try(self, seconds: float) -> None:
        """Wait until the control database was asked once, for ``seconds`` at most."""
        deadline = time.monotonic() + seconds
        if self._made.wait(seconds) and self._follower is not None:
            self._follower.first_try.wait(max(0.0, deadline - time.monotonic()))

    def sync(self) -> int:
        """The follower's ``sync``; raise :class:`Unreachable` where there is no follower yet."""
        if not self._made.wait(SYNC_PATIENCE) or self._follower is None:
            raise Unreachable("control database", "its address", "the sidecar has just started; ask again")
        return self._follower.sync()

    def stop(self) -> None:
        """Stop following; blocks for a few seconds at most."""
        self._stopped = True
        if self._follower is not None:
            self._follower.stop()

    def _run(self) -> None:
        try:
            import_the_rest()
            self._follower = self._build()
            if not self._stopped:
                self._follower.start()
        except Exception:
            log.exception("the sidecar can't follow the control database; it answers from its file")
        finally:
            gc.enable()
            self._made.set()


def import_the_rest() -> None:
    """Import what answers do without; none of it is garbage later."""
    for module in IMPORTED_LATER:
        importlib.import_module(module)
    gc.freeze()


def follower_of(service: RouteService, saved: SavedCopy, read: Read, name: str) -> Follower:
    """The follower of the settings' control database; ends the process where they say something else than was remembered."""
    from foreshard.sidecar._follower import Follower
    from foreshard.wiring import Wiring

    settings = read()
    if settings is None:
        log.warning("the settings are not what was remembered of them; the sidecar starts anew")
        os._exit(START_ANEW)
    return Follower.build(service, saved, Wiring(settings), name)
