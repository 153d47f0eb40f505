"""Load what score and plan decide on: forecasts, profiles, placement and shadows, as arrays over the same keys."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtri

from foreshard.errors import MissingStageResult, UnknownPartition
from foreshard.measure.correlation import CORRELATED_KEYS, error_correlation, seasonal_residuals
from foreshard.measure.demand import KeyDemand, ServingRule
from foreshard.measure.geography import distance_matrix, fill_unknown
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import ONE_HOUR, BoolArray, FloatArray, ForecastBatch, IntArray, Partition, RequestKind, RoutingTable
from foreshard.model.decided import shadow_id
from foreshard.plan.migration_rate import MigrationRate, measure_rate
from foreshard.plan.past_hours import PastHours
from foreshard.plan.profile import KeyProfiles, profile_keys
from foreshard.plan.snapshot import CoAccessGraph, IndexedShadow, PlanPolicy, Snapshot
from foreshard.ports.planning import CurrentShadow, RecentMove
from foreshard.routing.table import locate
from foreshard.stages.history_days import ONE_DAY, HistoryDays

if TYPE_CHECKING:
    from foreshard.settings import Settings
    from foreshard.wiring import Wiring


@dataclass(frozen=True)
class ScoringInput:
    """What score and plan both stand on: K keys (sorted), the partitions, the published table, and each key's demand."""

    hour: datetime
    keys: tuple[str, ...]
    partitions: tuple[Partition, ...]
    table: RoutingTable
    demand: KeyDemand
    profiles: KeyProfiles
    primary: IntArray
    distance_km: FloatArray
    rule: ServingRule
    week_peak: float
    past: PastHours | None

    @property
    def places(self) -> dict[str, int]:
        """Partition id → index."""
        return {partition.partition_id: index for index, partition in enumerate(self.partitions)}

    @property
    def access_cost(self) -> float:
        """What one of the coming accesses costs on average (0 where nothing is expected)."""
        cost, work = self.profiles.access_cost, self.demand.mean.sum(axis=1)
        accesses = np.divide(work, cost, out=np.zeros_like(work), where=cost > 0)
        return float(work[cost > 0].sum() / accesses.sum()) if accesses.any() else 0.0

    def published_shadows(self) -> list[tuple[int, int]]:
        """(key, partition) indices of the shadows that the table lists."""
        places = self.places
        return [
            (index, places[shadow])
            for index, key in enumerate(self.keys)
            if (placement := self.table.placements.get(key))
            for shadow in placement.shadows
            if shadow in places
        ]


def load_ground(wiring: Wiring, hour: datetime) -> ScoringInput:
    """Load forecasts, profiles and placement for ``hour``.

    Every forecast key and every key that the table lists is in it. Raise :class:`MissingStageResult` without forecasts,
    :class:`UnknownPartition` where the table names a partition that isn't registered.
    """
    forecasts = wiring.forecasts.load(hour)
    partitions, table = wiring.registry.partitions(), wiring.routing.current()
    keys = tuple(sorted({*forecasts.keys, *table.placements}))
    locations = {location.name: location for location in wiring.registry.locations()}
    days = HistoryDays(wiring, hour, keys)
    profiles = profile_keys(days, keys, _kinds(wiring.settings), locations)
    homes = [partition.geographic_location for partition in partitions]
    mean, sigma = _spread(forecasts, keys)
    return ScoringInput(
        hour=hour,
        keys=keys,
        partitions=partitions,
        table=table,
        demand=KeyDemand(mean, sigma, profiles.read_share, profiles.origins),
        profiles=profiles,
        primary=_primaries(table, keys, partitions),
        distance_km=fill_unknown(distance_matrix(profiles.locations, homes, locations)),
        rule=serving_rule(wiring, forecasts),
        week_peak=days.week_peak,
        past=days.past,
    )


def load_snapshot(wiring: Wiring, hour: datetime) -> tuple[Snapshot, PlanPolicy]:
    """Load everything that the planner sees, and its policy from the settings."""
    ground = load_ground(wiring, hour)
    settings, places = wiring.settings, ground.places
    index = {key: row for row, key in enumerate(ground.keys)}
    locations = {location.name: location for location in wiring.registry.locations()}
    homes = [partition.geographic_location for partition in ground.partitions]
    now = hour + ONE_HOUR
    plan = settings.plan
    moves = wiring.planning.recent_moves(now - max(plan.cooldown, plan.no_return, plan.settle_rest))
    state = _Moved(ground.primary.copy(), *(np.full(len(index), value) for value in (True, False, True, -1)))
    for move in moves:
        if move.key in index:
            _note_move(move, index[move.key], places, now, settings, state)
    copies = wiring.planning.standing_copies()
    sizes = wiring.planning.key_sizes(ground.partitions, settings.sharded_collections)
    snapshot = Snapshot(
        hour=hour,
        table_version=ground.table.version,
        keys=ground.keys,
        partitions=ground.partitions,
        demand=ground.demand,
        primary=state.primary,
        distance_km=ground.distance_km,
        partition_km=fill_unknown(distance_matrix(homes, homes, locations)),
        key_bytes=np.array([sizes.of(key) for key in ground.keys], np.float64),
        co_access=_co_access(wiring, hour, ground.keys),
        shadows=_standing(copies, ground, index, now - settings.plan.cooldown),
        leaving=frozenset(
            (index[c.key], places[c.target]) for c in copies if c.leaving and c.key in index and c.target in places
        ),
        movable=state.movable,
        rested=state.rested,
        last_source=state.last_source,
        week_peak=ground.week_peak,
        access_cost=ground.access_cost,
        past=ground.past,
        under_way=state.under_way,
        bounds=PlacementRules(wiring.placement_rules.rules()).bounds(ground.keys, ground.partitions),
        migration=migration_rate(wiring, now),
    )
    return snapshot, plan_policy(settings, ground.rule)


def serving_rule(wiring: Wiring, forecasts: ForecastBatch) -> ServingRule:
    """How loads are judged: the sidecar's room mark, the forecasts' quantile, and the correlation of their errors."""
    plan = wiring.settings.plan
    correlation = plan.error_correlation
    return ServingRule(
        room_mark=wiring.settings.sidecar.room_mark,
        z=float(ndtri(forecasts.quantile)),
        apply_cost=plan.shadow_apply_cost,
        correlation=_estimate_correlation(wiring, forecasts.hour) if correlation is None else correlation,
    )


def migration_rate(wiring: Wiring, now: datetime) -> MigrationRate:
    """How fast moves have gone lately; the settings' rate where too few were made."""
    plan = wiring.settings.plan
    default = MigrationRate(plan.move_time.total_seconds(), plan.bytes_per_second)
    return measure_rate(wiring.planning.move_times(now - plan.rate_window), default)


def plan_policy(settings: Settings, rule: ServingRule) -> PlanPolicy:
    """The planner's policy, from the settings field by field: a renamed setting must not fall back to a default."""
    plan = settings.plan
    return PlanPolicy(
        high_water=plan.high_water,
        low_water=plan.low_water,
        maximum_moves=plan.maximum_moves,
        maximum_shadows=plan.maximum_shadows,
        maximum_bytes=plan.maximum_bytes,
        maximum_write_share=plan.maximum_write_share,
        minimum_gain=plan.minimum_gain,
        relief_closeness=plan.relief_closeness,
        settle_gain=plan.settle_gain,
        maximum_settled=plan.maximum_settled,
        shadow_gain=plan.shadow_gain,
        overload_mark=plan.overload_mark,
        gigabyte_price=plan.gigabyte_price,
        crossing_cost=plan.crossing_cost,
        distance_weight=plan.distance_weight,
        payback_days=plan.payback_days,
        hot_share=plan.hot_share,
        far_km=plan.far_km,
        far_share=plan.far_share,
        far_load=plan.far_load,
        reserve=plan.reserve,
        maximum_clump=plan.maximum_clump,
        parallel_moves=plan.parallel_moves,
        serving=rule,
    )


def _kinds(settings: Settings) -> dict[str, RequestKind]:
    return {name: setting.kind for name, setting in settings.observe.request_types.items()}


def _spread(forecasts: ForecastBatch, keys: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Means and sigmas in the order of ``keys``; keys without a forecast are expected to stay idle."""
    mean = np.zeros((len(keys), forecasts.mean.shape[1]))
    sigma = np.zeros_like(mean)
    row = {key: index for index, key in enumerate(keys)}
    order = np.array([row[key] for key in forecasts.keys], np.int64)
    mean[order], sigma[order] = np.maximum(forecasts.mean, 0.0), np.maximum(forecasts.sigma, 0.0)
    return mean, sigma


def _primaries(table: RoutingTable, keys: Sequence[str], partitions: Sequence[Partition]) -> IntArray:
    places = {partition.partition_id: index for index, partition in enumerate(partitions)}
    owners = [locate(table, key).primary for key in keys]
    unknown = next((owner for owner in owners if owner not in places), None)
    if unknown is not None:
        raise UnknownPartition(unknown, list(places))
    return np.array([places[owner] for owner in owners], np.int64)


@dataclass(frozen=True)
class _Moved:
    """What recent moves mean for each key: where it is (to be), may it move, does it, has it rested, where did it come from."""

    primary: IntArray
    movable: BoolArray
    under_way: BoolArray
    rested: BoolArray
    last_source: IntArray


def _note_move(move: RecentMove, key: int, places: dict[str, int], now: datetime, settings: Settings, state: _Moved) -> None:
    """Count a pending move as carried out, and let a moved key cool down."""
    if move.pending:
        state.primary[key] = places.get(move.target, state.primary[key])
        state.movable[key], state.under_way[key] = False, True
    else:
        state.movable[key] &= move.at < now - settings.plan.cooldown
        state.rested[key] &= move.at < now - settings.plan.settle_rest
        if move.at >= now - settings.plan.no_return:
            state.last_source[key] = places.get(move.source, -1)


def _standing(
    copies: Sequence[CurrentShadow], ground: ScoringInput, index: dict[str, int], oldest_to_keep: datetime
) -> tuple[IndexedShadow, ...]:
    """The shadows that are wanted, and those that the table lists; those asked for since ``oldest_to_keep`` may not go yet."""
    places = ground.places
    leaving = {(copy.key, copy.target) for copy in copies if copy.leaving}
    found = {}
    for copy in copies:
        if not copy.leaving and copy.key in index and copy.target in places:
            removable = copy.hour is None or copy.hour <= oldest_to_keep
            pair = (index[copy.key], places[copy.target])
            found[pair] = IndexedShadow(copy.shadow_id, *pair, copy.why, removable)
    for key, partition in ground.published_shadows():
        name = (ground.keys[key], ground.partitions[partition].partition_id)
        if name not in leaving:
            found.setdefault((key, partition), IndexedShadow(shadow_id(*name), key, partition))
    return tuple(found[pair] for pair in sorted(found))


def _co_access(wiring: Wiring, hour: datetime, keys: Sequence[str]) -> CoAccessGraph:
    """Co-access of the history, in common uses per hour."""
    since, until = hour + ONE_HOUR - wiring.settings.forecast.history_days * ONE_DAY, hour + ONE_HOUR
    pairs, hours = wiring.tallies.co_access(since, until), max(1, len(wiring.tallies.hours(since, until)))
    order = pd.Index(list(keys))
    a, b = (order.get_indexer(pd.Index(pairs[name].tolist())) for name in ("key_a", "key_b"))
    known = (a >= 0) & (b >= 0)
    weight = pairs["weight"].to_numpy(np.float64)[known] / hours
    return CoAccessGraph.build(a[known], b[known], weight, len(keys))


def _estimate_correlation(wiring: Wiring, hour: datetime) -> float:
    """From the residuals of the busiest keys in the hour's series; 0 where its series are no longer kept."""
    busiest: list[tuple[float, str, FloatArray]] = []
    try:
        for series in wiring.series.load(hour):
            costs = np.where(series.missing, np.nan, series.costs)
            totals = np.nansum(costs, axis=1)
            busiest += zip(totals.tolist(), series.keys, costs, strict=True)
            busiest = heapq.nlargest(CORRELATED_KEYS, busiest, key=lambda row: row[:2])
    except MissingStageResult:
        return 0.0
    return error_correlation(seasonal_residuals(np.stack([row[2] for row in busiest]))) if busiest else 0.0
