"""The cost of a load distribution in expected overload hours, with a gradient wherever moving load away helps.

For a load X ~ Normal in one hour, capacity C, overload mark h·C and low-water mark l·C:

    risk = P(X > h·C) + E(X − h·C)⁺ / C + 0.02 · E(X − l·C)⁺ / C

The first term counts expected overload hours. It is flat if overload is certain, so the second term adds the expected excess.
A partition that is far too full is thus emptied key by key, although no single key ends its overload. The small third term
draws a partition from the high-water towards the low-water mark, so that it need not be relieved again in the next hour.

Later hours have less weight (``hour_weights``), because they will be planned again with better forecasts.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from foreshard.model import FloatArray

EXCESS_WEIGHT = 1.0
HEADROOM_WEIGHT = 0.02
LATER = 0.9
"""The weight of an hour relative to the hour before it."""

_SMALLEST = 1e-9
"""Relative tolerance of a mark: a smaller excess or deviation counts as 0. Reads are shared up to exactly the mark."""
_CERTAIN = 8.0
"""A load more standard deviations than this below its mark has no risk (the error is below 1e-15)."""
_DENSITY = 1.0 / np.sqrt(2.0 * np.pi)


def overload_risk(mean: FloatArray, deviation: FloatArray, capacity: FloatArray, high: float, low: float) -> FloatArray:
    """Return the risk of each hour in overload hours. Loads are in cost/s; the arguments broadcast."""
    probability, excess = _beyond(mean, deviation, high * capacity)
    _, headroom = _beyond(mean, deviation, low * capacity)
    return np.asarray(probability + (EXCESS_WEIGHT * excess + HEADROOM_WEIGHT * headroom) / capacity)


def hour_weights(hours: int) -> FloatArray:
    """Return the weight of each hour of a horizon, starting with 1, shape (hours,)."""
    return np.asarray(LATER ** np.arange(hours), np.float64)


def _beyond(mean: FloatArray, deviation: FloatArray, mark: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return P(X > mark) and E(X − mark)⁺ of normal loads, also without uncertainty."""
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
