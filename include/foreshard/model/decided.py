"""What is foreseen and decided: forecasts, scores, moves, shadows, the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from foreshard.model.arrays import FloatArray


@dataclass(frozen=True)
class ForecastBatch:
    """Forecasts of many keys for the ``H`` hours after ``hour``, in cost units per hour.

    ``mean``, ``sigma`` (standard deviation) and ``upper`` (at ``quantile``) are float arrays of shape (keys, H);
    ``models`` names what made each key's forecast (``prophet``, ``hour_of_week_mean``, ``recent_mean``, …).
    """

    hour: datetime
    quantile: float
    keys: tuple[str, ...]
    mean: FloatArray
    sigma: FloatArray
    upper: FloatArray
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartitionScore:
    """LPS of one partition for the horizon after ``hour``: its forecast's peak at the upper quantile ÷ capacity.

    ``predicted_load`` (cost/s) stands at ``peak_hour``; ``volume`` (accesses/s) × ``complexity`` (cost per access) are the
    parts of its mean; ``utilisation`` is the upper-quantile load ÷ capacity of each horizon hour.
    """

    hour: datetime
    partition_id: str
    lps: float
    peak_hour: datetime
    predicted_load: float
    capacity: float
    volume: float
    complexity: float
    keys: int
    utilisation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision was taken: a machine-readable ``code``, its ``facts``, and one ``sentence`` for people."""

    code: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Move:
    """One key to another partition. ``move_id`` is derived from the hour and the key, so planning twice names it once."""

    move_id: str
    key: str
    source: str
    target: str
    estimated_bytes: int
    clump: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class PlannedShadow:
    """One extra, asynchronously updated copy of ``key`` (primary on ``source``) on ``target``."""

    shadow_id: str
    key: str
    source: str
    target: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """A partition that the plan could not (fully) relieve, drain, or bring in line with placement rules, and why."""

    partition_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """What the plan does for a partition, but not as it should be: say, too late."""

    partition_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """The hour's moves, shadows and shadow removals, made from table ``table_version``; LPS per partition before and after."""

    hour: datetime
    table_version: int
    moves: tuple[Move, ...] = ()
    shadows: tuple[PlannedShadow, ...] = ()
    removals: tuple[PlannedShadow, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[PlanWarning, ...] = ()
    lps_before: Mapping[str, float] = field(default_factory=dict)
    lps_after: Mapping[str, float] = field(default_factory=dict)
    dry_run: bool = False
