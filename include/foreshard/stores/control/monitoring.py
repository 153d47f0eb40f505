"""Reads what the exporter shows, through the stores of the control database: counts and latest entries.

Each part is read by itself. A part that cannot be read hides its own figures only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError

from foreshard.forecast.fallback import CONSTANT, FALLBACKS
from foreshard.measure.lps import load_prediction_scores
from foreshard.model import Partition, PartitionState
from foreshard.settings import Settings
from foreshard.stores.control.accuracy import MongoAccuracyStore
from foreshard.stores.control.conflicts import MongoConflictStore
from foreshard.stores.control.forecasts import MongoForecastStore
from foreshard.stores.control.gates import MongoGateStore
from foreshard.stores.control.move_journal import MongoMoveJournal
from foreshard.stores.control.partition_loads import MongoLoadStore
from foreshard.stores.control.plans import MongoPlanStore
from foreshard.stores.control.registry import MongoPartitionRegistry
from foreshard.stores.control.routing.store import MongoRoutingStore
from foreshard.stores.control.scores import MongoScoreStore
from foreshard.stores.control.shadows import MongoShadowStore
from foreshard.stores.control.tallies import latest_tally
from foreshard.stores.control.task_outcomes import MongoTaskOutcomeStore
from foreshard.stores.mongo_connections import Document
from foreshard.watch.state import AccuracyStatus, ControlState, ForecastStatus, Limits, LoopStatus, PartitionStatus, PlanStatus

log = logging.getLogger(__name__)

SIDECAR_SILENCE = timedelta(minutes=2)
"""A sidecar that has not acknowledged a version for this long counts as gone, not as behind."""

_Part = TypeVar("_Part")


class ControlReader:
    """Reads one :class:`ControlState` per call, in at most ``patience`` seconds."""

    def __init__(self, database: Database[Document], settings: Settings, patience: float = 4.0) -> None:
        self._patience = patience
        plan, shadow, migrate = settings.plan, settings.shadow, settings.migrate
        self._limits = Limits(plan.high_water, shadow.maximum_staleness, migrate.stuck_after)
        self._kept = migrate.source_kept
        self._registry, self._loads = MongoPartitionRegistry(database), MongoLoadStore(database)
        self._journal, self._shadows = MongoMoveJournal(database, migrate.lease_duration), MongoShadowStore(database)
        self._gates, self._routing = MongoGateStore(database), MongoRoutingStore(database)
        self._forecasts, self._accuracies = MongoForecastStore(database), MongoAccuracyStore(database)
        self._plans, self._scores, self._database = MongoPlanStore(database), MongoScoreStore(database), database
        self._conflicts, self._outcomes = MongoConflictStore(database), MongoTaskOutcomeStore(database)

    def read(self, now: datetime) -> ControlState:
        """Return the state now. ``failed`` names the parts that could not be read."""
        failed: list[str] = []

        def part(name: str, read: Callable[[], _Part]) -> _Part | None:
            if "connection" in failed:
                return None
            try:
                return read()
            except PyMongoError as error:
                failed.append("connection" if _is_gone(error) else name)
                log.warning("%s cannot be read: %s", name, str(error).splitlines()[0])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                failed.append(name)
                log.warning("%s have an unknown form: %r", name, error)
            return None

        with pymongo.timeout(self._patience):
            return ControlState(
                self._limits,
                partitions=part("partitions", self._partitions),
                moves=part("moves", lambda: self._journal.status(self._kept)),
                shadows=part("shadows", self._shadows.status),
                gates=part("gates", self._gates.latest),
                table=part("routing table", lambda: self._routing.status(now - SIDECAR_SILENCE)),
                forecast=part("forecasts", self._forecast),
                accuracy=part("forecast accuracy", self._accuracy),
                plan=part("plans", self._plan),
                loop=part("hours", self._loop),
                open_conflicts=part("conflicts", self._conflicts.count_open),
                outcomes=part("task outcomes", self._outcomes.outcomes),
                failed=tuple(failed),
            )

    def _partitions(self) -> tuple[PartitionStatus, ...]:
        reports = {load.partition_id: load for load in self._loads.current()}
        scored = self._scores.latest()
        slots, listed = self._routing.counts()
        return tuple(
            PartitionStatus(
                partition_id=partition.partition_id,
                geographic_location=partition.geographic_location,
                capacity=partition.capacity,
                current_load=partition.current_load,
                predicted_load=partition.predicted_load,
                draining=partition.state is PartitionState.DRAINING,
                lps=_lps(partition) if scored and partition.partition_id in scored[1] else None,
                slots=slots.get(partition.partition_id, 0),
                keys=listed.get(partition.partition_id, 0),
                reachable=report.reachable if (report := reports.get(partition.partition_id)) else None,
                reported_at=report.reported_at if report else None,
            )
            for partition in self._registry.partitions()
        )

    def _forecast(self) -> ForecastStatus | None:
        hour = self._forecasts.latest_hour()
        return None if hour is None else ForecastStatus(self._forecasts.count_models(hour), frozenset(FALLBACKS) - {CONSTANT})

    def _accuracy(self) -> AccuracyStatus | None:
        latest = self._accuracies.latest()
        return AccuracyStatus(*latest[0]) if latest else None

    def _plan(self) -> PlanStatus | None:
        latest = self._plans.latest_status()
        return latest[1] if latest else None

    def _loop(self) -> LoopStatus:
        tallied, scored, planned = latest_tally(self._database), self._scores.latest(), self._plans.latest_status()
        hours = {
            "tally": tallied.hour if tallied else None,
            "forecast": self._forecasts.latest_hour(),
            "score": scored[0] if scored else None,
            "plan": planned[0] if planned else None,
        }
        known = {stage: hour for stage, hour in hours.items() if hour is not None}
        return LoopStatus(known, tallied.accesses if tallied else 0, tallied.keys if tallied else 0)


def _is_gone(error: PyMongoError) -> bool:
    return isinstance(error, pymongo.errors.ConnectionFailure) or error.timeout


def utc_now() -> datetime:
    """Return the exporter's clock."""
    return datetime.now(UTC)


def _lps(partition: Partition) -> float:
    return float(load_prediction_scores([partition.predicted_load], partition.capacity))
