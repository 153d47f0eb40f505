"""The state of the control database at one scrape, as plain values. Pure. A part that could not be read is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition; loads in cost units per second. Values that are not reported or scored yet are None."""

    partition_id: str
    geographic_location: str
    capacity: float
    current_load: float
    predicted_load: float
    draining: bool = False
    lps: float | None = None
    keys: int = 0
    reachable: bool | None = None
    reported_at: datetime | None = None
    slots: int = 0


@dataclass(frozen=True, slots=True)
class MoveStatus:
    """The moves by state, and how long unfinished moves have waited.

    ``oldest_planned_at`` and ``waiting_since`` (the oldest last transition) are of unfinished moves. ``pauses`` are the cutover
    pauses of the latest moves in seconds, newest first.
    """

    by_state: Mapping[str, int]
    oldest_planned_at: datetime | None = None
    waiting_since: datetime | None = None
    last_transition_at: datetime | None = None
    pauses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ShadowStatus:
    """The shadows by state, and per target partition the freshness of its least fresh live shadow.

    ``unknown`` counts live shadows without a reported freshness.
    """

    by_state: Mapping[str, int]
    caught_up_at: Mapping[str, datetime] = field(default_factory=dict)
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class GateStatus:
    """A gate's latest result."""

    gate: str
    hour: datetime
    passed: bool
    failures: int
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TableStatus:
    """The published routing table, and the sidecars heard recently."""

    version: int
    published_at: datetime | None
    listed_keys: int
    sidecars: int = 0
    sidecars_behind: int = 0


@dataclass(frozen=True, slots=True)
class ForecastStatus:
    """The latest forecasts: keys per model. ``fallbacks`` names the models that are fallbacks."""

    models: Mapping[str, int]
    fallbacks: frozenset[str]

    @property
    def fallback_share(self) -> float:
        """The share of keys forecast by a fallback (0 without keys)."""
        total = sum(self.models.values())
        return sum(count for model, count in self.models.items() if model in self.fallbacks) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class AccuracyStatus:
    """Accuracy of the latest forecast whose horizon is over: its last ``hour``, and figures by model (``all``: every key)."""

    hour: datetime
    models: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class PlanStatus:
    """The latest plan that was not a dry run."""

    moves: int
    shadows: int
    removals: int
    refusals: int


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """Stage → its latest hour, and the size of the latest counted hour."""

    hours: Mapping[str, datetime]
    accesses: int = 0
    keys: int = 0


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How often a task of the DAGs ended in a state, and the total seconds of those runs."""

    dag: str
    task: str
    state: str
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that alerts compare with."""

    high_water: float
    maximum_staleness: timedelta
    stuck_after: timedelta


@dataclass(frozen=True, slots=True)
class ControlState:
    """Everything read at one scrape."""

    limits: Limits
    partitions: tuple[PartitionStatus, ...] | None = None
    moves: MoveStatus | None = None
    shadows: ShadowStatus | None = None
    gates: tuple[GateStatus, ...] | None = None
    table: TableStatus | None = None
    forecast: ForecastStatus | None = None
    accuracy: AccuracyStatus | None = None
    plan: PlanStatus | None = None
    loop: LoopStatus | None = None
    open_conflicts: int | None = None
    outcomes: tuple[TaskOutcome, ...] | None = None
    failed: tuple[str, ...] = ()
