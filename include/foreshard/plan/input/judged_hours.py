"""The hours on which a placement is judged: the coming ones, the same under a burst, and the mean week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreshard.measure.demand import KeyDemand, LoadProfile, summing, unshadowed_weights
from foreshard.model import HOURS_PER_WEEK, SECONDS_PER_HOUR, FloatArray, IntArray
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot

LATER = 0.9
"""The weight of an hour relative to the hour before it: later hours are planned again with better forecasts."""
STRESSED = 0.1
"""The weight of an hour under a burst relative to the same hour as forecast."""
PAST_DAYS = 10.0
"""The weight of a mean week of four weeks, in days like the coming one: it stands for the days after the forecast."""
FULL_WEEKS = 4.0


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
        mean, deviation = [demand.mean], [demand.sigma]
        near = LATER ** np.arange(demand.hours)
        weights = [near]
        if policy.reserve > 0:
            burst = 1.0 / (1.0 - policy.reserve)
            mean.append(mean[0] * burst)
            deviation.append(deviation[0] * np.sqrt(burst))
            weights.append(STRESSED * near)
        trust = 0.0 if week is None else min(max(week.weeks - 1.0, 0.0) / (FULL_WEEKS - 1.0), 1.0)
        if week is not None and trust > 0:
            mean.append(week.mean.astype(np.float64))
            deviation.append(np.sqrt(week.mean * week.noise[:, None]))
            weights.append(np.full(HOURS_PER_WEEK, PAST_DAYS * trust * near.sum() / HOURS_PER_WEEK))
        hour = float(SECONDS_PER_HOUR)
        return cls(
            demand, np.concatenate(mean, 1) / hour, np.concatenate(deviation, 1) / hour, np.concatenate(weights), demand.hours
        )

    def load(self, units: IntArray) -> LoadProfile:
        """Return the load of each of these units (n, T)."""
        deviation = self.deviation[units]
        return LoadProfile(self.mean[units], deviation**2, deviation)

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
        weight = unshadowed_weights(len(primary), without)
        by_partition = summing(primary, partitions, weight)
        parts = (self.mean, self.deviation**2, self.deviation)
        return LoadProfile(*(np.asarray(by_partition @ part, np.float64) for part in parts))
