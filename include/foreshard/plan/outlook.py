"""The predicted load of every partition while a plan grows: changes are applied, measured, and taken back if they don't pay."""

from __future__ import annotations

import numpy as np

from foreshard.load import IntArray, LoadProfile, key_profile, share_reads, whole_key_load
from foreshard.model import FloatArray
from foreshard.plan.risk import overload_risk
from foreshard.plan.snapshot import PlanPolicy, Snapshot

TOLERANCE = 1e-9


class Outlook:
    """Placement, shadows and the load that follows from them; starts as the snapshot's, which it leaves alone.

    ``profile`` is the load (P, H) with the shadowed reads shared out. Keys are indices into the snapshot.
    """

    def __init__(self, snapshot: Snapshot, policy: PlanPolicy) -> None:
        self.snapshot, self.policy = snapshot, policy
        self.capacity, self.rule = snapshot.capacity, policy.serving
        self.primary: IntArray = snapshot.primary.copy()
        self.shadows: set[tuple[int, int]] = {
            (shadow.key, shadow.partition) for shadow in snapshot.shadows if shadow.partition != snapshot.primary[shadow.key]
        }
        self._whole = whole_key_load(snapshot.demand, self.primary, len(self.capacity), sorted(self.shadowed))
        self.profile = self._recount()

    @property
    def shadowed(self) -> set[int]:
        """The keys that have a shadow; these stay where they are."""
        return {key for key, _ in self.shadows}

    def copies(self, key: int) -> frozenset[int]:
        """The partitions that hold ``key``."""
        return frozenset([int(self.primary[key]), *(partition for k, partition in self.shadows if k == key)])

    def lps(self) -> FloatArray:
        """LPS per partition (P)."""
        return np.asarray(self.utilisation().max(axis=1, initial=0.0))

    def utilisation(self) -> FloatArray:
        """Upper-quantile load ÷ capacity (P, H)."""
        return np.asarray(self.profile.upper(self.rule) / self.capacity[:, None])

    def risk(self, profile: LoadProfile, partition: IntArray | slice) -> FloatArray:
        """Overload risk summed over the horizon for ``profile`` (…, n, H) on the partitions of these n indices."""
        mark = self.policy.high_water if self.policy.overload_mark is None else self.policy.overload_mark
        hours = overload_risk(
            profile.mean,
            profile.deviation(self.rule.correlation),
            self.capacity[partition][:, None],
            mark,
            min(self.policy.low_water, mark),
        )
        return np.asarray(hours.sum(axis=-1))

    def total_risk(self) -> float:
        """The overload risk of all partitions together."""
        return float(self.risk(self.profile, slice(None)).sum())

    def urgency(self, partition: int) -> FloatArray:
        """How much each hour's risk on ``partition`` falls per cost/s taken away, shape (H,)."""
        row = np.array([partition])
        step = 0.01 * self.capacity[partition]
        here = self.profile.rows(row)
        hours = [
            overload_risk(
                mean,
                here.deviation(self.rule.correlation),
                self.capacity[row, None],
                self.policy.high_water,
                self.policy.low_water,
            )[0]
            for mean in (here.mean, here.mean - step)
        ]
        return np.asarray(np.maximum(hours[0] - hours[1], 0.0) / step)

    def move(self, keys: tuple[int, ...], target: int) -> None:
        """Put ``keys`` (without shadows, all on one partition) on ``target``."""
        index = np.array(keys, np.int64)
        sums = self._sum(index)
        self._add(int(self.primary[index[0]]), sums, -1.0)
        self._add(target, sums, 1.0)
        self.primary[index] = target
        self.profile = self._recount()

    def add_shadow(self, key: int, partition: int) -> None:
        """Give ``key`` a shadow."""
        if key not in self.shadowed:
            self._add(int(self.primary[key]), self._sum(np.array([key])), -1.0)
        self.shadows.add((key, partition))
        self.profile = self._recount()

    def remove_shadow(self, key: int, partition: int) -> None:
        """Take a shadow of ``key`` away."""
        if (key, partition) not in self.shadows:
            return
        self.shadows.discard((key, partition))
        if key not in self.shadowed:
            self._add(int(self.primary[key]), self._sum(np.array([key])), 1.0)
        self.profile = self._recount()

    def pushed_over(self, before: FloatArray) -> bool:
        """Whether any hour of any partition has been pushed over the high-water mark, or farther over it, since ``before``."""
        now = self.utilisation()
        return bool(((now > self.policy.high_water + TOLERANCE) & (now > before + TOLERANCE)).any())

    def _sum(self, keys: IntArray) -> LoadProfile:
        profile = key_profile(self.snapshot.demand, keys)
        return LoadProfile(profile.mean.sum(axis=0), profile.variance.sum(axis=0), profile.spread.sum(axis=0))

    def _add(self, partition: int, load: LoadProfile, sign: float) -> None:
        whole = self._whole
        for total, part in ((whole.mean, load.mean), (whole.variance, load.variance), (whole.spread, load.spread)):
            total[partition] = np.maximum(total[partition] + sign * part, 0.0)

    def _recount(self) -> LoadProfile:
        if not self.shadows:
            return self._whole + LoadProfile.zeros(*self._whole.mean.shape)
        demand, partitions = self.snapshot.demand, len(self.capacity)
        shares = share_reads(
            self._whole, demand, self.primary, sorted(self.shadows), self.capacity, self.snapshot.distance_km, self.rule
        )
        return self._whole + shares.load(demand, partitions)
