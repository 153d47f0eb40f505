"""What an hour's accesses cost under a placement: the partitions' loads, co-accesses across partitions, and distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.lab.log import ReplayLog
from foreshard.measure.demand import KeyDemand, LoadProfile, OriginShares, ServingRule
from foreshard.measure.serving import share_reads
from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class CopyMap:
    """A placement: each key's primary partition (K), and the copies of the keys that have shadows.

    ``row`` (K) is a key's row in ``shadowed`` and ``copies``; −1: it has no shadow. ``copies`` (rows, P) is true for the
    primary copy too. ``listed``: (row, partition) of the shadows.
    """

    primary: IntArray
    row: IntArray
    shadowed: IntArray
    copies: BoolArray
    listed: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, primary: IntArray, shadows: set[tuple[int, int]], partitions: int) -> CopyMap:
        """Copy the placement as it is now."""
        row = np.full(len(primary), -1, np.int64)
        shadowed = np.array(sorted({key for key, _ in shadows}), np.int64)
        row[shadowed] = np.arange(len(shadowed))
        listed = tuple((int(row[key]), partition) for key, partition in sorted(shadows))
        copies = np.zeros((len(shadowed), partitions), bool)
        copies[np.arange(len(shadowed)), primary[shadowed]] = True
        for at, partition in listed:
            copies[at, partition] = True
        return cls(primary.copy(), row, shadowed, copies, listed)


def served_load(
    log: ReplayLog,
    hour: int,
    rows: tuple[IntArray, IntArray, FloatArray],
    steps: int,
    placement: CopyMap,
    reads: FloatArray,
    capacity: FloatArray,
    km: FloatArray,
    rule: ServingRule,
) -> FloatArray:
    """Return the cost (P, steps) of ``rows`` (key, step, cost), all in ``hour``. ``reads``: the keys' shares of reads (K)."""
    key, step, cost = rows
    if not placement.listed:
        return _by_cell(placement.primary[key], step, cost, len(capacity), steps)
    row = placement.row[key]
    alone, copied = np.flatnonzero(row < 0), np.flatnonzero(row >= 0)
    base = LoadProfile.zeros(len(capacity), steps)
    per_second = log.steps_per_hour / SECONDS_PER_HOUR
    base.mean[:] = _by_cell(placement.primary[key[alone]], step[alone], cost[alone], len(capacity), steps) * per_second
    shadowed = placement.shadowed
    mean = _by_cell(row[copied], step[copied], cost[copied], len(shadowed), steps) * log.steps_per_hour
    demand = KeyDemand(mean, np.zeros_like(mean), reads[shadowed], _origins(log, hour, placement))
    load, _ = share_reads(base, demand, placement.primary[shadowed], placement.listed, capacity, km, rule)
    return np.asarray(load.mean / per_second)


def _by_cell(group: IntArray, step: IntArray, cost: FloatArray, groups: int, steps: int) -> FloatArray:
    return np.bincount(group * steps + step, weights=cost, minlength=groups * steps).astype(np.float64).reshape(groups, steps)


def _origins(log: ReplayLog, hour: int, placement: CopyMap) -> OriginShares:
    """Return where the hour's reads of the shadowed keys came from."""
    rows = log.visits.of(hour, hour + 1)
    row, place = placement.row[log.visit_key[rows]], log.visit_place[rows]
    kept = (place >= 0) & (row >= 0)
    return OriginShares.build(row[kept], place[kept], log.visit_reads[rows][kept], len(placement.shadowed))


def co_accesses(log: ReplayLog, hour: int, placement: CopyMap) -> tuple[float, float]:
    """Return the hour's co-accesses, and those of two keys that have no partition in common."""
    rows = log.pairs.of(hour, hour + 1)
    a, b, weight = log.pair_a[rows], log.pair_b[rows], log.pair_weight[rows]
    apart = placement.primary[a] != placement.primary[b]
    if placement.listed:
        some = np.flatnonzero(apart & ((placement.row[a] >= 0) | (placement.row[b] >= 0)))
        apart[some] = ~(_held(placement, a[some]) & _held(placement, b[some])).any(axis=1)
    return float(weight.sum()), float(weight[apart].sum())


def _held(placement: CopyMap, keys: IntArray) -> BoolArray:
    """Return whether each partition has a copy of each of ``keys`` (rows, P)."""
    held = np.zeros((len(keys), placement.copies.shape[1]), bool)
    held[np.arange(len(keys)), placement.primary[keys]] = True
    row = placement.row[keys]
    held[row >= 0] |= placement.copies[row[row >= 0]]
    return held


def distance_served(log: ReplayLog, hour: int, placement: CopyMap, km: FloatArray) -> tuple[float, float]:
    """Return the hour's cost from known locations, and the sum of cost × km. Reads go to the nearest copy."""
    rows = log.visits.of(hour, hour + 1)
    known = log.visit_place[rows] >= 0
    key, place = log.visit_key[rows][known], log.visit_place[rows][known]
    cost, reads = log.visit_cost[rows][known], log.visit_reads[rows][known]
    far = km[place, placement.primary[key]]
    total = float((cost * far).sum())
    copied = np.flatnonzero(placement.row[key] >= 0)
    if len(copied):
        held = placement.copies[placement.row[key[copied]]]
        nearest = np.where(held, km[place[copied]], np.inf).min(axis=1)
        total -= float((reads[copied] * (far[copied] - nearest)).sum())
    return float(cost.sum()), total
