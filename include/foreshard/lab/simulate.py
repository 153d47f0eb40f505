"""The simulator: each hour a policy decides from the past, its moves take time and cost load, and the hour's loads follow.

All policies have the same assumptions (:class:`ReplayRules`). Moves run one after another in a few lanes. A move takes a fixed
time plus its bytes at the migration rate. While it runs, both sides have a share of the key's recent load in addition, and the
key stays at its source. A shadow is copied in the same way and serves from the hour after it is finished. New keys are where
hashing places them until a policy moves them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from foreshard.lab.log import ReplayLog
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import NOT_YET, Cluster, LabAction, Past, Policy, ReplayRules, key_sizes
from foreshard.measure.demand import KeyDemand, LoadProfile, OriginShares, row_entries, unshadowed_weights
from foreshard.measure.serving import share_reads
from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray


@dataclass
class Run:
    """The result of one policy. ``load`` (P, hours) is in cost per hour and includes copying.

    ``moves``: (hour, key, source, target). ``shadows``: the number of shadows in each hour. ``own_cost``: the log's cost.
    """

    first: int
    load: FloatArray
    moves: list[tuple[int, int, int, int]] = field(default_factory=list)
    size_bytes: float = 0.0
    co_accesses: float = 0.0
    split_co_accesses: float = 0.0
    cost_km: float = 0.0
    located_cost: float = 0.0
    shadows: list[int] = field(default_factory=list)
    own_cost: float = 0.0


@dataclass
class _Job:
    """A running move or copy. Times are in hours since the log's start; ``recent`` is the key's mean cost of the last day."""

    change: LabAction
    source: int
    begins: float
    ends: float
    size: float
    recent: float


def replay(
    log: ReplayLog,
    layout: PartitionLayout,
    policy: Policy,
    start: int,
    rules: ReplayRules,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Run the hours from ``start`` on under ``policy``."""
    return _Simulation(log, layout, policy, start, rules).run(progress)


class _Simulation:
    def __init__(self, log: ReplayLog, layout: PartitionLayout, policy: Policy, start: int, rules: ReplayRules) -> None:
        self.log, self.policy, self.rules, self.first = log, policy, rules, start
        self.capacity = layout.capacity
        self.km = layout.distance_from(log.locations)
        keys = len(log.keys)
        first = policy.start(Past(log, start, rules)).astype(np.int64)
        self.cluster = Cluster(first.copy(), set(), {}, np.full(keys, NOT_YET), np.full(keys, -1, np.int64))
        self.jobs: list[_Job] = []
        self.lanes: dict[tuple[str, int], list[float]] = defaultdict(lambda: [float(start)] * rules.lanes)
        self.result = Run(start, np.zeros((len(layout.partitions), log.hours - start)))
        self.reads = _read_shares(log, 0, start)

    def run(self, progress: Callable[[int, int], None] | None) -> Run:
        hours = self.log.hours
        for now in range(self.first, hours):
            if (now - self.first) % 24 == 0:
                self.sizes = key_sizes(self.log, now, self.rules)
                if progress:
                    progress(now - self.first, hours - self.first)
            self._begin(now)
            self._serve(now)
        if progress:
            progress(hours - self.first, hours - self.first)
        return self.result

    def _begin(self, now: int) -> None:
        cluster, places = self.cluster, self._places(0, 0)
        for change in self.policy.decide(Past(self.log, now, self.rules), cluster):
            if change.kind == "remove":
                cluster.shadows.discard((change.key, change.partition))
                continue
            here = int(cluster.primary[change.key])
            if change.key in cluster.pending or here == change.partition:
                continue
            if not change.joins:
                places = self._places(here, change.partition)
            begins = max(float(now), *(lanes[number] for lanes, number in places))
            size = float(self.sizes[change.key])
            fixed = 0.0 if change.joins else self.rules.move_seconds
            takes = (fixed + size / self.rules.bytes_per_second) / SECONDS_PER_HOUR
            for lanes, number in places:
                lanes[number] = begins + takes
            last_day = self.log.costs[change.key, max(0, now - 24) : now]
            recent = float(last_day.mean()) if len(last_day) else 0.0
            self.jobs.append(_Job(change, here, begins, begins + takes, size, recent))
            cluster.pending[change.key] = change.partition

    def _places(self, source: int, target: int) -> list[tuple[list[float], int]]:
        """Return the lanes that a move takes, one of the source and one of the target: those that are free first."""
        sides = (self.lanes["from", source], self.lanes["to", target])
        return [(lanes, min(range(len(lanes)), key=lanes.__getitem__)) for lanes in sides]

    def _serve(self, now: int) -> None:
        """Add the hour's load, and complete the jobs that end in it."""
        costs = self.log.costs[:, now].astype(np.float64)
        primary_before = self.cluster.primary.copy()
        shadows_before = set(self.cluster.shadows)
        extra = np.zeros(len(self.capacity))
        still = []
        for job in self.jobs:
            extra += self._job_load(job, now, costs)
            if job.ends <= now + 1:
                self._finish(job, now)
            else:
                still.append(job)
        self.jobs = still
        load = self._load(costs, primary_before, shadows_before, now)
        self.result.load[:, now - self.first] = np.maximum(load + extra, 0.0)
        self.result.own_cost += float(costs.sum())
        self.result.shadows.append(len(self.cluster.shadows))
        self._measure(now, primary_before, shadows_before)

    def _job_load(self, job: _Job, now: int, costs: FloatArray) -> FloatArray:
        """Return the load that a job adds in this hour: copying on both sides, and the key's load once moved."""
        extra = np.zeros(len(self.capacity))
        running = max(0.0, min(job.ends, now + 1.0) - max(job.begins, float(now)))
        duration = max(job.ends - job.begins, 1e-9)
        copying = self.rules.copy_load * job.recent * running / duration
        extra[[job.source, job.change.partition]] += copying
        if job.change.kind == "move" and job.ends <= now + 1:
            served = float(costs[job.change.key]) * (now + 1.0 - max(job.ends, float(now)))
            extra[job.source] -= served
            extra[job.change.partition] += served
        return extra

    def _finish(self, job: _Job, now: int) -> None:
        key, target, cluster = job.change.key, job.change.partition, self.cluster
        cluster.pending.pop(key, None)
        self.result.size_bytes += job.size
        if job.change.kind == "shadow":
            cluster.shadows.add((key, target))
            return
        cluster.primary[key] = target
        cluster.moved_at[key], cluster.last_source[key] = now, job.source
        cluster.shadows.discard((key, target))
        self.result.moves.append((now, key, job.source, target))

    def _load(self, costs: FloatArray, primary: IntArray, shadows: set[tuple[int, int]], now: int) -> FloatArray:
        if not shadows:
            return np.bincount(primary, weights=costs, minlength=len(self.capacity)).astype(np.float64)
        demand = KeyDemand(costs[:, None], np.zeros((len(costs), 1)), self.reads, self._origins(now, shadows))
        listed = sorted(shadows)
        alone = costs * unshadowed_weights(len(costs), [key for key, _ in listed]) / SECONDS_PER_HOUR
        base = LoadProfile.zeros(len(self.capacity), 1)
        base.mean[:, 0] = np.bincount(primary, weights=alone, minlength=len(self.capacity))
        load, _ = share_reads(base, demand, primary, listed, self.capacity, self.km, self.rules.serving)
        return np.asarray(load.mean[:, 0] * SECONDS_PER_HOUR)

    def _origins(self, now: int, shadows: set[tuple[int, int]]) -> OriginShares:
        rows = self.log.visits.of(now, now + 1)
        key, place, weight = self.log.visit_key[rows], self.log.visit_place[rows], self.log.visit_reads[rows]
        kept = (place >= 0) & np.isin(key, [k for k, _ in shadows])
        return OriginShares.build(key[kept], place[kept], weight[kept], len(self.log.keys))

    def _measure(self, now: int, primary: IntArray, shadows: set[tuple[int, int]]) -> None:
        log, run = self.log, self.result
        rows = log.pairs.of(now, now + 1)
        a, b, weight = log.pair_a[rows], log.pair_b[rows], log.pair_weight[rows]
        apart = primary[a] != primary[b]
        if shadows and apart.any():
            apart &= ~self._share_a_copy(a, b, primary, shadows)
        run.co_accesses += float(weight.sum())
        run.split_co_accesses += float(weight[apart].sum())
        rows = log.visits.of(now, now + 1)
        key, place, cost, reads = (
            log.visit_key[rows],
            log.visit_place[rows],
            log.visit_cost[rows],
            log.visit_reads[rows],
        )
        known = place >= 0
        key, place, cost, reads = key[known], place[known], cost[known], reads[known]
        km = self.km[place, primary[key]]
        run.cost_km += float((cost * km).sum())
        run.located_cost += float(cost.sum())
        run.cost_km -= float((reads * (km - self._nearest(key, place, km, shadows))).sum())

    def _nearest(self, key: IntArray, place: IntArray, km: FloatArray, shadows: set[tuple[int, int]]) -> FloatArray:
        """Return the distance from each row's place to the nearest copy of its key.

        ``km``: the distance to the primary copy.
        """
        nearest = km.copy()
        if shadows:
            held, partition = np.array(sorted(shadows), np.int64).T
            copied = np.flatnonzero(np.isin(key, held))
            row, at = row_entries(np.searchsorted(held, np.arange(len(self.reads) + 1)), key[copied])
            np.minimum.at(nearest, copied[row], self.km[place[copied[row]], partition[at]])
        return nearest

    def _share_a_copy(self, a: IntArray, b: IntArray, primary: IntArray, shadows: set[tuple[int, int]]) -> BoolArray:
        """Return whether a partition has copies of both keys of a pair."""
        copies: dict[int, set[int]] = {}
        for key, partition in shadows:
            copies.setdefault(key, {int(primary[key])}).add(partition)
        together = np.zeros(len(a), bool)
        rows = np.flatnonzero(np.isin(a, list(copies)) | np.isin(b, list(copies)))
        for row in rows:
            one, other = int(a[row]), int(b[row])
            first, second = copies.get(one, {int(primary[one])}), copies.get(other, {int(primary[other])})
            together[row] = bool(first & second)
        return together


def _read_shares(log: ReplayLog, first: int, last: int) -> FloatArray:
    """Return the share of reads in each key's cost (K) in the given hours, or in the whole log if there are none."""
    rows = log.visits.of(first, last) if last > first else slice(None)
    spent = np.bincount(log.visit_key[rows], weights=log.visit_cost[rows], minlength=len(log.keys))
    read = np.bincount(log.visit_key[rows], weights=log.visit_reads[rows], minlength=len(log.keys))
    return np.divide(read, spent, out=np.zeros(len(log.keys)), where=spent > 0)
