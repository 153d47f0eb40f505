"""Whether a log's loads are served in steps within the hour: if it has such times, and its steps are more than noise.

In a step of five minutes, a partition with few accesses is above its capacity now and then under any policy, by chance or
because accesses come together (a timetable's at the full hour). Such overload would hide what policies differ in. So the load
of a partition's step must vary by at most ``MOST_VARIATION`` around its hour's mean, in the peak hour of the median day: the
default utilisation leaves 43% of room there.

A step's cost varies for each key by itself (variance per unit of cost v, from the squares of the keys' steps and hours; for
Poisson accesses the cost of one) and for all keys together (what the squares of the total have beyond that, relative to it).
"""

from __future__ import annotations

import numpy as np

from foreshard.lab.log import ReplayLog
from foreshard.lab.partition_layout import median_daily_peak
from foreshard.lab.past import MINUTES_PER_HOUR

MOST_VARIATION = 0.1
"""The largest standard deviation of a step's load ÷ its mean: a quarter of the room at the default utilisation."""


def choose_steps(log: ReplayLog, start: int, partitions: int, wish: bool | None = None) -> tuple[bool, str]:
    """Return whether to use the log's steps from hour ``start`` on, and a sentence that says why.

    ``wish``: what the user asked for. A log without times within the hour has no steps.
    """
    if log.steps is None:
        return False, "the log has no times within the hour: loads are served by the hour"
    minutes = MINUTES_PER_HOUR // log.steps_per_hour
    served = f"loads are served in steps of {minutes} minutes, and an overload step is {minutes}/60 of an overload hour"
    if wish is not None:
        return wish, served if wish else "loads are served by the hour, as asked"
    varies = variation(log, start, partitions)
    if varies <= MOST_VARIATION:
        return True, served
    noisy = f"loads are served by the hour: {minutes} minutes of a partition vary by {varies:.0%} around the peak hour's mean"
    return False, f"{noisy}, so most overload in such steps would be chance (--steps counts it)"


def variation(log: ReplayLog, start: int, partitions: int) -> float:
    """Return the standard deviation ÷ mean of a partition's steps around their hour, in the peak hour of the median day."""
    if log.steps is None:
        return 0.0
    per_hour = log.steps_per_hour
    hours = log.costs[:, start:].sum(axis=0, dtype=np.float64)
    cost = float(hours.sum()) * (1.0 - 1.0 / per_hour)
    step = median_daily_peak(hours) / per_hour
    if cost <= 0.0 or step <= 0.0:
        return 0.0
    own = log.steps.squares(start * per_hour) - float(np.square(log.costs[:, start:]).sum(dtype=np.float64)) / per_hour
    together = float((log.steps.totals()[start * per_hour :] ** 2).sum() - (hours**2).sum() / per_hour)
    alone = own / cost * partitions / step
    return float(np.sqrt(alone + max(together - own, 0.0) / cost / step))
