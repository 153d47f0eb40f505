"""The hours on which a placement is evaluated: the forecast horizon, and a sample of hours of the last weeks.

The forecast says what is about to happen. Past hours say how good a placement is on any day. With both, a move that helps only
tomorrow, or only because of a forecast error, has little value; a move that helps every day has the value of many days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foreshard.measure.demand import KeyDemand, LoadProfile, summing, unshadowed_load, unshadowed_weights
from foreshard.model import SECONDS_PER_HOUR, FloatArray, IntArray
from foreshard.plan._risk import hour_weights
from foreshard.plan.input.past_hours import PastHours
from foreshard.plan.input.snapshot import Snapshot

PAST_VARIANCE_SHARE = 0.5
"""The share of the variance of accesses that past hours get. They are one observed draw, not a distribution."""


@dataclass(frozen=True, slots=True)
class EvaluationWindow:
    """The demand of keys in H hours: first the hours ``ahead``, with ``factor`` times as many accesses, then ``past`` hours.

    ``past_variance`` is the variance of past hours per unit of cost. ``weight`` (H) is the weight of each hour's risk. Load
    marks apply to the first ``marked_hours`` hours only.
    """

    ahead: KeyDemand
    past: PastHours | None
    past_variance: float
    weight: FloatArray
    marked_hours: int
    factor: float = 1.0

    def mean(self, keys: IntArray | int) -> FloatArray:
        """Return the expected cost per hour of these keys (…, H)."""
        ahead = self.ahead.mean[keys] * self.factor
        return ahead if self.past is None else np.concatenate([ahead, self.past.mean[keys]], axis=-1)

    def sigma(self, keys: IntArray | int) -> FloatArray:
        """Return the standard deviation of the cost per hour of these keys (…, H)."""
        ahead = self.ahead.sigma[keys] * np.sqrt(self.factor)
        return (
            ahead if self.past is None else np.concatenate([ahead, self.past.root[keys] * np.sqrt(self.past_variance)], axis=-1)
        )

    def of(self, keys: IntArray) -> KeyDemand:
        """Return the demand of these keys only (n, H)."""
        return KeyDemand(self.mean(keys), self.sigma(keys), self.ahead.read_share[keys], self.ahead.origins.rows(keys))

    def load(self, keys: IntArray) -> LoadProfile:
        """Return the load of these keys in cost/s, one row per key (n, H)."""
        sigma = self.sigma(keys) / SECONDS_PER_HOUR
        return LoadProfile(self.mean(keys) / SECONDS_PER_HOUR, sigma**2, sigma)

    def unshadowed_load(self, primary: IntArray, partitions: int, without: Sequence[int] = ()) -> LoadProfile:
        """Return the load (P, H) of the keys without shadows, which are all but ``without``."""
        ahead = unshadowed_load(self.ahead, primary, partitions, without)
        if self.past is None:
            return self.scaled_load(ahead)
        by_partition = summing(primary, partitions, unshadowed_weights(len(primary), without))
        mean, root = (by_partition @ values / SECONDS_PER_HOUR for values in (self.past.mean, self.past.root))
        past = mean, mean * (self.past_variance / SECONDS_PER_HOUR), root * np.sqrt(self.past_variance)
        both = zip(ahead.parts(), past, strict=True)
        return self.scaled_load(LoadProfile(*(np.concatenate(parts, axis=1) for parts in both)))

    def scaled_load(self, load: LoadProfile) -> LoadProfile:
        """``load`` (P, H) with ``factor`` times as many accesses in the hours ahead."""
        factor = np.where(np.arange(len(self.weight)) < self.ahead.hours, self.factor, 1.0)
        return LoadProfile(load.mean * factor, load.variance * factor, load.spread * np.sqrt(factor))


def coming_and_past(snapshot: Snapshot, past_days: float) -> EvaluationWindow:
    """Return the hours ahead, followed by past hours with a total weight of ``past_days`` days like the coming one.

    Marks apply only to the hours ahead.
    """
    ahead, past = snapshot.demand.hours, snapshot.past
    weight = _weights(ahead, past.hours if past else 0, past_days)
    return EvaluationWindow(snapshot.demand, past, snapshot.access_cost * PAST_VARIANCE_SHARE, weight, ahead)


def scaled(hours: EvaluationWindow, factor: float, past_days: float) -> EvaluationWindow:
    """``hours`` with ``factor`` times as many accesses ahead, and past hours with a total weight of ``past_days`` days.

    Marks apply to all hours.
    """
    ahead = hours.ahead.hours
    weight = _weights(ahead, len(hours.weight) - ahead, past_days)
    return replace(hours, factor=hours.factor * factor, weight=weight, marked_hours=len(weight))


def _weights(ahead: int, past: int, past_days: float) -> FloatArray:
    coming = hour_weights(ahead)
    return np.concatenate([coming, np.full(past, past_days * coming.sum() / max(past, 1))])
