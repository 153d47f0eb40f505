"""Whether a move makes shadows fall behind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from foreshard.model.shadow_state import CAUGHT_UP
from foreshard.ports.replication import ShadowStore

READ_EVERY = 2.0


class ShadowGauge:
    """Implements :class:`foreshard.ports.pacing.StrainGauge`.

    It suffers while a shadow of the two partitions is too far behind that was not when the gauge was first read. The shadows
    are read every ``READ_EVERY`` seconds.
    """

    def __init__(self, shadows: ShadowStore, partitions: Sequence[str], limit: timedelta) -> None:
        self._shadows, self._partitions, self._limit = shadows, frozenset(partitions), limit
        self._behind_before: frozenset[str] | None = None
        self._found: str | None = None
        self._read_at = float("-inf")

    def strain(self) -> str | None:
        """Return the sentence of the first such shadow."""
        if time.monotonic() - self._read_at >= READ_EVERY:
            self._read_at, self._found = time.monotonic(), self._read()
        return self._found

    def _read(self) -> str | None:
        latest = datetime.now(UTC) - self._limit
        behind = [
            shadow.shadow_id
            for shadow in self._shadows.shadows(CAUGHT_UP)
            if {shadow.source, shadow.target} & self._partitions and shadow.caught_up_at and shadow.caught_up_at < latest
        ]
        if self._behind_before is None:
            self._behind_before = frozenset(behind)
        new = sorted(set(behind) - self._behind_before)
        return f"shadow {new[0]} is more than {self._limit.total_seconds():g} s behind" if new else None
