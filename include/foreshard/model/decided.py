"""Forecasts, scores, and plans with their moves and shadows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from foreshard.model.arrays import FloatArray
from foreshard.model.key_space import units_label


@dataclass(frozen=True)
class ForecastBatch:
    """Forecasts of many keys for the ``H`` hours after ``hour``, in cost units per hour.

    ``mean``, ``sigma`` (standard deviation) and ``upper`` (at ``quantile``) have shape (keys, H). ``models`` names the model or
    fallback of each key, such as ``prophet`` or ``recent_mean``. ``correlation`` (0 to 1) is that of two keys' forecast
    errors, as the engine has measured it; None if it has not.
    """

    hour: datetime
    quantile: float
    keys: tuple[str, ...]
    mean: FloatArray
    sigma: FloatArray
    upper: FloatArray
    models: tuple[str, ...]
    correlation: float | None = None


@dataclass(frozen=True, slots=True)
class PartitionScore:
    """The LPS of one partition for the horizon after ``hour``: the forecast's peak at the upper quantile ÷ capacity.

    ``predicted_load`` (cost/s) is the load at ``peak_hour``. ``volume`` (accesses/s) × ``complexity`` (cost per access) is the
    mean load in that hour. ``utilisation`` is the upper-quantile load ÷ capacity in each hour of the horizon.
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
    """The reason for a decision: a machine-readable ``code``, its ``facts``, and one ``sentence`` for people."""

    code: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Move:
    """A move of ``units``, keys and slots, as one. ``move_id`` follows from the hour and the units, so planning an hour twice
    gives the same id.
    """

    move_id: str
    units: tuple[str, ...]
    source: str
    target: str
    estimated_bytes: int
    clump: str
    reason: Reason

    @property
    def label(self) -> str:
        """The units for people: ``slot 811``, the key in quotes, or their numbers."""
        return units_label(self.units)


@dataclass(frozen=True, slots=True)
class PlannedShadow:
    """An additional, asynchronously updated copy on ``target`` of ``key``, whose primary copy is on ``source``."""

    shadow_id: str
    key: str
    source: str
    target: str
    reason: Reason


def shadow_id(key: str, target: str) -> str:
    """The id of the shadow of ``key`` on ``target``. It is the same in every hour."""
    return f"{key}|{target}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A partition that the plan does not completely relieve, drain, or bring in line with placement rules, and the reason."""

    partition_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """A problem with what the plan does for a partition, such as relief that comes too late."""

    partition_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """The hour's moves, shadows and shadow removals, made from table ``table_version``; LPS per partition before and after.

    ``unsettled``: the partitions that do not start from the load of this table, because moves or shadows were under way.
    """

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
    unsettled: tuple[str, ...] = ()
