"""Reads what the exporter shows from the control database: counts and latest entries, no whole collections.

Each part is read on its own, so that a form that can't be read hides its own figures only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pymongo
from bson import MinKey
from pymongo.database import Database
from pymongo.errors import PyMongoError

from foreshard.model.move_state import AFTER_SWITCH
from foreshard.model.shadow_state import ShadowState
from foreshard.settings import Settings
from foreshard.stores.control.accuracy import MongoAccuracyStore
from foreshard.stores.mongo_connections import Document
from foreshard.watch.state import (
    AccuracyStatus,
    ControlState,
    ForecastStatus,
    GateStatus,
    Limits,
    LoopStatus,
    MoveStatus,
    PartitionStatus,
    PlanStatus,
    ShadowStatus,
    TableStatus,
    TaskOutcome,
)

log = logging.getLogger(__name__)

RECENT_MOVES = 50
SIDECAR_SILENCE = timedelta(minutes=2)
"""A sidecar that has not acknowledged a version for so long is gone, not behind."""
COUNT_AGAIN = timedelta(minutes=5)

_Part = TypeVar("_Part")


class ControlReader:
    """Reads one :class:`ControlState` per call; ``patience`` seconds for all of it."""

    def __init__(self, database: Database[Document], settings: Settings, patience: float = 4.0) -> None:
        self._database, self._patience = database, patience
        plan, shadow, migrate = settings.plan, settings.shadow, settings.migrate
        self._limits = Limits(plan.high_water, shadow.maximum_staleness, migrate.stuck_after)
        self._keys: tuple[int, dict[str, int]] = (-1, {})
        self._models: tuple[datetime, datetime, dict[str, int]] | None = None

    def read(self, now: datetime) -> ControlState:
        """What stands in the control database now; ``failed`` names the parts that could not be read."""
        failed: list[str] = []

        def part(name: str, read: Callable[[], _Part]) -> _Part | None:
            if "connection" in failed:
                return None
            try:
                return read()
            except PyMongoError as error:
                failed.append("connection" if _is_gone(error) else name)
                log.warning("%s can't be read: %s", name, str(error).splitlines()[0])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                failed.append(name)
                log.warning("%s have an unknown form: %r", name, error)
            return None

        with pymongo.timeout(self._patience):
            return ControlState(
                self._limits,
                partitions=part("partitions", self._partitions),
                moves=part("moves", self._moves),
                shadows=part("shadows", self._shadows),
                gates=part("gates", self._gates),
                table=part("routing table", lambda: self._table(now)),
                forecast=part("forecasts", lambda: self._forecast(now)),
                accuracy=part("forecast accuracy", self._accuracy),
                plan=part("plans", self._plan),
                loop=part("hours", self._loop),
                open_conflicts=part("conflicts", lambda: self._database["conflicts"].count_documents({"state": "open"})),
                outcomes=part("task outcomes", self._outcomes),
                failed=tuple(failed),
            )

    def _partitions(self) -> tuple[PartitionStatus, ...]:
        reports = {found["_id"]: found for found in self._database["partition_load"].find()}
        scored = self._scored()
        keys = self._keys_by_partition()
        return tuple(
            PartitionStatus(
                partition_id=found["_id"],
                geographic_location=found["geographic_location"],
                capacity=found["capacity"],
                current_load=found.get("current_load", 0.0),
                predicted_load=found.get("predicted_load", 0.0),
                draining=found.get("state") == "draining",
                lps=found["predicted_load"] / found["capacity"] if found["_id"] in scored else None,
                keys=keys.get(found["_id"], 0),
                reachable=reports.get(found["_id"], {}).get("reachable"),
                reported_at=reports.get(found["_id"], {}).get("reported_at"),
            )
            for found in self._database["partitions"].find({}, {"uri": 0}).sort("_id")
        )

    def _scored(self) -> set[str]:
        """The partitions of the latest hour's scores; their LPS now is that of the table as published since."""
        latest = self._database["scores"].find_one({}, {"hour": 1}, sort=[("hour", -1)])
        return set(self._database["scores"].distinct("partition_id", {"hour": latest["hour"]})) if latest else set()

    def _keys_by_partition(self) -> dict[str, int]:
        """Counted once per table version: it walks over the whole table."""
        version = self._version()
        if self._keys[0] != version:
            rows = self._database["routing_table"].aggregate([{"$sortByCount": "$primary"}])
            self._keys = (version, {row["_id"]: row["count"] for row in rows})
        return self._keys[1]

    def _version(self) -> int:
        head = self._database["routing_state"].find_one({"_id": "table"}, {"version": 1})
        return int(head["version"]) if head else 0

    def _moves(self) -> MoveStatus:
        moves = self._database["moves"]
        unfinished = list(moves.find({"active": True}, {"planned_at": 1, "last": {"$last": "$history.at"}}))
        recent = list(
            moves.find({"state": {"$in": list(AFTER_SWITCH)}}, {"counters.pause_ms": 1, "last": {"$last": "$history.at"}})
            .sort("planned_at", -1)
            .limit(RECENT_MOVES)
        )
        pauses = (found.get("counters", {}).get("pause_ms") for found in recent)
        return MoveStatus(
            _states(moves),
            oldest_planned_at=min((found["planned_at"] for found in unfinished), default=None),
            waiting_since=min((found["last"] for found in unfinished if "last" in found), default=None),
            last_transition_at=max((found["last"] for found in (*unfinished, *recent) if "last" in found), default=None),
            pauses=tuple(pause / 1000 for pause in pauses if pause is not None),
        )

    def _shadows(self) -> ShadowStatus:
        shadows = self._database["shadows"]
        live: list[Document] = [
            {"$match": {"state": ShadowState.LIVE}},
            {"$group": {"_id": "$target", "oldest": {"$min": "$caught_up_at"}}},
        ]
        oldest = {row["_id"]: row["oldest"] for row in shadows.aggregate(live)}
        return ShadowStatus(
            _states(shadows),
            {partition: moment for partition, moment in oldest.items() if moment is not None},
            shadows.count_documents({"state": ShadowState.LIVE, "caught_up_at": None}),
        )

    def _gates(self) -> tuple[GateStatus, ...]:
        """The latest hour of each gate, by the index on ``_id`` alone: ids sort by gate, then hour."""
        found = []
        latest = self._database["gates"].find_one(sort=[("_id", -1)])
        while latest is not None:
            gate = latest["_id"]["gate"]
            asked_at = latest.get("at")
            found.append(GateStatus(gate, latest["_id"]["hour"], latest["passed"], len(latest["failures"]), asked_at))
            before = {"_id": {"$lt": {"gate": gate, "hour": MinKey()}}}
            latest = self._database["gates"].find_one(before, sort=[("_id", -1)])
        return tuple(reversed(found))

    def _table(self, now: datetime) -> TableStatus:
        head = self._database["routing_state"].find_one({"_id": "table"}) or {}
        version = int(head.get("version", 0))
        heard = {"reported_at": {"$gte": now - SIDECAR_SILENCE}}
        sidecars = self._database["sidecars"]
        return TableStatus(
            version,
            head.get("published_at"),
            self._database["routing_table"].estimated_document_count(),
            sidecars.count_documents(heard),
            sidecars.count_documents({**heard, "version": {"$lt": version}}),
        )

    def _forecast(self, now: datetime) -> ForecastStatus | None:
        """The models are counted anew for a new hour, and every ``COUNT_AGAIN``: there is one name per key."""
        from foreshard.forecast.fallback import CONSTANT, FALLBACKS

        hour = self._latest_forecast()
        if hour is None:
            return None
        if self._models is None or self._models[0] != hour or now - self._models[1] > COUNT_AGAIN:
            models: list[Document] = [{"$match": {"hour": hour}}, {"$unwind": "$models"}, {"$sortByCount": "$models"}]
            counted = {row["_id"]: row["count"] for row in self._database["forecasts"].aggregate(models)}
            self._models = (hour, now, counted)
        return ForecastStatus(self._models[2], frozenset(FALLBACKS) - {CONSTANT})

    def _latest_forecast(self) -> datetime | None:
        found = self._database["forecasts"].find_one({"hour": {"$type": "date"}}, {"hour": 1}, sort=[("hour", -1)])
        return found["hour"] if found else None

    def _accuracy(self) -> AccuracyStatus | None:
        latest = MongoAccuracyStore(self._database).latest()
        return AccuracyStatus(*latest[0]) if latest else None

    def _latest_plan(self) -> Document | None:
        sizes = {name: {"$size": f"${name}"} for name in ("moves", "shadows", "removals", "refusals")}
        return self._database["plans"].find_one({"dry_run": {"$ne": True}}, sizes, sort=[("_id", -1)])

    def _plan(self) -> PlanStatus | None:
        found = self._latest_plan()
        return PlanStatus(*(found[name] for name in ("moves", "shadows", "removals", "refusals"))) if found else None

    def _loop(self) -> LoopStatus:
        tallied = self._database["tallied_hours"].find_one(sort=[("_id", -1)])
        scored = self._database["scores"].find_one({}, {"hour": 1}, sort=[("hour", -1)])
        planned = self._latest_plan()
        hours = {
            "tally": tallied["_id"] if tallied else None,
            "forecast": self._latest_forecast(),
            "score": scored["hour"] if scored else None,
            "plan": planned["_id"] if planned else None,
        }
        known = {stage: hour for stage, hour in hours.items() if hour is not None}
        return LoopStatus(known, tallied.get("accesses", 0) if tallied else 0, tallied.get("keys", 0) if tallied else 0)

    def _outcomes(self) -> tuple[TaskOutcome, ...]:
        return tuple(
            TaskOutcome(found["dag_id"], found["task_id"], found["state"], found["count"], found.get("seconds", 0.0))
            for found in self._database["task_outcomes"].find().sort("_id")
        )


def _states(collection: Any) -> dict[str, int]:
    return {row["_id"]: row["count"] for row in collection.aggregate([{"$sortByCount": "$state"}])}


def _is_gone(error: PyMongoError) -> bool:
    return isinstance(error, pymongo.errors.ConnectionFailure) or error.timeout


def utc_now() -> datetime:
    """The exporter's clock."""
    return datetime.now(UTC)
