"""The predicted load of every partition while a plan grows: changes are applied, measured, and taken back if they don't pay.

A change costs what it touches: its two partitions, and those that share reads with them through shadowed keys.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import copy_rows, serve_copies
from foreshard.model import BoolArray, FloatArray, IntArray
from foreshard.plan._companions import CommonUses, noisier
from foreshard.plan._evaluation_window import EvaluationWindow, coming_and_past
from foreshard.plan._model_change import ModelChange
from foreshard.plan._risk import overload_risk
from foreshard.plan.snapshot import PlanPolicy, Snapshot

TOLERANCE = 1e-9
PAST_DAYS = 5.0
"""How many days like the coming one past hours count as together: what a move does in them, it does again and again."""


class PlacementModel:
    """Placement, shadows and the load that follows from them; starts as the snapshot's, which it leaves alone.

    ``profile`` is the load (P, H) with the shadowed reads shared out, ``whole`` that of the keys without a shadow, ``uses`` the
    common uses per hour of keys that are on the same partition (P; kept where their cost is known). Keys are indices into the
    snapshot. What it returns are its own arrays, which later changes overwrite.
    """

    def __init__(
        self, snapshot: Snapshot, policy: PlanPolicy, hours: EvaluationWindow | None = None, whole: LoadProfile | None = None
    ) -> None:
        """``hours``: what the placement is judged by (None: the coming ones, which marks apply to, and past ones); ``whole``:
        the load of the keys without a shadow in them, where it is known already, which becomes the outlook's own."""
        hours = hours or coming_and_past(snapshot, PAST_DAYS)
        self.snapshot, self.policy, self.hours = snapshot, policy, hours
        self.marked, self._weight = hours.marked, hours.weight
        self.capacity, self.rule = snapshot.capacity, policy.serving
        self._mark = policy.overload_mark
        self.primary: IntArray = snapshot.primary.copy()
        self.returns_allowed = False
        self._copies: dict[int, list[int]] = {}
        self._held: dict[int, set[int]] = {}
        self._has_shadow = np.zeros(len(self.primary), bool)
        self._moved = np.zeros(len(self.primary), bool)
        for shadow in snapshot.shadows:
            if shadow.partition != self.primary[shadow.key] and shadow.partition not in self._copies.get(shadow.key, ()):
                self._list_shadow(shadow.key, shadow.partition)
        self._members = members(self.primary, len(self.capacity))
        self._together = CommonUses(snapshot.co_access, snapshot.access_cost, self.primary, len(self.capacity))
        self.uses = self._together.inside
        self.whole = whole or hours.whole_key_load(self.primary, len(self.capacity), sorted(self._copies))
        self.profile = self.whole + LoadProfile.zeros(*self.whole.mean.shape)
        self._utilisation = np.zeros((len(self.capacity), self.marked))
        self._lps, self._risk = np.zeros(len(self.capacity)), np.zeros(len(self.capacity))
        self._recount(np.arange(len(self.capacity)))

    @property
    def shadows(self) -> set[tuple[int, int]]:
        """(key, partition) of every shadow."""
        return {(key, partition) for key, held in self._copies.items() for partition in held}

    @property
    def shadowed(self) -> set[int]:
        """The keys that have a shadow; these stay where they are."""
        return set(self._copies)

    @cached_property
    def scratch(self) -> BoolArray:
        """A mask over all keys for whoever needs one; it is given back all false."""
        return np.zeros(len(self.primary), bool)

    def not_back_to(self, key: int) -> int:
        """The partition that ``key`` came from and may not return to, −1 for none."""
        return -1 if self.returns_allowed else int(self.snapshot.not_back_to[key])

    def overloaded_for_certain(self, partition: int) -> bool:
        """Whether even the lower quantile of its load passes the high-water mark in some hour."""
        here = self.profile.rows(np.array([partition]))
        lower = (here.mean - self.rule.z * here.deviation(self.rule.correlation))[:, : self.marked]
        return bool((lower > self.policy.high_water * self.capacity[partition]).any())

    def copies(self, key: int) -> frozenset[int]:
        """The partitions that hold ``key``."""
        return frozenset([int(self.primary[key]), *self._copies.get(key, ())])

    def keys_on(self, partition: int) -> IntArray:
        """The keys whose primary copy is on ``partition``, in order."""
        return self._members[partition]

    def unmoved_on(self, partition: int) -> IntArray:
        """The keys on ``partition``, but for those that have just come."""
        keys = self._members[partition]
        return keys[~self._moved[keys]]

    def movable_on(self, partition: int) -> IntArray:
        """The keys on ``partition`` that may be moved: shadowed and pinned ones stay, and those that have just come."""
        keys = self.unmoved_on(partition)
        return keys[self.snapshot.movable[keys] & ~self._has_shadow[keys] & ~self.snapshot.rules.fixed_keys[keys]]

    @property
    def moved(self) -> IntArray:
        """The keys that have been moved so far; no key is moved twice."""
        return np.flatnonzero(self._moved)

    def has_shadow(self, keys: IntArray) -> BoolArray:
        """Which of ``keys`` have shadows."""
        return np.asarray(self._has_shadow[keys])

    def lps(self) -> FloatArray:
        """LPS per partition (P)."""
        return self._lps

    def utilisation(self) -> FloatArray:
        """Upper-quantile load ÷ capacity in the hours that marks apply to (P, hours)."""
        return self._utilisation

    def risk(self, profile: LoadProfile, partition: IntArray | slice, uses: FloatArray) -> FloatArray:
        """Overload risk summed over the horizon for ``profile`` (…, n, H) on the partitions of these n indices.

        ``uses`` (…, n): common uses per hour of keys that are together there.
        """
        mark = self._mark
        profile = noisier(profile, uses, self.snapshot.access_cost)
        hours = overload_risk(
            profile.mean,
            profile.deviation(self.rule.correlation),
            self.capacity[partition][:, None],
            mark,
            min(self.policy.low_water, mark),
        )
        return np.asarray(hours @ self._weight)

    def risk_now(self) -> FloatArray:
        """The overload risk of each partition (P)."""
        return self._risk

    def total_risk(self) -> float:
        """The overload risk of all partitions together."""
        return float(self._risk.sum())

    def urgency(self, partition: int) -> FloatArray:
        """How much each hour's risk on ``partition`` falls per cost/s taken away, shape (H,)."""
        row = np.array([partition])
        step = 0.01 * self.capacity[partition]
        here = self.profile.rows(row)
        deviation, low = here.deviation(self.rule.correlation), min(self.policy.low_water, self._mark)
        hours = [
            overload_risk(mean, deviation, self.capacity[row, None], self._mark, low)[0]
            for mean in (here.mean, here.mean - step)
        ]
        return np.asarray(np.maximum(hours[0] - hours[1], 0.0) / step * self._weight)

    def move(self, keys: tuple[int, ...], target: int) -> ModelChange:
        """Put ``keys`` (without shadows, all on one partition) on ``target``."""
        index, source = np.array(keys, np.int64), int(self.primary[keys[0]])
        change = self._before(index, source, target, (self._members[source], self._members[target]))
        self._together.move(index, source, target, self.primary)
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
        """Give ``key`` a shadow."""
        index, source = np.array([key]), int(self.primary[key])
        first = key not in self._copies
        self._list_shadow(key, partition)
        change = self._before(index, source, partition)
        if first:
            self._add(source, self._sum(index), -1.0)
        self._recount(change.rows)
        return change

    def remove_shadow(self, key: int, partition: int) -> ModelChange | None:
        """Take a shadow of ``key`` away, if there is one."""
        if partition not in self._copies.get(key, ()):
            return None
        index, source = np.array([key]), int(self.primary[key])
        change = self._before(index, source, partition)
        self._strike_shadow(key, partition)
        if key not in self._copies:
            self._add(source, self._sum(index), 1.0)
        self._recount(change.rows)
        return change

    def fix_copies(self) -> None:
        """Take for granted what each copy serves now, whatever else comes and goes; shadows are no longer looked at."""
        self.whole = self.profile + LoadProfile.zeros(*self.whole.mean.shape)
        self._held.clear()

    def level(self, partition: int) -> float:
        """How full others may get by what is taken off ``partition``: up to the high-water mark, or as full as it is itself."""
        return max(self.policy.high_water, float(self._lps[partition]))

    def undo(self, change: ModelChange) -> None:
        """Take back ``change``, the last one; every figure is what it was, to the bit."""
        rows = change.rows
        if change.members:
            self.primary[change.keys] = change.source
            self._moved[change.keys] = False
            self._members[change.source], self._members[change.target] = change.members
        elif change.target in self._copies.get(int(change.keys[0]), ()):
            self._strike_shadow(int(change.keys[0]), change.target)
        else:
            self._list_shadow(int(change.keys[0]), change.target)
        for held, was in ((self.whole, change.whole), (self.profile, change.profile)):
            for total, part in zip(held.parts(), was.parts(), strict=True):
                total[rows] = part
        self._utilisation[rows], self._lps[rows] = change.utilisation, change.lps
        self._risk[rows], self.uses[rows] = change.risk, change.uses

    def pushed_over(self, change: ModelChange, level: float | None = None) -> bool:
        """Whether ``change`` has pushed any hour of any partition over ``level`` (the high-water mark), or farther over it."""
        mark = self.policy.high_water if level is None else level
        now, before = self._utilisation[change.rows], change.utilisation
        return bool(((now > mark + TOLERANCE) & (now > before + TOLERANCE)).any())

    def _before(self, keys: IntArray, source: int, target: int, listed: tuple[IntArray, ...] = ()) -> ModelChange:
        """What a change between two partitions is about to replace."""
        rows = self._linked(source, target)
        return ModelChange(
            keys, source, target, rows, self.whole.rows(rows), self.profile.rows(rows), self._utilisation[rows],
            self._lps[rows], self._risk[rows], self.uses[rows], listed,
        )  # fmt: skip

    def _linked(self, *partitions: int) -> IntArray:
        """These partitions and all that share reads with them, directly or through others."""
        found, open_ = set(partitions), list(partitions)
        while open_:
            for key in self._held.get(open_.pop(), ()):
                fresh = self.copies(key) - found
                found |= fresh
                open_ += fresh
        return np.array(sorted(found), np.int64)

    def _list_shadow(self, key: int, partition: int) -> None:
        self._copies.setdefault(key, []).append(partition)
        self._has_shadow[key] = True
        for holder in (int(self.primary[key]), partition):
            self._held.setdefault(holder, set()).add(key)

    def _strike_shadow(self, key: int, partition: int) -> None:
        self._copies[key].remove(partition)
        self._held[partition].discard(key)
        if not self._copies[key]:
            del self._copies[key]
            self._has_shadow[key] = False
            self._held[int(self.primary[key])].discard(key)

    def _sum(self, keys: IntArray) -> LoadProfile:
        profile = self.hours.load(keys)
        return LoadProfile(profile.mean.sum(axis=0), profile.variance.sum(axis=0), profile.spread.sum(axis=0))

    def _add(self, partition: int, load: LoadProfile, sign: float) -> None:
        whole = self.whole
        for total, part in ((whole.mean, load.mean), (whole.variance, load.variance), (whole.spread, load.spread)):
            total[partition] = np.maximum(total[partition] + sign * part, 0.0)

    def _recount(self, rows: IntArray) -> None:
        """Count the figures of ``rows`` anew; every shadowed key has all of its copies there, or none."""
        here = self.whole.rows(rows)
        keys = np.array(sorted(set().union(*(self._held.get(row, ()) for row in rows.tolist()))), np.int64)
        if len(keys):
            here = self._shared(here, keys, rows)
        for total, part in zip(self.profile.parts(), here.parts(), strict=True):
            total[rows] = part
        upper = here.upper(self.rule)[:, : self.marked]
        self._utilisation[rows] = upper / self.capacity[rows, None]
        self._lps[rows] = load_prediction_scores(upper, self.capacity[rows])
        self._risk[rows] = self.risk(here, rows, self.uses[rows])

    def _shared(self, base: LoadProfile, keys: IntArray, rows: IntArray) -> LoadProfile:
        """The load of the shadowed ``keys`` on ``rows``, on top of ``base``."""
        place, primary = {row: index for index, row in enumerate(rows.tolist())}, self.primary[keys].tolist()
        copies = [
            [place[p] for p in (first, *sorted(self._copies[k]))] for k, first in zip(keys.tolist(), primary, strict=True)
        ]
        km, capacity = self.snapshot.distance_km[:, rows], self.capacity[rows]
        return serve_copies(base, self.hours.of(keys), copy_rows(copies), capacity, km, self.rule)[0]


def members(primary: IntArray, partitions: int) -> list[IntArray]:
    """The keys of each partition, in order."""
    order = np.argsort(primary, kind="stable")
    return np.split(order, np.cumsum(np.bincount(primary, minlength=partitions))[:-1])
