"""The hours that a placement is judged by: the coming ones as forecast, and hours of the last weeks as they were.

The forecast says what is about to happen; past hours say what a placement is like whatever the day. A move that helps tomorrow
alone, or only by a forecast's error, is worth little then, and one that helps every day is worth many days' relief.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foreshard.load import KeyDemand
from foreshard.model import FloatArray
from foreshard.plan.risk import hour_weights
from foreshard.plan.snapshot import Snapshot

PAST_CHANCE = 0.5
"""How much of accesses' variance past hours are given: they have had their chance already, but only once."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """``demand`` in H hours, the ``weight`` of each one's risk (H), and how many of them, the first, load marks apply to."""

    demand: KeyDemand
    weight: FloatArray
    marked: int


def coming_and_past(snapshot: Snapshot, past_days: float) -> Horizon:
    """The hours ahead, and behind them past ones, which weigh ``past_days`` times as much together.

    Marks apply to the hours ahead only.
    """
    demand, past = snapshot.demand, snapshot.past
    ahead = demand.hours
    if past.shape[1]:
        mean, sigma = (np.empty((len(past), ahead + past.shape[1])) for _ in range(2))
        mean[:, :ahead], sigma[:, :ahead] = demand.mean, demand.sigma
        mean[:, ahead:] = past
        np.multiply(mean[:, ahead:], snapshot.access_cost * PAST_CHANCE, out=sigma[:, ahead:])
        np.sqrt(sigma[:, ahead:], out=sigma[:, ahead:])
        demand = replace(demand, mean=mean, sigma=sigma)
    return Horizon(demand, _weights(ahead, past.shape[1], past_days), ahead)


def scaled(hours: Horizon, factor: float, past_days: float) -> Horizon:
    """The same with ``factor`` times as many accesses in the hours ahead, past hours weighing as ``past_days`` together."""
    demand, ahead = hours.demand, hours.marked
    mean, sigma = demand.mean.copy(), demand.sigma.copy()
    mean[:, :ahead] *= factor
    sigma[:, :ahead] *= np.sqrt(factor)
    return Horizon(replace(demand, mean=mean, sigma=sigma), _weights(ahead, demand.hours - ahead, past_days), ahead)


def _weights(ahead: int, past: int, past_days: float) -> FloatArray:
    coming = hour_weights(ahead)
    return np.concatenate([coming, np.full(past, past_days * coming.sum() / max(past, 1))])
