"""Upkeep between the hours: choose shadows to compare, report lag, drain partitions, and delete old data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from foreshard.errors import ConfigurationError
from foreshard.model import PartitionState, hour_floor
from foreshard.model.move_state import OPEN
from foreshard.model.shadow_state import ShadowState
from foreshard.plan.input.key_states import MOVES_COUNT
from foreshard.plan.input.migration_rate import RATE_WINDOW
from foreshard.ports.replication import Shadow
from foreshard.stages._ports import (
    WithConflicts,
    WithForecastSettings,
    WithMigrateSettings,
    WithMoveJournal,
    WithPlanSettings,
    WithRegistry,
    WithRetention,
    WithRouting,
    WithShadows,
    WithShadowSettings,
)
from foreshard.stages.moving.progress import is_stuck

WEEKS_COMPARED = 4
"""The access log's gate compares an hour with the same hour of this many weeks before."""


class RetentionPorts(WithForecastSettings, WithPlanSettings, WithRetention, Protocol):
    """Deletes old files, tallies, forecasts, scores, and records of what was done."""


class LagPorts(WithShadows, WithMoveJournal, WithConflicts, WithShadowSettings, WithMigrateSettings, Protocol):
    """Reads shadows, moves and conflicts. Writes nothing."""


class DrainPorts(WithRegistry, WithRouting, Protocol):
    """Reads the routing table. Writes the partition's state."""


@dataclass(frozen=True, slots=True)
class LagReport:
    """Shadows by state, the lag of the stalest live shadow, open moves and open conflicts.

    ``stale`` live shadows are further behind than ``shadow.maximum_staleness``. ``stuck`` moves have no mover, or have been in
    the same state for longer than ``migrate.stuck_after``.
    """

    shadows: dict[str, int]
    stale: tuple[str, ...]
    stalest_seconds: float | None
    open_moves: int
    stuck: tuple[str, ...]
    open_conflicts: int


@dataclass(frozen=True, slots=True)
class DrainSummary:
    """A partition's state, and the numbers of slots, listed keys and shadows that it still has in the routing table."""

    partition_id: str
    state: str
    slots: int
    listed_keys: int
    shadow_copies: int


@dataclass(frozen=True, slots=True)
class RetentionSummary:
    """The numbers of deleted files and documents by kind; in a dry run, the numbers that would be deleted."""

    files_before: datetime
    tallies_before: datetime
    forecasts_before: datetime
    records_before: datetime
    forgotten: dict[str, int]
    dry_run: bool


def shadows_to_compare(ports: WithShadows, limit: int, turn: int) -> tuple[str, ...]:
    """Return at most ``limit`` live shadows. Consecutive values of ``turn`` cover all of them in rotation."""
    live = sorted(shadow.shadow_id for shadow in ports.shadows.shadows((ShadowState.LIVE,)))
    if len(live) <= limit:
        return tuple(live)
    start = turn * limit % len(live)
    return tuple((live + live)[start : start + limit])


def lag_report(ports: LagPorts, now: datetime | None = None) -> LagReport:
    """Report shadows and moves that lag. Nothing is changed."""
    moment = now or datetime.now(UTC)
    shadows = ports.shadows.shadows()
    live = [shadow for shadow in shadows if shadow.state is ShadowState.LIVE]
    behind = {shadow.shadow_id: _seconds_behind(shadow, moment) for shadow in live}
    limit = ports.shadow_settings.maximum_staleness.total_seconds()
    moves = ports.move_journal.find(OPEN)
    known = [seconds for seconds in behind.values() if seconds is not None]
    return LagReport(
        shadows=dict(Counter(shadow.state.value for shadow in shadows)),
        stale=tuple(name for name, seconds in behind.items() if seconds is None or seconds > limit),
        stalest_seconds=round(max(known), 3) if known else None,
        open_moves=len(moves),
        stuck=tuple(move.move_id for move in moves if is_stuck(move, moment, ports.migrate_settings)),
        open_conflicts=len(ports.conflicts.open()),
    )


def drain_partition(ports: DrainPorts, partition_id: str, active: bool = False) -> DrainSummary:
    """Drain a partition, or make it active again. Return what it still has.

    The plans of the next hours move its slots and keys away and put none on it. Raise
    :class:`foreshard.errors.UnknownPartition`.
    """
    state = PartitionState.ACTIVE if active else PartitionState.DRAINING
    ports.registry.set_state(partition_id, state)
    slots, listed = ports.routing.counts()
    placements = ports.routing.current().placements.values()
    shadows = sum(partition_id in placement.shadows for placement in placements)
    return DrainSummary(partition_id, state.value, slots.get(partition_id, 0), listed.get(partition_id, 0), shadows)


def forget_old(
    ports: RetentionPorts,
    file_days: int,
    tally_days: int,
    forecast_days: int,
    record_days: int,
    dry_run: bool = False,
    now: datetime | None = None,
) -> RetentionSummary:
    """Delete files, tallies, forecasts and records that are older than the given numbers of days.

    Records are plans, gate results, ended moves, retired shadows, and past versions of the routing table. Raise
    :class:`foreshard.errors.ConfigurationError` if a forecast, a gate or a plan still reads what would be deleted.
    """
    needed = max(ports.forecast_settings.history_days, 7 * WEEKS_COMPARED) + 1
    if tally_days < needed:
        raise ConfigurationError(
            "tally_days", f"{tally_days} is less than the {needed} days that forecasts and gates read", "keep more"
        )
    rest = max(MOVES_COUNT, RATE_WINDOW)
    if timedelta(days=record_days) <= rest:
        raise ConfigurationError("record_days", f"{record_days} is not more than the {rest} that plans look back", "keep more")
    if min(file_days, forecast_days) < 1:
        raise ConfigurationError("file_days, forecast_days", "less than a day would delete hours in use", "keep at least 1")
    hour = hour_floor(now or datetime.now(UTC))
    ages = (file_days, tally_days, forecast_days, record_days)
    files, tallies, forecasts, records = (hour - timedelta(days=days) for days in ages)
    forgotten = ports.retention.forget(files, tallies, forecasts, records, dry_run=dry_run)
    return RetentionSummary(files, tallies, forecasts, records, forgotten, dry_run)


def _seconds_behind(shadow: Shadow, now: datetime) -> float | None:
    return (now - shadow.caught_up_at).total_seconds() if shadow.caught_up_at else None
