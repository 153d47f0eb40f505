"""What a load distribution costs: expected overload hours, with a slope wherever moving load away would still help.

For a load X ~ Normal in one hour, capacity C, overload mark h·C and low-water mark l·C:

    risk = P(X > h·C) + E(X − h·C)⁺ / C + 0.02 · E(X − l·C)⁺ / C

The first term counts expected overload hours. It is flat where a partition is overloaded for certain, so the second adds the
expected excess (as much again where the load is twice the capacity): a partition that is far too full is emptied key by key,
though no single key ends its overload. The third, small, draws a partition from the high-water towards the low-water mark, so
that it doesn't have to be relieved again in the next hour.

Later hours weigh less (``hour_weights``): what is planned for them is planned anew, with better forecasts, before they come.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from foreshard.model import FloatArray

EXCESS_WEIGHT = 1.0
HEADROOM_WEIGHT = 0.02
LATER = 0.9
"""How much an hour weighs of what the hour before it weighs."""

_SMALLEST = 1e-9
"""Of a mark: a load nearer to it is on it, not above, and one that varies less is certain; reads are shared out up to marks."""
_CERTAIN = 8.0
"""So many standard deviations below its mark a load can't pass it: what is left out is below 1e-15."""
_DENSITY = 1.0 / np.sqrt(2.0 * np.pi)


def overload_risk(mean: FloatArray, deviation: FloatArray, capacity: FloatArray, high: float, low: float) -> FloatArray:
    """Return the risk per hour in overload hours; the arguments broadcast, loads in cost/s."""
    probability, excess = _beyond(mean, deviation, high * capacity)
    _, headroom = _beyond(mean, deviation, low * capacity)
    return np.asarray(probability + (EXCESS_WEIGHT * excess + HEADROOM_WEIGHT * headroom) / capacity)


def hour_weights(hours: int) -> FloatArray:
    """The weight of each hour of a horizon, the next one's being 1, shape (hours,)."""
    return np.asarray(LATER ** np.arange(hours), np.float64)


def _beyond(mean: FloatArray, deviation: FloatArray, mark: FloatArray) -> tuple[FloatArray, FloatArray]:
    """P(X > mark) and E(X − mark)⁺ of normal loads; a load without uncertainty is above its mark or isn't."""
    over = np.asarray(mean - mark)
    deviation, least = np.broadcast_to(deviation, over.shape), _SMALLEST * mark
    probability, excess = np.array(over > least, np.float64), np.array(np.maximum(over, 0.0), np.float64)
    near = (deviation > least) & (over > -_CERTAIN * deviation)
    spread, beyond = deviation[near], over[near]
    z = beyond / spread
    inside = ndtr(z)
    probability[near] = inside
    excess[near] = np.maximum(beyond * inside + spread * _DENSITY * np.exp(-0.5 * z * z), 0.0)
    return probability, excess
