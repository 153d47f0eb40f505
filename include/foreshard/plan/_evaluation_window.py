"""The hours that a placement is judged by: the coming ones as forecast, and hours of the last weeks as they were.

The forecast says what is about to happen; past hours say what a placement is like whatever the day. A move that helps tomorrow
alone, or only by a forecast's error, is worth little then, and one that helps every day is worth many days' relief.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foreshard.measure.demand import KeyDemand, LoadProfile, only_copies, summing, whole_key_load
from foreshard.model import SECONDS_PER_HOUR, FloatArray, IntArray
from foreshard.plan._risk import hour_weights
from foreshard.plan.past_hours import PastHours
from foreshard.plan.snapshot import Snapshot

PAST_CHANCE = 0.5
"""How much of accesses' variance past hours are given: they have had their chance already, but only once."""


@dataclass(frozen=True, slots=True)
class EvaluationWindow:
    """What keys ask for in H hours: ``ahead``, with ``factor`` times as many accesses, and in the ``past`` ones behind them.

    ``chance`` is the variance of past hours per cost. ``weight`` (H) is that of each hour's risk, and ``marked`` how many of
    them, the first, load marks apply to.
    """

    ahead: KeyDemand
    past: PastHours | None
    chance: float
    weight: FloatArray
    marked: int
    factor: float = 1.0

    def mean(self, keys: IntArray | int) -> FloatArray:
        """Expected cost per hour (…, H) of these keys."""
        ahead = self.ahead.mean[keys] * self.factor
        return ahead if self.past is None else np.concatenate([ahead, self.past.mean[keys]], axis=-1)

    def sigma(self, keys: IntArray | int) -> FloatArray:
        """Its standard deviation (…, H)."""
        ahead = self.ahead.sigma[keys] * np.sqrt(self.factor)
        return ahead if self.past is None else np.concatenate([ahead, self.past.root[keys] * np.sqrt(self.chance)], axis=-1)

    def of(self, keys: IntArray) -> KeyDemand:
        """The demand of these keys only (n, H)."""
        return KeyDemand(self.mean(keys), self.sigma(keys), self.ahead.read_share[keys], self.ahead.origins.rows(keys))

    def load(self, keys: IntArray) -> LoadProfile:
        """The load of these keys in cost/s, one row per key (n, H)."""
        sigma = self.sigma(keys) / SECONDS_PER_HOUR
        return LoadProfile(self.mean(keys) / SECONDS_PER_HOUR, sigma**2, sigma)

    def whole_key_load(self, primary: IntArray, partitions: int, without: Sequence[int] = ()) -> LoadProfile:
        """The load of the keys that have one copy only, all but ``without``, each wholly on its primary (P, H)."""
        ahead = whole_key_load(self.ahead, primary, partitions, without)
        if self.past is None:
            return self.grown(ahead)
        by_partition = summing(primary, partitions, only_copies(len(primary), without))
        mean, root = (by_partition @ values / SECONDS_PER_HOUR for values in (self.past.mean, self.past.root))
        past = mean, mean * (self.chance / SECONDS_PER_HOUR), root * np.sqrt(self.chance)
        both = zip(ahead.parts(), past, strict=True)
        return self.grown(LoadProfile(*(np.concatenate(parts, axis=1) for parts in both)))

    def grown(self, load: LoadProfile) -> LoadProfile:
        """``load`` (P, H) with ``factor`` times as many accesses in the hours ahead."""
        factor = np.where(np.arange(len(self.weight)) < self.ahead.hours, self.factor, 1.0)
        return LoadProfile(load.mean * factor, load.variance * factor, load.spread * np.sqrt(factor))


def coming_and_past(snapshot: Snapshot, past_days: float) -> EvaluationWindow:
    """The hours ahead, and behind them past ones, which weigh ``past_days`` times as much together.

    Marks apply to the hours ahead only.
    """
    ahead, past = snapshot.demand.hours, snapshot.past
    weight = _weights(ahead, past.hours if past else 0, past_days)
    return EvaluationWindow(snapshot.demand, past, snapshot.access_cost * PAST_CHANCE, weight, ahead)


def scaled(hours: EvaluationWindow, factor: float, past_days: float) -> EvaluationWindow:
    """The same with ``factor`` times as many accesses in the hours ahead, past hours weighing as ``past_days`` together.

    Marks apply to all of them.
    """
    ahead = hours.ahead.hours
    weight = _weights(ahead, len(hours.weight) - ahead, past_days)
    return replace(hours, factor=hours.factor * factor, weight=weight, marked=len(weight))


def _weights(ahead: int, past: int, past_days: float) -> FloatArray:
    coming = hour_weights(ahead)
    return np.concatenate([coming, np.full(past, past_days * coming.sum() / max(past, 1))])
