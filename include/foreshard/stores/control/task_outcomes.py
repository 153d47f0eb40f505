"""How the tasks of the DAGs ended: ``task_outcomes {_id: dag/task/state, dag_id, task_id, state, count, seconds, last_at,
error}``. ``seconds`` is summed over the runs.
"""

from __future__ import annotations

from datetime import datetime

import pymongo
from pymongo.database import Database

from foreshard.stores.mongo_connections import Document
from foreshard.watch.state import TaskOutcome

RECORD_TIMEOUT = 2.0
"""Seconds. Recording happens at the end of each task and must not delay it for long."""


class MongoTaskOutcomeStore:
    """Implements :class:`foreshard.ports.task_outcomes.TaskOutcomeStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._outcomes = database["task_outcomes"]

    def record(self, dag: str, task: str, state: str, seconds: float, at: datetime, error: str | None = None) -> None:
        fields: Document = {"dag_id": dag, "task_id": task, "state": state, "last_at": at}
        if error is not None:
            fields["error"] = error
        change = {"$set": fields, "$inc": {"count": 1, "seconds": seconds}}
        with pymongo.timeout(RECORD_TIMEOUT):
            self._outcomes.update_one({"_id": f"{dag}/{task}/{state}"}, change, upsert=True)

    def outcomes(self) -> tuple[TaskOutcome, ...]:
        """Return the counts, by DAG, task and state."""
        return tuple(
            TaskOutcome(found["dag_id"], found["task_id"], found["state"], found["count"], found.get("seconds", 0.0))
            for found in self._outcomes.find().sort("_id")
        )
