"""How the tasks of the DAGs ended."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class TaskOutcomeStore(Protocol):
    """Counts per task and end state (``task_outcomes``)."""

    def record(self, dag: str, task: str, state: str, seconds: float, at: datetime, error: str | None = None) -> None:
        """Count one end of a task, and add the ``seconds`` that it took."""
