"""The hours on which a placement is judged: the coming ones, the same under a burst, and the mean week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.measure.demand import KeyDemand, LoadProfile, summing, unshadowed_weights
from foreshard.model import HOURS_PER_WEEK, SECONDS_PER_HOUR, FloatArray, IntArray
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot

LATER = 0.9
"""The weight of an hour relative to the hour before it: later hours are planned again with better forecasts."""
STRESSED = 0.5
"""The weight of an hour under a burst relative to the same hour as forecast."""
PAST_DAYS = 10.0
"""The weight of a mean week of four weeks, in days like the coming one: it stands for the days after the forecast."""
FULL_WEEKS = 4.0
MANY_UNITS = 200_000
"""More units than this are kept in single precision, because of their memory."""
ROWS = 50_000
"""Units that are summed at once."""

_Part = FloatArray | npt.NDArray[np.float32]


@dataclass(frozen=True)
class JudgedHours:
    """The loads of K units in T hours, in cost/s: ``mean`` and ``deviation`` (K, T), and the hours' ``weight`` (T).

    The first ``coming`` hours are the forecast's. Marks and LPS apply to these only.
    """

    demand: KeyDemand
    mean: FloatArray
    deviation: FloatArray
    weight: FloatArray
    coming: int

    @classmethod
    def of(cls, snapshot: Snapshot, policy: PlanPolicy) -> JudgedHours:
        """Take the hours from a snapshot. Bursts count if the policy has a reserve, the mean week if there are two weeks."""
        demand, week = snapshot.demand, snapshot.week
        near: FloatArray = np.asarray(LATER ** np.arange(demand.hours), np.float64)
        parts: list[tuple[_Part, _Part, FloatArray]] = [(demand.mean, demand.sigma, near)]
        if policy.reserve > 0:
            burst = 1.0 / (1.0 - policy.reserve)
            parts.append((demand.mean * burst, demand.sigma * np.sqrt(burst), STRESSED * near))
        trust = 0.0 if week is None else min(max(week.weeks - 1.0, 0.0) / (FULL_WEEKS - 1.0), 1.0)
        if week is not None and trust > 0:
            weight = np.full(HOURS_PER_WEEK, PAST_DAYS * trust * near.sum() / HOURS_PER_WEEK)
            parts.append((week.mean, np.sqrt(week.mean * week.noise[:, None]), weight))
        weights = np.concatenate([weight for _, _, weight in parts])
        mean, deviation = (_filled([part[n] for part in parts], len(weights)) for n in (0, 1))
        return cls(demand, mean, deviation, weights, demand.hours)

    def load(self, units: IntArray) -> LoadProfile:
        """Return the load of each of these units (n, T)."""
        deviation = self.deviation[units].astype(np.float64)
        return LoadProfile(self.mean[units].astype(np.float64), deviation**2, deviation)

    def total(self, units: IntArray) -> LoadProfile:
        """Return the load of these units together (T)."""
        return LoadProfile(*(part.sum(axis=0) for part in self.load(units).parts()))

    def demand_of(self, units: IntArray) -> KeyDemand:
        """Return the demand of these units in all judged hours, in cost per hour."""
        load = self.load(units)
        return KeyDemand(
            load.mean * SECONDS_PER_HOUR,
            load.spread * SECONDS_PER_HOUR,
            self.demand.read_share[units],
            self.demand.origins.rows(units),
        )

    def unshadowed_load(self, primary: IntArray, partitions: int, without: Sequence[int]) -> LoadProfile:
        """Return the load (P, T) of the units without shadows, which are all but ``without``."""
        weight, total = unshadowed_weights(len(primary), without), LoadProfile.zeros(partitions, len(self.weight))
        for start in range(0, len(primary), ROWS):
            rows = slice(start, start + ROWS)
            by_partition = summing(primary[rows], partitions, weight[rows])
            load = self.load(np.arange(len(primary))[rows])
            for part, mine in zip(total.parts(), load.parts(), strict=True):
                part += by_partition @ mine
        return total


def _filled(parts: list[_Part], hours: int) -> FloatArray:
    """Return parts (K, …) side by side in cost/s, in single precision if they are many."""
    units = len(parts[0])
    joined = np.empty((units, hours), np.float32 if units > MANY_UNITS else np.float64)
    start = 0
    for part in parts:
        np.divide(part, float(SECONDS_PER_HOUR), out=joined[:, start : start + part.shape[1]], casting="same_kind")
        start += part.shape[1]
    return joined
