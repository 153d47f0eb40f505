"""What the page in Airflow reads besides the stages' own results."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol


class PageStore(Protocol):
    """Summaries of the control database for people. Nothing is written."""

    def publication(self, version: int) -> tuple[datetime | None, str]:
        """Return when a version of the routing table was published, and its cause."""
        ...

    def latest_plan_hour(self) -> datetime | None:
        """Return the newest hour with a plan."""
        ...

    def open_shadows(self, limit: int) -> tuple[Mapping[str, Any], ...]:
        """Return the newest shadows that are not retired."""
        ...

    def sidecars(self, version: int) -> tuple[int, int]:
        """Return the number of sidecars, and how many answer from an older version than ``version``."""
        ...

    def open_conflicts(self) -> int:
        """Return the number of unresolved conflicts."""
        ...

    def failed_tasks(self, limit: int) -> tuple[Mapping[str, Any], ...]:
        """Return the tasks that have failed, the latest first."""
        ...

    def table_counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return (partition → slots, partition → listed keys)."""
        ...
