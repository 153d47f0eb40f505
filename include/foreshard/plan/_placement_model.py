"""The predicted load of every partition while a plan is built. Changes are applied, measured, and undone if they do not pay.

A change recomputes only its two partitions, and the partitions that share reads with them through shadowed keys.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import copy_rows, serve_copies
from foreshard.model import BoolArray, FloatArray, IntArray
from foreshard.plan._evaluation_window import EvaluationWindow, coming_and_past
from foreshard.plan._model_change import ModelChange
from foreshard.plan._risk import CoAccessCounts, overload_risk, with_co_access_noise
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot

TOLERANCE = 1e-9
PAST_DAYS = 5.0
"""The total weight of past hours, in days like the coming one. They stand for the days after the horizon."""


class PlacementModel:
    """The primary copies, shadows and resulting load. It starts as the snapshot's state and does not change the snapshot.

    ``profile``: the load (P, H) with reads shared between copies. ``unshadowed_load``: the load of the keys without shadows.
    ``co_accesses`` (P): co-accesses per hour between keys on the same partition, if the cost of an access is known. Keys are
    indices into the snapshot. Methods return internal arrays, which later changes overwrite.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        policy: PlanPolicy,
        hours: EvaluationWindow | None = None,
        unshadowed_load: LoadProfile | None = None,
    ) -> None:
        """``hours``: the hours to evaluate (None: :func:`coming_and_past`). ``unshadowed_load``: used if known already."""
        hours = hours or coming_and_past(snapshot, PAST_DAYS)
        self.snapshot, self.policy, self.hours = snapshot, policy, hours
        self.marked_hours, self._weight = hours.marked_hours, hours.weight
        self.capacity, self.rule = snapshot.capacity, policy.serving
        self._overload_mark = policy.overload_mark
        self.primary: IntArray = snapshot.primary.copy()
        self.returns_allowed = False
        self._copies: dict[int, list[int]] = {}
        self._shadowed_on: dict[int, set[int]] = {}
        self._has_shadow = np.zeros(len(self.primary), bool)
        self._moved = np.zeros(len(self.primary), bool)
        for shadow in snapshot.shadows:
            if shadow.partition not in self.copies(shadow.key):
                self._list_shadow(shadow.key, shadow.partition)
        self._members = members(self.primary, len(self.capacity))
        self._co_access = CoAccessCounts(snapshot.co_access, snapshot.access_cost, self.primary, len(self.capacity))
        self.co_accesses = self._co_access.inside
        self.unshadowed_load = unshadowed_load or hours.unshadowed_load(self.primary, len(self.capacity), sorted(self._copies))
        self.profile = self.unshadowed_load + LoadProfile.zeros(*self.unshadowed_load.mean.shape)
        self._utilisation = np.zeros((len(self.capacity), self.marked_hours))
        self._lps, self._risk = np.zeros(len(self.capacity)), np.zeros(len(self.capacity))
        self._recount(np.arange(len(self.capacity)))

    @property
    def shadows(self) -> set[tuple[int, int]]:
        """(key, partition) of every shadow."""
        return {(key, partition) for key, held in self._copies.items() for partition in held}

    @property
    def shadowed(self) -> set[int]:
        """The keys that have a shadow. They are not moved."""
        return set(self._copies)

    @cached_property
    def key_mask(self) -> BoolArray:
        """A reusable mask over all keys. Callers reset it to all false after use."""
        return np.zeros(len(self.primary), bool)

    def not_back_to(self, key: int) -> int:
        """Return the partition that ``key`` left recently and may not return to, −1 for none."""
        return -1 if self.returns_allowed else int(self.snapshot.not_back_to[key])

    def certainly_overloaded(self, partition: int) -> bool:
        """Return whether even the lower quantile of the load exceeds the high-water mark in some hour."""
        here = self.profile.rows(np.array([partition]))
        lower = (here.mean - self.rule.z * here.deviation(self.rule.correlation))[:, : self.marked_hours]
        return bool((lower > self.policy.high_water * self.capacity[partition]).any())

    def copies(self, key: int) -> frozenset[int]:
        """Return the partitions that hold ``key``."""
        return frozenset([int(self.primary[key]), *self._copies.get(key, ())])

    def keys_on(self, partition: int) -> IntArray:
        """Return the keys whose primary copy is on ``partition``, in order."""
        return self._members[partition]

    def unmoved_on(self, partition: int) -> IntArray:
        """Return the keys on ``partition``, without the keys that this plan moved there."""
        keys = self._members[partition]
        return keys[~self._moved[keys]]

    def movable_on(self, partition: int) -> IntArray:
        """Return the keys, not slots, on ``partition`` that may be moved: not shadowed, not pinned, and their slot stays."""
        keys, snapshot = self.unmoved_on(partition), self.snapshot
        stays = ~self._has_shadow[keys] & ~self._moved[snapshot.slot_row[keys]] & ~snapshot.slots[keys]
        return keys[snapshot.movable[keys] & ~snapshot.rules.fixed_keys[keys] & stays]

    @property
    def moved(self) -> IntArray:
        """The keys moved so far. No key is moved twice."""
        return np.flatnonzero(self._moved)

    def has_shadow(self, keys: IntArray) -> BoolArray:
        """Return which of ``keys`` have shadows."""
        return np.asarray(self._has_shadow[keys])

    def lps(self) -> FloatArray:
        """LPS per partition (P)."""
        return self._lps

    def utilisation(self) -> FloatArray:
        """Upper-quantile load ÷ capacity in the hours to which marks apply (P, hours)."""
        return self._utilisation

    def risk(self, profile: LoadProfile, partition: IntArray | slice, co_accesses: FloatArray) -> FloatArray:
        """Return the weighted overload risk over all hours for ``profile`` (…, n, H) on these n partitions.

        ``co_accesses`` (…, n): co-accesses per hour between keys on the same partition.
        """
        mark = self._overload_mark
        profile = with_co_access_noise(profile, co_accesses, self.snapshot.access_cost)
        hours = overload_risk(
            profile.mean,
            profile.deviation(self.rule.correlation),
            self.capacity[partition][:, None],
            mark,
            min(self.policy.low_water, mark),
        )
        return np.asarray(hours @ self._weight)

    def risk_now(self) -> FloatArray:
        """Return the overload risk of each partition now (P)."""
        return self._risk

    def total_risk(self) -> float:
        """Return the overload risk of all partitions."""
        return float(self._risk.sum())

    def urgency(self, partition: int) -> FloatArray:
        """Return the decrease of each hour's risk on ``partition`` per cost/s removed, shape (H,)."""
        row = np.array([partition])
        step = 0.01 * self.capacity[partition]
        here = self.profile.rows(row)
        deviation, low = here.deviation(self.rule.correlation), min(self.policy.low_water, self._overload_mark)
        hours = [
            overload_risk(mean, deviation, self.capacity[row, None], self._overload_mark, low)[0]
            for mean in (here.mean, here.mean - step)
        ]
        return np.asarray(np.maximum(hours[0] - hours[1], 0.0) / step * self._weight)

    def move(self, keys: tuple[int, ...], target: int) -> ModelChange:
        """Move ``keys``, all on one partition and without shadows, to ``target``."""
        index, source = np.array(keys, np.int64), int(self.primary[keys[0]])
        change = self._before(index, source, target, (self._members[source], self._members[target]))
        self._co_access.move(index, source, target, self.primary)
        sums = self._sum(index)
        self._add(source, sums, -1.0)
        self._add(target, sums, 1.0)
        self.primary[index] = target
        self._moved[index] = True
        self._members[source] = self._members[source][~np.isin(self._members[source], index)]
        self._members[target] = np.sort(np.concatenate([self._members[target], index]))
        self._recount(change.rows)
        return change

    def add_shadow(self, key: int, partition: int) -> ModelChange:
        """Add a shadow of ``key``."""
        index, source = np.array([key]), int(self.primary[key])
        first = key not in self._copies
        self._list_shadow(key, partition)
        change = self._before(index, source, partition)
        if first:
            self._add(source, self._sum(index), -1.0)
        self._recount(change.rows)
        return change

    def remove_shadow(self, key: int, partition: int) -> ModelChange | None:
        """Remove a shadow of ``key``; None if there is none."""
        if partition not in self._copies.get(key, ()):
            return None
        index, source = np.array([key]), int(self.primary[key])
        change = self._before(index, source, partition)
        self._unlist_shadow(key, partition)
        if key not in self._copies:
            self._add(source, self._sum(index), 1.0)
        self._recount(change.rows)
        return change

    def freeze_copies(self) -> None:
        """Freeze the load that each copy serves now: later changes do not share reads again."""
        self.unshadowed_load = self.profile + LoadProfile.zeros(*self.unshadowed_load.mean.shape)
        self._shadowed_on.clear()

    def level(self, partition: int) -> float:
        """Return the LPS that targets of ``partition`` may reach: the high-water mark, or its own LPS if higher."""
        return max(self.policy.high_water, float(self._lps[partition]))

    def undo(self, change: ModelChange) -> None:
        """Undo ``change``, which must be the last one. Every figure is restored exactly."""
        rows = change.rows
        if change.members:
            self.primary[change.keys] = change.source
            self._moved[change.keys] = False
            self._members[change.source], self._members[change.target] = change.members
        elif change.target in self._copies.get(int(change.keys[0]), ()):
            self._unlist_shadow(int(change.keys[0]), change.target)
        else:
            self._list_shadow(int(change.keys[0]), change.target)
        for held, before in ((self.unshadowed_load, change.unshadowed_load), (self.profile, change.profile)):
            for total, part in zip(held.parts(), before.parts(), strict=True):
                total[rows] = part
        self._utilisation[rows], self._lps[rows] = change.utilisation, change.lps
        self._risk[rows], self.co_accesses[rows] = change.risk, change.co_accesses

    def pushed_over(self, change: ModelChange, level: float | None = None) -> bool:
        """Return whether ``change`` raised an hour above ``level`` (None: the high-water mark), or further above it."""
        mark = self.policy.high_water if level is None else level
        now, before = self._utilisation[change.rows], change.utilisation
        return bool(((now > mark + TOLERANCE) & (now > before + TOLERANCE)).any())

    def _before(self, keys: IntArray, source: int, target: int, listed: tuple[IntArray, ...] = ()) -> ModelChange:
        """Return the figures that a change between two partitions will replace."""
        rows = self._linked(source, target)
        return ModelChange(
            keys, source, target, rows, self.unshadowed_load.rows(rows), self.profile.rows(rows), self._utilisation[rows],
            self._lps[rows], self._risk[rows], self.co_accesses[rows], listed,
        )  # fmt: skip

    def _linked(self, *partitions: int) -> IntArray:
        """These partitions, and all that share reads with them directly or through others."""
        found, allowed_targets = set(partitions), list(partitions)
        while allowed_targets:
            for key in self._shadowed_on.get(allowed_targets.pop(), ()):
                fresh = self.copies(key) - found
                found |= fresh
                allowed_targets += fresh
        return np.array(sorted(found), np.int64)

    def _list_shadow(self, key: int, partition: int) -> None:
        self._copies.setdefault(key, []).append(partition)
        self._has_shadow[key] = True
        for holder in (int(self.primary[key]), partition):
            self._shadowed_on.setdefault(holder, set()).add(key)

    def _unlist_shadow(self, key: int, partition: int) -> None:
        self._copies[key].remove(partition)
        self._shadowed_on[partition].discard(key)
        if not self._copies[key]:
            del self._copies[key]
            self._has_shadow[key] = False
            self._shadowed_on[int(self.primary[key])].discard(key)

    def _sum(self, keys: IntArray) -> LoadProfile:
        profile = self.hours.load(keys)
        return LoadProfile(profile.mean.sum(axis=0), profile.variance.sum(axis=0), profile.spread.sum(axis=0))

    def _add(self, partition: int, load: LoadProfile, sign: float) -> None:
        for total, part in zip(self.unshadowed_load.parts(), load.parts(), strict=True):
            total[partition] = np.maximum(total[partition] + sign * part, 0.0)

    def _recount(self, rows: IntArray) -> None:
        """Recompute the figures of ``rows``. Every shadowed key must have either all of its copies there or none."""
        here = self.unshadowed_load.rows(rows)
        keys = np.array(sorted(set().union(*(self._shadowed_on.get(row, ()) for row in rows.tolist()))), np.int64)
        if len(keys):
            here = self._shared(here, keys, rows)
        for total, part in zip(self.profile.parts(), here.parts(), strict=True):
            total[rows] = part
        upper = here.upper(self.rule)[:, : self.marked_hours]
        self._utilisation[rows] = upper / self.capacity[rows, None]
        self._lps[rows] = load_prediction_scores(upper, self.capacity[rows])
        self._risk[rows] = self.risk(here, rows, self.co_accesses[rows])

    def _shared(self, base: LoadProfile, keys: IntArray, rows: IntArray) -> LoadProfile:
        """``base`` plus the load of the shadowed ``keys`` on ``rows``."""
        place, primary = {row: index for index, row in enumerate(rows.tolist())}, self.primary[keys].tolist()
        copies = [
            [place[p] for p in (first, *sorted(self._copies[k]))] for k, first in zip(keys.tolist(), primary, strict=True)
        ]
        km, capacity = self.snapshot.distance_km[:, rows], self.capacity[rows]
        return serve_copies(base, self.hours.of(keys), copy_rows(copies), capacity, km, self.rule)[0]


def members(primary: IntArray, partitions: int) -> list[IntArray]:
    """Return the keys of each partition, in order."""
    order = np.argsort(primary, kind="stable")
    return np.split(order, np.cumsum(np.bincount(primary, minlength=partitions))[:-1])
