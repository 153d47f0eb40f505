"""The policy that runs Foreshard's planner each hour, with a forecast from the past or from an oracle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foreshard.forecast.hourly.forecaster import Forecaster
from foreshard.lab.floor import cost_of_one_access
from foreshard.lab.log import ReplayLog
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import NOT_YET, Cluster, LabAction, Past
from foreshard.lab.policies import StaticHash
from foreshard.measure.demand import KeyDemand, OriginShares
from foreshard.model import ONE_HOUR
from foreshard.model.decided import shadow_id
from foreshard.plan.input.key_states import OLD_COPY
from foreshard.plan.input.mean_week import at_current_level, mean_week
from foreshard.plan.input.migration_rate import MigrationRate
from foreshard.plan.input.snapshot import CoAccessGraph, IndexedShadow, PlanPolicy, Snapshot, certain_uses
from foreshard.plan.planner import make_plan

REFRESH_HOURS = 24
"""The interval at which read shares, origins, co-access and sizes are counted again."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The least co-accesses of a pair that counts, the hours of history, and the rate of moves."""

    minimum_pair_uses: int
    window_hours: int
    migration: MigrationRate


class Planned(StaticHash):
    """Runs ``make_plan`` each hour, starting from the same hashed placement as the other policies."""

    def __init__(
        self, log: ReplayLog, layout: PartitionLayout, forecaster: Forecaster[Past], policy: PlanPolicy, timing: Timing
    ) -> None:
        """Of ``log``, only names and the first hour are used. The rest comes from the past given to ``decide``."""
        super().__init__(layout)
        self._first, self._places = log.first, log.locations
        self._forecaster, self._policy, self._timing = forecaster, policy, timing
        self._refreshed: int | None = None
        self._km = layout.distance_from(log.locations)
        self._partition_km = layout.distance_from([p.geographic_location for p in layout.partitions])
        self._since: dict[tuple[int, int], int] = {}
        self._index = {p.partition_id: n for n, p in enumerate(layout.partitions)}
        self._row = {key: n for n, key in enumerate(log.keys)}

    def decide(self, past: Past, cluster: Cluster) -> list[LabAction]:
        """Plan the coming hours."""
        if self._refreshed is None or past.now - self._refreshed >= REFRESH_HOURS:
            self._refresh(past)
        outcome = self._forecaster.ahead(past)
        demand = KeyDemand(outcome.mean, outcome.sigma, self._read_share, self._origins)
        rule = replace(self._policy.serving, correlation=outcome.correlation)
        plan = make_plan(self._snapshot(past, cluster, demand), replace(self._policy, serving=rule))
        changes = [
            LabAction(self._row[unit], self._index[move.target], joins=unit != move.units[0])
            for move in plan.moves
            for unit in move.units
        ]
        for shadow in plan.shadows:
            pair = (self._row[shadow.key], self._index[shadow.target])
            self._since[pair] = past.now
            changes.append(LabAction(*pair, "shadow"))
        changes += [LabAction(self._row[gone.key], self._index[gone.target], "remove") for gone in plan.removals]
        return changes

    def _snapshot(self, past: Past, cluster: Cluster, demand: KeyDemand) -> Snapshot:
        now, timing = past.now, self._timing
        primary, movable = cluster.primary.copy(), np.ones(len(past.keys), bool)
        copying, under_way = set(), np.zeros(len(past.keys), bool)
        for key, target in cluster.pending.items():
            movable[key], under_way[key] = False, True
            if self._since.get((key, target), -1) >= 0 and (key, target) not in cluster.shadows:
                copying.add((key, target))
            else:
                primary[key] = target
        existing = tuple(
            IndexedShadow(
                shadow_id(past.keys[k], self._layout.partitions[p].partition_id),
                k,
                p,
                "",
                now - self._since.get((k, p), NOT_YET),
            )
            for k, p in sorted(cluster.shadows | copying)
        )
        idle = (now - cluster.moved_at).astype(np.float64)
        return Snapshot(
            hour=self._first + (now - 1) * ONE_HOUR,
            table_version=now,
            keys=past.keys,
            partitions=self._layout.partitions,
            demand=demand,
            primary=primary,
            distance_km=self._km,
            partition_km=self._partition_km,
            key_bytes=self._sizes,
            co_access=self._graph,
            migration=timing.migration,
            shadows=existing,
            movable=movable,
            under_way=under_way,
            idle_hours=idle,
            last_source=np.where(idle <= OLD_COPY / ONE_HOUR, cluster.last_source, -1),
            access_cost=self._access_cost,
            week=self._week,
        )

    def _refresh(self, past: Past) -> None:
        """Count the slowly changing inputs over the training window."""
        keys, window = len(past.keys), self._timing.window_hours
        key, place, cost, reads = past.visits(window)
        spent = np.bincount(key, weights=cost, minlength=keys)
        read = np.bincount(key, weights=reads, minlength=keys)
        self._read_share = np.divide(read, spent, out=np.zeros(keys), where=spent > 0)
        counted = (place >= 0) & ((reads > 0) | (read[key] == 0))
        weight = np.where(reads > 0, reads, cost)
        self._origins = OriginShares.build(key[counted], place[counted], weight[counted], keys)
        a, b, co_accesses = past.pairs(window)
        code, at = np.unique(a * keys + b, return_inverse=True)
        total = np.bincount(at, weights=co_accesses, minlength=len(code))
        code, total = (values[total >= self._timing.minimum_pair_uses] for values in (code, total))
        certain = certain_uses(total.astype(np.float64))
        hours = max(1, min(window, past.now))
        self._graph = CoAccessGraph.build(code // max(keys, 1), code % max(keys, 1), certain / hours, keys)
        self._sizes = past.sizes()
        costs = past.costs(window)
        self._access_cost = cost_of_one_access(costs)
        week = mean_week(costs)
        self._week = week and at_current_level(week, costs.sum(axis=0))
        self._refreshed = past.now
