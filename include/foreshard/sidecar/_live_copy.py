"""Keeps loads and freshness beside the saved table, for clients that route in process.

Several processes may keep the same file (the workers of one sidecar): whoever finds it old enough replaces it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from foreshard.model import PartitionLoad
from foreshard.stores.files.live_routing import LiveRouting, LiveRoutingFile

KEEP_EVERY = 1.0

log = logging.getLogger(__name__)


class LiveCopy:
    """One per follower; its thread calls it."""

    def __init__(self, folder: Path) -> None:
        self._file = LiveRoutingFile(folder)
        self._loads: dict[str, PartitionLoad] = {}
        self._caught_up_at: dict[tuple[str, str], float] = {}
        self._changed = self._warned = False
        self._looked_at = float("-inf")

    def install(self, loads: Iterable[PartitionLoad], caught_up_at: Mapping[tuple[str, str], float]) -> None:
        """Know these and no others."""
        self._loads, self._caught_up_at = {one.partition_id: one for one in loads}, dict(caught_up_at)
        self._changed = True

    def load(self, load: PartitionLoad) -> None:
        """Know a partition's load."""
        self._loads[load.partition_id] = load
        self._changed = True

    def freshen(self, key: str, partition: str, caught_up_at: float | None) -> None:
        """Know how fresh a shadow is; None: it is not usable."""
        if caught_up_at is None:
            self._caught_up_at.pop((key, partition), None)
        else:
            self._caught_up_at[key, partition] = caught_up_at
        self._changed = True

    def keep(self, now: float) -> None:
        """Write what has changed, where the file is old enough; ``now`` is a monotonic time."""
        if not self._changed or now - self._looked_at < KEEP_EVERY / 4:
            return
        self._looked_at = now
        if time.time() - self._file.stamp() / 1e9 < KEEP_EVERY:
            return
        try:
            self._file.write(LiveRouting(tuple(self._loads.values()), self._caught_up_at))
        except OSError as error:
            if not self._warned:
                log.warning("loads and freshness can't be saved (%s); clients that route in process go by distance", error)
            self._warned = True
            return
        self._changed = self._warned = False
