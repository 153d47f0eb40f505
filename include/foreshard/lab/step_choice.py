"""Whether a log's loads are served in steps within the hour: if it has such times, and more than chance in each step.

In a step of five minutes, a partition with few accesses is above its capacity now and then by chance alone, under any policy.
Such overload would hide what the policies differ in. So a step must have an expected load of at least ``LEAST_SIGNAL`` units of
noise per partition in the peak hour of the median day: chance then changes it by at most 20% (one standard deviation), where
the default utilisation leaves 43% of room.
"""

from __future__ import annotations

import numpy as np

from foreshard.lab.log import ReplayLog
from foreshard.model import HOURS_PER_DAY

LEAST_SIGNAL = 25.0
"""The least load of a step ÷ its variance per unit of load, (1 ÷ 20%)²; for Poisson accesses of cost 1 it is their number."""


def choose_steps(log: ReplayLog, start: int, partitions: int, wish: bool | None = None) -> tuple[bool, str]:
    """Return whether to use the log's steps from hour ``start`` on, and a sentence that says why.

    ``wish``: what the user asked for. A log without times within the hour has no steps.
    """
    if log.steps is None:
        return False, "the log has no times within the hour: loads are served by the hour"
    minutes = 60 // log.steps_per_hour
    served = f"loads are served in steps of {minutes} minutes, and an overload step is {minutes}/60 of an overload hour"
    if wish is not None:
        return wish, served if wish else "loads are served by the hour, as asked"
    signal = _peak_step(log, start) / partitions / max(log.noise, 1e-9)
    if signal >= LEAST_SIGNAL:
        return True, served
    few = f"a partition's {minutes} minutes of the peak hour have a load of only {signal:.1f} × its noise"
    return False, f"{few}: loads are served by the hour (--steps: in steps)"


def _peak_step(log: ReplayLog, start: int) -> float:
    """Return the mean cost of a step in the peak hour of the median day."""
    total = log.costs[:, start:].sum(axis=0, dtype=np.float64)
    days = [total[day : day + HOURS_PER_DAY].max() for day in range(0, len(total), HOURS_PER_DAY)]
    return float(np.median(days)) / log.steps_per_hour if days else 0.0
