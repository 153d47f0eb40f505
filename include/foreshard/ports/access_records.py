"""Where the client sends its access records."""

from __future__ import annotations

from typing import Protocol

from foreshard.model import AccessRecord


class AccessEmitter(Protocol):
    """Accepts access records. Never blocks or raises; records that can't be kept are dropped and counted."""

    def emit(self, record: AccessRecord) -> None: ...

    def flush(self, timeout: float) -> int:
        """Wait until all records are delivered, for at most ``timeout`` seconds. Return how many are not."""

    @property
    def dropped(self) -> int:
        """Number of records lost so far."""

    def close(self, timeout: float = 5.0) -> None:
        """Flush and stop."""
