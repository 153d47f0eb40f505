"""Saves loads and freshness beside the table's file, for clients that route in process.

Several processes may write the same file (the workers of one sidecar). Each writes only if the file is old enough.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from foreshard.model import PartitionLoad
from foreshard.ports.control_feed import ShadowFreshness
from foreshard.ports.routing_file import LiveClock, LiveRouting, LiveRoutingStore

KEEP_EVERY = 1.0

log = logging.getLogger(__name__)


class LiveCopy:
    """Writes the loads and the freshness that a follower learns. Used by the follower's thread only."""

    def __init__(self, file: LiveRoutingStore) -> None:
        self._file = file
        self._loads: dict[str, PartitionLoad] = {}
        self._fresh: dict[tuple[str, str], ShadowFreshness] = {}
        self._clock: LiveClock | None = None
        self._changed = self._warned = False
        self._checked_at = float("-inf")

    def install(self, loads: Iterable[PartitionLoad], freshness: Iterable[ShadowFreshness]) -> None:
        """Replace all loads and freshness."""
        self._loads = {one.partition_id: one for one in loads}
        self._fresh = {(one.key, one.partition): one for one in freshness}
        self._changed = True

    def load(self, load: PartitionLoad) -> None:
        """Set a partition's load."""
        self._loads[load.partition_id] = load
        self._changed = True

    def freshen(self, freshness: ShadowFreshness) -> None:
        """Set how fresh a shadow is."""
        self._fresh[freshness.key, freshness.partition] = freshness
        if freshness.caught_up_at is None:
            del self._fresh[freshness.key, freshness.partition]
        self._changed = True

    def confirm(self, clock: LiveClock) -> None:
        """Set which table the control database has confirmed, and when."""
        self._clock = clock
        self._changed = True

    def keep(self, now: float) -> None:
        """Write the changes if the file is at least ``KEEP_EVERY`` seconds old. ``now`` is a monotonic time."""
        if not self._changed or now - self._checked_at < KEEP_EVERY / 4:
            return
        self._checked_at = now
        if 0 <= time.time() - self._file.stamp() / 1e9 < KEEP_EVERY:  # below 0: the wall clock was set back
            return
        try:
            self._file.write(self._live())
        except OSError as error:
            if not self._warned:
                log.warning("loads and freshness can't be saved (%s); clients that route in process use distances only", error)
            self._warned = True
            return
        self._changed = self._warned = False

    def _live(self) -> LiveRouting:
        caught_up = {place: one.caught_up_at for place, one in self._fresh.items() if one.caught_up_at is not None}
        applied = {place: one.applied_to for place, one in self._fresh.items() if one.applied_to is not None}
        return LiveRouting(tuple(self._loads.values()), caught_up, self._clock, applied)
