"""Whether a move makes shadows fall behind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from foreshard.model.shadow_state import CAUGHT_UP
from foreshard.ports.replication import ShadowStore


class ShadowGauge:
    """Implements :class:`foreshard.ports.pacing.StrainGauge`.

    It suffers while a shadow of the two partitions is too far behind that was not when the gauge was first
    read.
    """

    def __init__(self, shadows: ShadowStore, partitions: Sequence[str], limit: timedelta) -> None:
        self._shadows, self._partitions, self._limit = shadows, frozenset(partitions), limit
        self._behind_before: frozenset[str] | None = None

    def strain(self) -> str | None:
        """Return the sentence of the first such shadow."""
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
