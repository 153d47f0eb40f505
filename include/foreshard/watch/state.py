"""What the exporter has read of the control database, as plain values. Pure.

A part that could not be read is None; the figures of the others are shown all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition: loads in cost units per second; what nobody has reported or scored yet is None."""

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


@dataclass(frozen=True, slots=True)
class MoveStatus:
    """The journal of moves: how many stand in each state, and what the unfinished ones have been waiting for.

    ``oldest_planned_at``: of the unfinished; ``waiting_since``: the oldest last transition of an unfinished move; ``pauses``:
    the cutover pauses (seconds) of the latest moves, newest first.
    """

    by_state: Mapping[str, int]
    oldest_planned_at: datetime | None = None
    waiting_since: datetime | None = None
    last_transition_at: datetime | None = None
    pauses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ShadowStatus:
    """Shadow copies: how many stand in each state; per target partition, when its least fresh live copy was last caught up.

    ``unknown``: live copies whose freshness nobody has reported.
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
    """The published routing table, and the sidecars that were heard of lately."""

    version: int
    published_at: datetime | None
    listed_keys: int
    sidecars: int = 0
    sidecars_behind: int = 0


@dataclass(frozen=True, slots=True)
class ForecastStatus:
    """The latest forecasts: how many keys each model made; ``fallbacks`` names those models that are none."""

    models: Mapping[str, int]
    fallbacks: frozenset[str]

    @property
    def fallback_share(self) -> float:
        """The share of keys that no real model served (0 without keys)."""
        total = sum(self.models.values())
        return sum(count for model, count in self.models.items() if model in self.fallbacks) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class AccuracyStatus:
    """How good the latest forecast that can be judged was: its last ``hour``, and figures by model, ``all`` among them."""

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
    """Stage → the latest hour that it has done, and what the latest counted hour held."""

    hours: Mapping[str, datetime]
    accesses: int = 0
    keys: int = 0


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How often a task of the DAGs ended in a state, and how long those runs took together (seconds)."""

    dag: str
    task: str
    state: str
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that the alerts compare with."""

    high_water: float
    maximum_staleness: timedelta
    stuck_after: timedelta


@dataclass(frozen=True, slots=True)
class ControlState:
    """Everything that one scrape has read."""

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
