"""The objective's term *work*: co-access across partitions and accesses served from afar, for units wherever they might be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foreshard.measure.demand import row_entries, summing
from foreshard.model import SECONDS_PER_HOUR, FloatArray, IntArray
from foreshard.plan.input.judged_hours import JudgedHours
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot
from foreshard.plan.objective import CROSSING, DISTANCE, NEARNESS


class Nearness:
    """Prices ``work`` in overload hours. ``copies`` maps a key to the partitions of its shadows; the planner changes it."""

    def __init__(
        self, snapshot: Snapshot, policy: PlanPolicy, hours: JudgedHours, primary: IntArray, copies: Mapping[int, Sequence[int]]
    ) -> None:
        self._graph, self._origins, self._km = snapshot.co_access, snapshot.demand.origins, snapshot.distance_km
        self._primary, self._copies, self._partitions = primary, copies, len(snapshot.partitions)
        weight = float(hours.weight.sum())
        self._price = policy.nearness * NEARNESS * weight / (float(snapshot.capacity.mean()) * SECONDS_PER_HOUR)
        self._per_co_access = self._price * CROSSING * (snapshot.access_cost or 1.0)
        rate = np.asarray(hours.mean @ (hours.weight / max(weight, 1e-12)), np.float64) * SECONDS_PER_HOUR
        self._per_km = self._price * DISTANCE * rate / snapshot.span_km
        self._read_share = snapshot.demand.read_share

    def ties(self, units: IntArray, partitions: IntArray, shadows: bool = True) -> FloatArray:
        """Return the co-accesses per hour of each unit with the units of each partition, and their ``shadows`` there (n, m)."""
        column = np.full(self._partitions, -1, np.int64)
        column[partitions] = np.arange(len(partitions))
        row, at = row_entries(self._graph.indptr, units)
        neighbour, weight = self._graph.neighbour[at], self._graph.weight[at]
        place = column[self._primary[neighbour]]
        seen, width = place >= 0, len(partitions)
        found = np.bincount(row[seen] * width + place[seen], weights=weight[seen], minlength=len(units) * width).astype(float)
        for key, held in self._copies.items() if shadows else ():
            mine = np.flatnonzero(neighbour == key)
            for partition in held:
                if column[partition] >= 0:
                    np.add.at(found, row[mine] * width + column[partition], weight[mine])
        return found.reshape(len(units), width)

    def among(self, units: IntArray) -> FloatArray:
        """Return the co-accesses per hour among the first 1, 2, … of these units (n)."""
        position = np.full(len(self._primary), -1, np.int64)
        position[units] = np.arange(len(units))
        row, at = row_entries(self._graph.indptr, units)
        other = position[self._graph.neighbour[at]]
        counted = other > row
        return np.bincount(other[counted], weights=self._graph.weight[at][counted], minlength=len(units)).cumsum()

    def between(self, unit: int, others: IntArray) -> FloatArray:
        """Return the co-accesses per hour of ``unit`` with each of ``others`` (n)."""
        neighbours, weights = self._graph.of(unit)
        if not len(neighbours):
            return np.zeros(len(others))
        at = np.minimum(np.searchsorted(neighbours, others), len(neighbours) - 1)
        return np.asarray(np.where(neighbours[at] == others, weights[at], 0.0))

    def work(self, units: IntArray, partitions: IntArray, ties: FloatArray) -> FloatArray:
        """Return the work of each unit if it were on each of ``partitions``, all others staying (n, m), from their ties."""
        row, at = row_entries(self._graph.indptr, units)
        total = np.bincount(row, weights=self._graph.weight[at], minlength=len(units))
        crossing = self._per_co_access * np.maximum(total[:, None] - ties, 0.0)
        return np.asarray(crossing + self._per_km[units, None] * self._mean_km(units, partitions))

    def joined(self, co_accesses: FloatArray) -> FloatArray:
        """Return the work that :meth:`work` counts too much for a set with this many ``co_accesses`` among its units."""
        return 2.0 * self._per_co_access * co_accesses

    def savings_at_most(self) -> FloatArray:
        """Return the work that a move of each unit could save at the very most (K)."""
        graph, keys = self._graph, len(self._primary)
        row = np.repeat(np.arange(keys), np.diff(graph.indptr))
        apart = self._primary[row] != self._primary[graph.neighbour]
        crossing = np.bincount(row[apart], weights=graph.weight[apart], minlength=keys)
        return np.asarray(self._per_co_access * crossing + self._per_km * self._far_km())

    def saved_by_copy(self, key: int, partitions: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return what a further copy of ``key`` on each of ``partitions`` saves: the work, and km per read (m)."""
        place, share = self._origins.of(key)
        held = [int(self._primary[key]), *self._copies.get(key, ())]
        if not len(place):
            return np.zeros(len(partitions)), np.zeros(len(partitions))
        now = self._km[place][:, held].min(axis=1)
        saved = share @ np.maximum(now[:, None] - self._km[place][:, partitions], 0.0)
        return self._per_km[key] * self._read_share[key] * saved, np.asarray(saved)

    def far_reads(self) -> FloatArray:
        """Return the work that a copy of each key at its readers could save at the very most (K)."""
        return np.asarray(self._per_km * self._read_share * self._far_km())

    def _far_km(self) -> FloatArray:
        """Return by how much each key's readers are farther from its primary copy than from their nearest partition (K)."""
        origin = np.repeat(np.arange(len(self._primary)), np.diff(self._origins.indptr))
        if not len(origin):
            return np.zeros(len(self._primary))
        place = self._origins.location
        far = self._origins.share * (self._km[place, self._primary[origin]] - self._km.min(axis=1)[place])
        return np.bincount(origin, weights=far, minlength=len(self._primary)).astype(np.float64)

    def _mean_km(self, units: IntArray, partitions: IntArray) -> FloatArray:
        """Return the mean distance of each unit's readers from each of ``partitions`` (n, m); 0 where they are unknown."""
        row, at = row_entries(self._origins.indptr, units)
        if not len(row):
            return np.zeros((len(units), len(partitions)))
        km = self._km[self._origins.location[at]][:, partitions]
        return np.asarray(summing(row, len(units), self._origins.share[at]) @ km)
