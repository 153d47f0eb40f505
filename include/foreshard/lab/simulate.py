"""The simulator: policies decide from the past, their moves take time and cost load, and the loads follow.

All policies have the same assumptions (:class:`ReplayRules`). Moves run one after another in a few lanes. A move takes a fixed
time plus its bytes at the migration rate. While it runs, both sides have a share of the key's recent load in addition, and the
key stays at its source. A shadow is copied in the same way and serves from the hour (or step, if the policy acts within the
hour) after it is finished. New keys are where hashing places them until a policy moves them.

Loads are served in steps of five minutes if the log has times within the hour, else by the hour. The hours of a policy that
acts once an hour are computed at once, so a year costs it about as much as by the hour; one that acts in every step costs some
50 µs for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from foreshard.lab._serving import CopyMap, co_accesses, distance_served, served_load
from foreshard.lab.log import ReplayLog
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import NOT_YET, Cluster, LabAction, Past, Policy, ReplayRules, key_sizes
from foreshard.model import SECONDS_PER_HOUR, FloatArray, IntArray

StepRow = tuple[IntArray, IntArray, FloatArray]
"""Rows (key, steps after the first, cost)."""


@dataclass
class Run:
    """The result of one policy. ``load`` (P, steps) is in cost per hour and includes copying; an hour has ``per_hour`` steps.

    ``moves``: (hour, key, source, target). ``shadows``: the number of shadows in each hour. ``own_cost``: the log's cost.
    """

    first: int
    load: FloatArray
    per_hour: int = 1
    moves: list[tuple[int, int, int, int]] = field(default_factory=list)
    size_bytes: float = 0.0
    co_accesses: float = 0.0
    split_co_accesses: float = 0.0
    cost_km: float = 0.0
    located_cost: float = 0.0
    shadows: list[int] = field(default_factory=list)
    own_cost: float = 0.0

    def worst_of_hours(self) -> FloatArray:
        """Return the highest load of each hour (P, hours)."""
        return np.asarray(self.load.reshape(len(self.load), -1, self.per_hour).max(axis=2, initial=0.0))


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
    nearness: bool = True,
) -> Run:
    """Run the hours from ``start`` on under ``policy``. Without ``nearness``, co-access and distances are not measured."""
    return _Simulation(log, layout, policy, start, rules, nearness).run(progress)


class _Simulation:
    def __init__(
        self, log: ReplayLog, layout: PartitionLayout, policy: Policy, start: int, rules: ReplayRules, nearness: bool
    ) -> None:
        self.log, self.policy, self.rules, self.first, self.nearness = log, policy, rules, start, nearness
        self.capacity, self.per_hour = layout.capacity, log.steps_per_hour
        self.km = layout.distance_from(log.locations)
        keys = len(log.keys)
        first = policy.start(Past(log, start, rules)).astype(np.int64)
        self.cluster = Cluster(first.copy(), set(), {}, np.full(keys, NOT_YET), np.full(keys, -1, np.int64))
        self.jobs: list[_Job] = []
        self.lanes: dict[tuple[str, int], list[float]] = defaultdict(lambda: [float(start)] * rules.lanes)
        steps = (log.hours - start) * self.per_hour
        self.result = Run(start, np.zeros((len(layout.partitions), steps)), self.per_hour)
        self.reads = _read_shares(log, 0, start)

    def run(self, progress: Callable[[int, int], None] | None) -> Run:
        hours = self.log.hours
        at_once = 1 if self.policy.within_hour else self.per_hour
        for now in range(self.first, hours):
            if (now - self.first) % 24 == 0:
                self.sizes = key_sizes(self.log, now, self.rules)
                if progress:
                    progress(now - self.first, hours - self.first)
            for step in range(now * self.per_hour, (now + 1) * self.per_hour, at_once):
                self._begin(step)
                placement = self._placement()
                if step == now * self.per_hour:
                    self._measure(now, placement)
                self._serve(step, step + at_once, placement)
            self.result.shadows.append(len(self.cluster.shadows))
        if progress:
            progress(hours - self.first, hours - self.first)
        return self.result

    def _placement(self) -> CopyMap:
        return CopyMap.of(self.cluster.primary, self.cluster.shadows, len(self.capacity))

    def _begin(self, step: int) -> None:
        """Begin what the policy decides at the start of a step."""
        now, within = divmod(step, self.per_hour)
        cluster, places = self.cluster, self._places(0, 0)
        for change in self.policy.decide(Past(self.log, now, self.rules, within), cluster):
            if change.kind == "remove":
                cluster.shadows.discard((change.key, change.partition))
                continue
            here = int(cluster.primary[change.key])
            if change.key in cluster.pending or here == change.partition:
                continue
            if not change.joins:
                places = self._places(here, change.partition)
            begins = max(step / self.per_hour, *(lanes[number] for lanes, number in places))
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

    def _serve(self, first: int, last: int, placement: CopyMap) -> None:
        """Add the load of the steps [first, last), and complete the jobs that end in them."""
        rows, now = self.log.step_rows(first, last), first // self.per_hour
        load = served_load(self.log, now, rows, last - first, placement, self.reads, self.capacity, self.km, self.rules.serving)
        still = []
        for job in self.jobs:
            self._add_job(load, job, first, rows)
            if job.ends * self.per_hour <= last:
                self._finish(job, now)
            else:
                still.append(job)
        self.jobs = still
        at = first - self.first * self.per_hour
        self.result.load[:, at : at + last - first] = np.maximum(load, 0.0) * self.per_hour

    def _add_job(self, load: FloatArray, job: _Job, first: int, rows: StepRow) -> None:
        """Add to ``load`` what a job adds in each step: copying on both sides, and the key's load once moved."""
        steps = load.shape[1]
        opens = np.arange(first, first + steps) / self.per_hour
        closes = np.arange(first + 1, first + steps + 1) / self.per_hour
        running = np.maximum(np.minimum(job.ends, closes) - np.maximum(job.begins, opens), 0.0)
        copying = self.rules.copy_load * job.recent * running / max(job.ends - job.begins, 1e-9)
        load[job.source] += copying
        load[job.change.partition] += copying
        if job.change.kind == "move" and job.ends <= closes[-1]:
            key, after, cost = rows
            mine = key == job.change.key
            own = np.bincount(after[mine], weights=cost[mine], minlength=steps)
            served = own * (closes - np.clip(job.ends, opens, closes)) * self.per_hour
            load[job.source] -= served
            load[job.change.partition] += served

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

    def _measure(self, now: int, placement: CopyMap) -> None:
        """Add the figures of an hour that began with ``placement``."""
        run = self.result
        run.own_cost += float(self.log.costs[:, now].sum(dtype=np.float64))
        if self.nearness:
            uses, apart = co_accesses(self.log, now, placement)
            cost, cost_km = distance_served(self.log, now, placement, self.km)
            run.co_accesses += uses
            run.split_co_accesses += apart
            run.located_cost += cost
            run.cost_km += cost_km


def _read_shares(log: ReplayLog, first: int, last: int) -> FloatArray:
    """Return the share of reads in each key's cost (K) in the given hours, or in the whole log if there are none."""
    rows = log.visits.of(first, last) if last > first else slice(None)
    spent = np.bincount(log.visit_key[rows], weights=log.visit_cost[rows], minlength=len(log.keys))
    read = np.bincount(log.visit_key[rows], weights=log.visit_reads[rows], minlength=len(log.keys))
    return np.divide(read, spent, out=np.zeros(len(log.keys)), where=spent > 0)
