"""The control database as the page in Airflow shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.database import Database

from foreshard.model.shadow_state import ShadowState
from foreshard.stores.control.conflicts import MongoConflictStore
from foreshard.stores.control.routing.store import MongoRoutingStore
from foreshard.stores.mongo_connections import Document


class MongoPageStore:
    """Implements :class:`foreshard.ports.page.PageStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._routing, self._conflicts = MongoRoutingStore(database), MongoConflictStore(database)

    def publication(self, version: int) -> tuple[datetime | None, str]:
        """Return when a version of the routing table was published, and its cause."""
        found = self._database["routing_versions"].find_one({"_id": version}, {"cause": 1, "published_at": 1}) or {}
        return found.get("published_at"), str(found.get("cause", ""))

    def latest_plan_hour(self) -> datetime | None:
        """Return the newest hour with a plan."""
        newest = self._database["plans"].find_one({}, {"_id": 1}, sort=[("_id", -1)])
        return None if newest is None else newest["_id"]

    def open_shadows(self, limit: int) -> tuple[Mapping[str, Any], ...]:
        """Return the newest shadows that are not retired."""
        return self._open("shadows", [ShadowState.RETIRED.value], limit)

    def sidecars(self, version: int) -> tuple[int, int]:
        """Return the number of sidecars, and how many answer from an older version than ``version``."""
        sidecars = self._database["sidecars"]
        return sidecars.count_documents({}), sidecars.count_documents({"version": {"$lt": version}})

    def open_conflicts(self) -> int:
        """Return the number of unresolved conflicts."""
        return self._conflicts.count_open()

    def failed_tasks(self, limit: int) -> tuple[Mapping[str, Any], ...]:
        """Return the tasks that have failed, the latest first."""
        return tuple(self._database["task_outcomes"].find({"state": "failed"}).sort("last_at", -1).limit(limit))

    def table_counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return (partition → slots, partition → listed keys)."""
        return self._routing.counts()

    def _open(self, journal: str, ended: list[str], limit: int) -> tuple[Mapping[str, Any], ...]:
        return tuple(self._database[journal].find({"state": {"$nin": ended}}).sort("_id", -1).limit(limit))
