"""The figures by which policies are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from foreshard.lab.log import ReplayLog
from foreshard.lab.simulate import Run
from foreshard.model import SECONDS_PER_HOUR, FloatArray


@dataclass(frozen=True, slots=True)
class Measures:
    """One policy's figures.

    ``overload_hours``: partition-hours above capacity; a step above it counts as its part of an hour.
    ``overflow_share``: cost above capacity ÷ the log's cost.
    ``…_utilisation``: over all partition-steps. ``keys_moved_twice_a_day``: the share of (key, day) pairs with a move that have
    more than one. ``cross_partition_share``: the share of co-accesses whose keys have no partition in common.
    ``mean_distance_km``: from the user to the serving copy, weighted by cost, over accesses with a known location. ``shadows``:
    the mean number of shadows.
    """

    overload_hours: float
    overflow_share: float
    worst_utilisation: float
    p99_utilisation: float
    moves: int
    bytes: int
    keys_moved_twice_a_day: float
    cross_partition_share: float
    mean_distance_km: float
    shadows: float

    def document(self) -> Mapping[str, float | int]:
        """Return the figures as a dictionary."""
        return asdict(self)


def measure(run: Run, log: ReplayLog, capacity: FloatArray) -> Measures:
    """Measure a run; ``capacity`` (P) in cost/s."""
    hourly = capacity[:, None] * SECONDS_PER_HOUR
    utilisation = run.load / hourly
    days = Counter((key, log.hour(hour).date()) for hour, key, _, _ in run.moves)
    return Measures(
        overload_hours=round(float((utilisation > 1.0 + 1e-9).sum()) / run.per_hour, 3),
        overflow_share=overflow_share(run, capacity),
        worst_utilisation=round(float(utilisation.max(initial=0.0)), 6),
        p99_utilisation=round(float(np.quantile(utilisation, 0.99)) if utilisation.size else 0.0, 6),
        moves=len(run.moves),
        bytes=int(run.size_bytes),
        keys_moved_twice_a_day=_share(sum(count > 1 for count in days.values()), len(days)),
        cross_partition_share=_share(run.split_co_accesses, run.co_accesses),
        mean_distance_km=round(_share(run.cost_km, run.located_cost), 3),
        shadows=round(float(np.mean(run.shadows)) if run.shadows else 0.0, 3),
    )


def overflow_share(run: Run, capacity: FloatArray) -> float:
    """Return the cost above ``capacity`` (P, in cost/s) ÷ the log's cost."""
    above = np.maximum(run.load - capacity[:, None] * SECONDS_PER_HOUR, 0.0).sum()
    return _share(float(above) / run.per_hour, run.own_cost)


def _share(part: float, whole: float) -> float:
    return round(part / whole, 8) if whole > 0 else 0.0
