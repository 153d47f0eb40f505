"""A placement while a plan is built: its loads, and the objective's terms. Steps are taken, and undone if they don't pay.

A step recounts its two partitions, and the partitions that share reads of shadowed keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import copy_rows, serve_copies
from foreshard.model import BoolArray, FloatArray, IntArray
from foreshard.plan._nearness import Nearness
from foreshard.plan.input.judged_hours import JudgedHours
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot
from foreshard.plan.objective import overload_risk, with_companions

TOLERANCE = 1e-9
HALF_EMPTY = 0.5
"""A partition is half empty below this share of the high-water mark."""


@dataclass(frozen=True, slots=True)
class _Before:
    """What a step changed: enough to undo it."""

    units: IntArray
    moved: BoolArray
    copied: BoolArray
    source: int
    shadow: tuple[int, int] | None
    rows: IntArray
    base: LoadProfile
    load: LoadProfile
    inside: FloatArray
    overload: FloatArray


class PlannedPlacement:
    """The primary copies (K), the shadows, and what follows from them. It starts as the snapshot's state.

    ``load`` (P, T): the partitions' loads with reads shared between copies. ``inside`` (P): co-accesses per hour between units
    of the same partition. ``overload`` (P): the objective's term. ``moved`` (K): units that this plan has moved.
    ``full_at_first`` (P): which were above the mark before the plan. ``ceiling`` (P): the LPS that each may reach,
    its mark or what it had before the plan.
    """

    def __init__(self, snapshot: Snapshot, policy: PlanPolicy, hours: JudgedHours) -> None:
        self.snapshot, self.policy, self.hours = snapshot, policy, hours
        self.capacity, self.primary = snapshot.capacity, snapshot.primary.copy()
        self.moved = np.zeros(len(self.primary), bool)
        self.copies: dict[int, list[int]] = {}
        self._copied = np.zeros(len(self.primary), bool)
        self._touched = np.bincount(snapshot.slot_row[snapshot.under_way], minlength=len(self.primary))
        for shadow in snapshot.shadows:
            self._copied[shadow.key] = True
            if shadow.partition != self.primary[shadow.key]:
                self.copies.setdefault(shadow.key, []).append(shadow.partition)
        self.nearness = Nearness(snapshot, policy, hours, self.primary, self.copies)
        self.base = hours.unshadowed_load(self.primary, len(self.capacity), sorted(self.copies))
        self.load = self.base + LoadProfile.zeros(*self.base.mean.shape)
        graph = snapshot.co_access
        here = np.repeat(self.primary, np.diff(graph.indptr))
        together = here == self.primary[graph.neighbour]
        self.inside: FloatArray = (
            np.bincount(here[together], weights=graph.weight[together], minlength=len(self.capacity)) / 2.0
        )
        self.overload = np.zeros(len(self.capacity))
        self._steps: list[_Before] = []
        self._recount(np.arange(len(self.capacity)))
        first = self.lps()
        self.ceiling = np.maximum(first, policy.high_water)
        self.full_at_first = first > policy.high_water + TOLERANCE
        self._empty = (first < HALF_EMPTY * policy.high_water) & snapshot.active

    def urgent(self, source: int, target: int) -> bool:
        """Return whether the source was above its mark before the plan, and the target half empty: no gain is doubted then."""
        return bool(self.full_at_first[source] and self._empty[target])

    def fills_too_much(self, before: FloatArray, relieving: tuple[int, int] | None = None) -> bool:
        """Return whether a partition has risen above its ceiling since its LPS was ``before`` (P).

        ``relieving`` (source, target): the target may become as full as the source was, if that is relieved.
        """
        after, ceiling = self.lps(), self.ceiling
        if relieving is not None:
            source, target = relieving
            ceiling = ceiling.copy()
            ceiling[target] = self.ceiling_for(source, target, float(before[source]))
        return bool(((after > ceiling + TOLERANCE) & (after > before + TOLERANCE)).any())

    def ceiling_for(self, source: int, target: int, lps: float) -> float:
        """Return the LPS that ``target`` may reach by relieving ``source``, whose LPS is ``lps`` now."""
        if not self.full_at_first[source] or lps <= self.policy.high_water or not self.snapshot.active[source]:
            return float(self.ceiling[target])
        return max(float(self.ceiling[target]), min(lps, float(self.ceiling[source])) - TOLERANCE)

    def even_level(self, source: int) -> float:
        """Return the LPS if the load of ``source`` and of the half empty partitions were split evenly among them."""
        group = self._empty.copy()
        group[source] = True
        return float((self.lps() * self.capacity)[group].sum() / self.capacity[group].sum())

    def utilisation(self, rows: IntArray | slice = slice(None)) -> FloatArray:
        """Return the upper-quantile load ÷ capacity of the coming hours (P, H)."""
        coming = self.load.rows((rows, slice(0, self.hours.coming)))
        return np.asarray(coming.upper(self.policy.serving) / self.capacity[rows][:, None])

    def lps(self) -> FloatArray:
        """Return the LPS of each partition (P)."""
        return np.asarray(self.utilisation().max(axis=1, initial=0.0))

    def upper_lps(self, load: LoadProfile, partition: int) -> FloatArray:
        """Return the LPS of a partition under each of these loads (n, T)."""
        coming = load.rows((slice(None), slice(0, self.hours.coming)))
        return load_prediction_scores(coming.upper(self.policy.serving), self.capacity[partition])

    def overload_of(
        self, load: LoadProfile, partition: IntArray | int, inside: FloatArray, hours_count: bool = True
    ) -> FloatArray:
        """Return the term *overload* of partitions under these loads (n, T), with ``inside`` (n) co-accesses an hour.

        ``hours_count``: see :func:`overload_risk`.
        """
        noisy = with_companions(load, inside, self.snapshot.access_cost)
        capacity = np.atleast_1d(self.capacity[partition])[:, None]
        deviation = noisy.deviation(self.policy.serving.correlation)
        hours = overload_risk(noisy.mean, deviation, capacity, self.policy.high_water, hours_count)
        return np.asarray(hours @ self.hours.weight)

    def overload_change(self, load: LoadProfile, partition: int, inside: FloatArray, hours_count: bool) -> FloatArray:
        """Return by how much the overload of ``partition`` changes under these loads (n, T), with ``inside`` (n)."""
        rows = np.array([partition])
        now = self.overload[rows]
        if not hours_count:
            now = self.overload_of(self.load.rows(rows), rows, self.inside[rows], hours_count)
        return np.asarray(self.overload_of(load, partition, inside, hours_count) - now)

    def urgency(self, partition: int) -> FloatArray:
        """Return by how much each hour's overload falls per cost/s taken from ``partition`` (T)."""
        step, row = 0.02 * self.capacity[partition], self.load.rows(np.array([partition]))
        noisy = with_companions(row, self.inside[[partition]], self.snapshot.access_cost)
        deviation = noisy.deviation(self.policy.serving.correlation)
        both = [
            overload_risk(mean, deviation, self.capacity[[partition], None], self.policy.high_water)[0]
            for mean in (noisy.mean, np.maximum(noisy.mean - step, 0.0))
        ]
        return np.asarray(np.maximum(both[0] - both[1], 0.0) / step * self.hours.weight)

    def units_on(self, partition: int) -> IntArray:
        """Return the units whose primary copy is on ``partition``, in order."""
        return np.flatnonzero(self.primary == partition)

    def movable_on(self, partition: int) -> IntArray:
        """Return the units on ``partition`` that may be moved."""
        units = self.units_on(partition)
        return units[self.may_move(units)]

    def may_move(self, units: IntArray) -> BoolArray:
        """Return which of ``units`` may move (n): not pinned, without shadows, and no move touches them or their slot."""
        snapshot = self.snapshot
        free = snapshot.movable[units] & ~self.moved[units] & ~self.moved[snapshot.slot_row[units]]
        free &= ~((self._touched[units] > 0) & snapshot.slots[units]) & ~snapshot.rules.fixed_keys[units]
        return np.asarray(free & ~self._copied[units])

    def move(self, units: IntArray, target: int) -> None:
        """Move ``units``, all on one partition and without shadows, to ``target``."""
        source = int(self.primary[units[0]])
        before = self._remember(units, source, None, [source, target])
        ties = self.nearness.ties(units, np.array([source, target]), shadows=False).sum(axis=0)
        among = self.nearness.among(units)[-1]
        self.inside[source] -= ties[0] - among
        self.inside[target] += ties[1] + among
        self._shift(self.hours.total(units), source, target)
        self.primary[units] = target
        self.moved[units] = True
        np.add.at(self._touched, self.snapshot.slot_row[units], 1)
        self._recount(before.rows)

    def add_shadow(self, key: int, partition: int) -> None:
        """Add a shadow of ``key``."""
        units, source = np.array([key]), int(self.primary[key])
        before = self._remember(units, source, (key, partition), {source, partition, *self.copies.get(key, ())})
        if key not in self.copies:
            self._shift(self.hours.total(units), source, None)
        self.copies.setdefault(key, []).append(partition)
        self._copied[key] = True
        self._recount(before.rows)

    def remove_shadow(self, key: int, partition: int) -> None:
        """Remove a shadow of ``key``, if there is one."""
        if partition not in self.copies.get(key, ()):
            return
        units, source = np.array([key]), int(self.primary[key])
        before = self._remember(units, source, (key, partition), {source, *self.copies[key]})
        self.copies[key].remove(partition)
        if not self.copies[key]:
            del self.copies[key]
            self._shift(self.hours.total(units), None, source)
        self._recount(before.rows)

    @property
    def steps(self) -> int:
        """The number of steps taken, for :meth:`undo`."""
        return len(self._steps)

    def undo(self, steps: int) -> None:
        """Undo the last steps until only the first ``steps`` are left."""
        while len(self._steps) > steps:
            before = self._steps.pop()
            if before.shadow is None:
                self.primary[before.units] = before.source
                np.subtract.at(self._touched, self.snapshot.slot_row[before.units], 1)
                self.moved[before.units] = before.moved
            else:
                self._toggle(*before.shadow)
                self._copied[before.units] = before.copied
            for total, was in ((self.base, before.base), (self.load, before.load)):
                for part, old in zip(total.parts(), was.parts(), strict=True):
                    part[before.rows] = old
            self.inside[before.rows], self.overload[before.rows] = before.inside, before.overload

    def _toggle(self, key: int, partition: int) -> None:
        held = self.copies.setdefault(key, [])
        if partition in held:
            held.remove(partition)
        else:
            held.append(partition)
        if not held:
            del self.copies[key]

    def _remember(self, units: IntArray, source: int, shadow: tuple[int, int] | None, touched: Iterable[int]) -> _Before:
        rows = np.array(sorted(self._held(set(touched))), np.int64)
        before = _Before(
            units, self.moved[units], self._copied[units], source, shadow, rows, self.base.rows(rows), self.load.rows(rows),
            self.inside[rows], self.overload[rows],
        )  # fmt: skip
        self._steps.append(before)
        return before

    def _held(self, touched: set[int]) -> set[int]:
        """Add to ``touched`` all partitions that share reads, if it has any of these."""
        sharing = {p for key, held in self.copies.items() for p in (int(self.primary[key]), *held)}
        return touched | sharing if touched & sharing else touched

    def _shift(self, load: LoadProfile, source: int | None, target: int | None) -> None:
        for part, mine in zip(self.base.parts(), load.parts(), strict=True):
            if source is not None:
                part[source] = np.maximum(part[source] - mine, 0.0)
            if target is not None:
                part[target] += mine

    def _recount(self, rows: IntArray) -> None:
        """Recount the loads and the overload of ``rows``, sharing the reads of shadowed keys among their copies."""
        for part, base in zip(self.load.parts(), self.base.parts(), strict=True):
            part[rows] = base[rows]
        keys = [key for key in sorted(self.copies) if np.isin(self.primary[key], rows)]
        if keys:
            units, column = np.array(keys), np.full(len(self.capacity), -1, np.int64)
            column[rows] = np.arange(len(rows))
            holders = copy_rows([(int(self.primary[key]), *sorted(self.copies[key])) for key in keys])
            within = np.where(holders >= 0, column[holders], -1)
            served, _ = serve_copies(
                self.base.rows(rows), self.hours.demand_of(units), within, self.capacity[rows],
                self.snapshot.distance_km[:, rows], self.policy.serving,
            )  # fmt: skip
            for part, mine in zip(self.load.parts(), served.parts(), strict=True):
                part[rows] = mine
        self.overload[rows] = self.overload_of(self.load.rows(rows), rows, self.inside[rows])


def rule_violations(placement: PlannedPlacement) -> list[tuple[int, int]]:
    """Return (partition, rule row) of the primary copies that violate their rules and are not being moved."""
    rules = placement.snapshot.rules
    if not rules.any_rules:
        return []
    keys = np.flatnonzero(~rules.at_home(placement.primary) & ~placement.snapshot.under_way)
    return sorted({(int(placement.primary[key]), int(rules.row[key])) for key in keys})


def misplaced_units(placement: PlannedPlacement, source: int, row: int) -> IntArray:
    """Return the units on ``source`` under the rules of ``row`` that are not being moved."""
    units, snapshot = placement.units_on(source), placement.snapshot
    return np.asarray(units[(snapshot.rules.row[units] == row) & ~snapshot.under_way[units]])
