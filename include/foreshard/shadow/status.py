"""What a replicator has done, for people and for summaries."""

from __future__ import annotations

from dataclasses import dataclass, field

from foreshard.ports.replication import Shadow
from foreshard.shadow._apply import ApplyCounts


@dataclass
class Status:
    """The figures of a replicator since its start, and its current problems by name."""

    active: bool = False
    captured: int = 0
    copied: int = 0
    counts: ApplyCounts = field(default_factory=ApplyCounts)
    unreadable: int = 0
    drift: str | None = None
    problems: dict[str, str] = field(default_factory=dict)
    shadows: tuple[Shadow, ...] = ()

    @property
    def line(self) -> str:
        """One line for people."""
        if not self.active:
            return "standing by: another process replicates" + self._troubles
        lags = [shadow.lag_ms for shadow in self.shadows if shadow.lag_ms is not None]
        lag = f"{max(lags)} ms" if lags else "unknown"
        return f"{len(self.shadows)} shadows, lag at most {lag}; {self.totals}{self._troubles}"

    @property
    def totals(self) -> str:
        """The counts since the start."""
        counts = self.counts
        return (
            f"captured {self.captured}, applied {counts.applied}, discarded {counts.discarded}, conflicts {counts.conflicts}, "
            f"copied {self.copied}"
        )

    @property
    def _troubles(self) -> str:
        troubles = [*self.problems.values(), *([self.drift] if self.drift else [])]
        return f"; trouble: {'; '.join(troubles)}" if troubles else ""
