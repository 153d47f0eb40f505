"""Load the input of scoring and planning: forecasts, history, placement and shadows, as arrays over the same keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.special import ndtri

from foreshard.errors import UnknownPartition
from foreshard.forecast.series import day_slices
from foreshard.measure.demand import KeyDemand, ServingRule
from foreshard.measure.geography import distance_matrix, fill_unknown
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import ONE_HOUR, ForecastBatch, IntArray, Partition, PartitionState, RequestKind, RoutingTable
from foreshard.plan.input.key_history import KeyHistory
from foreshard.plan.input.key_states import (
    MOVES_COUNT,
    co_access_graph,
    current_shadows,
    key_states,
    leaving_shadows,
    slot_rows,
    unsettled_partitions,
    with_slots,
)
from foreshard.plan.input.migration_rate import MOVE_TIME, RATE_WINDOW, MigrationRate, measure_rate
from foreshard.plan.input.profile import profile_keys
from foreshard.plan.input.scoring_input import ScoringInput, align_forecasts
from foreshard.plan.input.snapshot import CoAccessGraph, PlanPolicy, Snapshot
from foreshard.routing.table import locate
from foreshard.stages._ports import (
    WithForecasts,
    WithForecastSettings,
    WithMigrateSettings,
    WithMigrationLimits,
    WithObserveSettings,
    WithPlacementRules,
    WithPlanning,
    WithPlanSettings,
    WithRegistry,
    WithRouting,
    WithShardedCollections,
    WithSidecarSettings,
    WithTallies,
)
from foreshard.stages.history import HistoryPorts, load_history

if TYPE_CHECKING:
    from foreshard.settings import ObserveSettings


class ServingRulePorts(WithPlanSettings, WithSidecarSettings, Protocol):
    """The settings by which loads are judged."""


class ScoringPorts(ServingRulePorts, HistoryPorts, WithObserveSettings, WithForecasts, WithRegistry, WithRouting, Protocol):
    """Reads forecasts, series, tallies, partitions and the routing table."""


class MigrationRatePorts(WithMigrateSettings, WithMigrationLimits, WithPlanning, Protocol):
    """Reads the durations of recent moves."""


class SnapshotPorts(ScoringPorts, MigrationRatePorts, WithPlacementRules, WithShardedCollections, Protocol):
    """Reads the input of scoring, and moves, shadows, key sizes and placement rules."""


class CoAccessPorts(WithForecastSettings, WithTallies, Protocol):
    """Reads tallies."""


def load_scoring_input(ports: ScoringPorts, hour: datetime) -> ScoringInput:
    """Load the forecasts of ``hour``, the published placement and the history.

    Every unit with a forecast, every listed key, and every slot of a draining partition is included. Raise
    :class:`MissingStageResult` without forecasts, and :class:`UnknownPartition` if the routing table names a partition that is
    not registered.
    """
    forecasts = ports.forecasts.load(hour)
    partitions, table = ports.registry.partitions(), ports.routing.current()
    draining = {partition.partition_id for partition in partitions if partition.state is PartitionState.DRAINING}
    leaving = (placement.key for placement in table.slots.placements if placement.primary in draining)
    keys = tuple(sorted({*forecasts.keys, *table.placements, *leaving}))
    locations = {location.name: location for location in ports.registry.locations()}
    history = load_history(ports, hour, keys)
    profiles = profile_keys(history.totals, keys, _kinds(ports.observe_settings), locations)
    homes = [partition.geographic_location for partition in partitions]
    mean, sigma = align_forecasts(forecasts, keys)
    return ScoringInput(
        hour=hour,
        keys=keys,
        partitions=partitions,
        table=table,
        demand=KeyDemand(mean, sigma, profiles.read_share, profiles.origins),
        profiles=profiles,
        primary=_primaries(table, keys, partitions),
        distance_km=fill_unknown(distance_matrix(profiles.locations, homes, locations)),
        rule=_serving_rule(ports, forecasts, history),
        week=history.week,
    )


def load_snapshot(ports: SnapshotPorts, hour: datetime) -> tuple[Snapshot, PlanPolicy]:
    """Load the planner's input, and its policy from the settings."""
    inputs, now = load_scoring_input(ports, hour), hour + ONE_HOUR
    keys, partitions = inputs.keys, inputs.partition_index
    locations = {location.name: location for location in ports.registry.locations()}
    homes = [partition.geographic_location for partition in inputs.partitions]
    rows = {key: row for row, key in enumerate(keys)}
    slot_row = slot_rows(keys, inputs.table.slots.space)
    recent = ports.planning.recent_moves(now - MOVES_COUNT)
    states = with_slots(key_states(recent, rows, inputs.primary, partitions, now), slot_row)
    shadows = ports.planning.current_shadows()
    copies = current_shadows(shadows, inputs.published_shadows(), keys, tuple(partitions), now)
    unsettled = unsettled_partitions(
        states.primary, [(copy.key, copy.partition) for copy in copies], inputs.primary, inputs.published_shadows()
    )
    sizes = ports.planning.key_sizes(inputs.partitions, ports.sharded_collections).by_unit(rows, inputs.table.slots.space)
    snapshot = Snapshot(
        hour=hour,
        table_version=inputs.table.version,
        keys=keys,
        partitions=inputs.partitions,
        demand=inputs.demand,
        primary=states.primary,
        distance_km=inputs.distance_km,
        partition_km=fill_unknown(distance_matrix(homes, homes, locations)),
        key_bytes=np.array([sizes.of(key) for key in keys], np.float64),
        co_access=_co_access(ports, hour, keys),
        shadows=copies,
        leaving=leaving_shadows(shadows, keys, tuple(partitions)),
        movable=states.movable,
        idle_hours=states.idle_hours,
        last_source=states.last_source,
        access_cost=inputs.access_cost,
        week=inputs.week,
        under_way=states.under_way,
        bounds=PlacementRules(ports.placement_rules.rules()).bounds(keys, inputs.partitions),
        migration=migration_rate(ports, now),
        slot_row=slot_row,
        unsettled=tuple(inputs.partitions[place].partition_id for place in unsettled),
    )
    return snapshot, PlanPolicy.of(ports.plan_settings, ports.migrate_settings, inputs.rule)


def _serving_rule(ports: ServingRulePorts, forecasts: ForecastBatch, history: KeyHistory) -> ServingRule:
    return ServingRule(
        room_mark=ports.sidecar_settings.room_mark,
        z=float(ndtri(forecasts.quantile)),
        apply_cost=ports.plan_settings.shadow_apply_cost,
        correlation=history.error_correlation if forecasts.correlation is None else forecasts.correlation,
    )


def migration_rate(ports: MigrationRatePorts, now: datetime) -> MigrationRate:
    """Return the measured duration of recent moves, but no rate above the limit; the limits' if there were too few moves."""
    limit = ports.migration_limits.read().bytes_per_second
    default = MigrationRate(MOVE_TIME.total_seconds(), limit or ports.migrate_settings.planned_rate)
    measured = measure_rate(ports.planning.move_times(now - RATE_WINDOW), default)
    return replace(measured, bytes_per_second=min(measured.bytes_per_second, limit)) if limit else measured


def _kinds(settings: ObserveSettings) -> dict[str, RequestKind]:
    return {name: setting.kind for name, setting in settings.request_types.items()}


def _primaries(table: RoutingTable, keys: Sequence[str], partitions: Sequence[Partition]) -> IntArray:
    index = {partition.partition_id: position for position, partition in enumerate(partitions)}
    owners = [locate(table, key).primary for key in keys]
    unknown = next((owner for owner in owners if owner not in index), None)
    if unknown is not None:
        raise UnknownPartition(unknown, list(index))
    return np.array([index[owner] for owner in owners], np.int64)


def _co_access(ports: CoAccessPorts, hour: datetime, keys: Sequence[str]) -> CoAccessGraph:
    since, until = day_slices(hour, ports.forecast_settings.history_days)[0][0], hour + ONE_HOUR
    return co_access_graph(ports.tallies.co_access(since, until), len(ports.tallies.hours(since, until)), keys)
