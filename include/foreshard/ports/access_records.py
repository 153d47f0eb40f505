"""Where the client library leaves its access records."""

from __future__ import annotations

from typing import Protocol

from foreshard.model import AccessRecord


class AccessEmitter(Protocol):
    """Takes access records without ever blocking or failing the app; what can't be kept is dropped and counted."""

    def emit(self, record: AccessRecord) -> None: ...

    def flush(self, timeout: float) -> int:
        """Wait until every record is delivered, at most ``timeout`` seconds; return how many are not."""

    @property
    def dropped(self) -> int:
        """How many records were lost so far."""

    def close(self, timeout: float = 5.0) -> None:
        """Flush and stop."""
