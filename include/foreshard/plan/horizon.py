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


def coming_and_past(snapshot: Snapshot, past_days: float, scale: float = 1.0) -> Horizon:
    """The hours ahead, times ``scale``, and behind them past ones, which weigh ``past_days`` times as much together.

    Marks apply to the hours ahead only.
    """
    demand, ahead, past = snapshot.demand, hour_weights(snapshot.demand.hours), snapshot.past.shape[1]
    if scale != 1.0:
        demand = replace(demand, mean=demand.mean * scale, sigma=demand.sigma * np.sqrt(scale))
    if not past:
        return Horizon(demand, ahead, demand.hours)
    weight = np.concatenate([ahead, np.full(past, past_days * ahead.sum() / past)])
    return Horizon(_with_past(demand, snapshot), weight, demand.hours)


def _with_past(demand: KeyDemand, snapshot: Snapshot) -> KeyDemand:
    past = snapshot.past.astype(np.float64)
    chance = np.sqrt(snapshot.access_cost * PAST_CHANCE * past)
    return replace(demand, mean=np.hstack([demand.mean, past]), sigma=np.hstack([demand.sigma, chance]))
