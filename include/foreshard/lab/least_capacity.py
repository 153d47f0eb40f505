"""The least capacity at which a policy's overflow share is at most 0.1%: what a user buys hardware by.

All capacities are scaled by one factor. The overflow share falls with the factor about as a power, so the search interpolates
in log space, between a factor that is too small and one that is enough, until they differ by at most the tolerance. A policy
that decides otherwise at another capacity is replayed at each factor. The decisions vary by chance with the factor, so the
share is not exactly monotone; the answer is one of its crossings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

OVERFLOW_LIMIT = 0.001
TOLERANCE = 0.01
"""The largest relative difference between the factors that enclose the answer."""
STEEPNESS = 10.0
"""The assumed −d ln(overflow share) ÷ d ln(capacity) at first; 8 to 14 on the sample and the synthetic logs."""
FIRST_STEP, WIDER = 0.03, 2.0
"""The least first step, in ln(capacity), and the growth of steps until the answer is enclosed."""
BESIDE = 0.35
"""A guess is put beside the expected crossing, by this share of the tolerance, so that the second one encloses it."""
MOST_TRIES = 14
_LEAST_SHARE = OVERFLOW_LIMIT / 100


@dataclass(frozen=True, slots=True)
class LeastCapacity:
    """``factor`` × the layout's capacity is needed; it was found with ``tries`` shares other than the layout's own."""

    factor: float
    tries: int


def least_capacity(share_at: Callable[[float], float], share: float) -> LeastCapacity | None:
    """Return the least factor for which ``share_at(factor)`` is at most the limit; ``share``: at factor 1. None: not found
    within ``MOST_TRIES``, such as without any load."""
    found = {0.0: share}
    while len(found) <= MOST_TRIES:
        short, enough = _enclosing(found)
        if short is not None and enough is not None and enough - short <= math.log1p(TOLERANCE):
            return LeastCapacity(math.exp(_crossing(found, short, enough)), len(found) - 1)
        at = _next(found, short, enough)
        found[at] = share_at(math.exp(at))
    return None


def saved(least: Mapping[str, LeastCapacity | None], policy: str, other: str) -> float | None:
    """Return the share of the capacity of ``other`` that ``policy`` does not need; None if either is unknown."""
    ours, theirs = least.get(policy), least.get(other)
    return None if ours is None or theirs is None else 1.0 - ours.factor / theirs.factor


def _enclosing(found: Mapping[float, float]) -> tuple[float | None, float | None]:
    """Return the smallest ln(factor) that is enough, and the largest below it that is too small."""
    enough = min((at for at, share in found.items() if share <= OVERFLOW_LIMIT), default=None)
    short = max((at for at, share in found.items() if share > OVERFLOW_LIMIT and (enough is None or at < enough)), default=None)
    return short, enough


def _next(found: Mapping[float, float], short: float | None, enough: float | None) -> float:
    tolerance = math.log1p(TOLERANCE)
    if short is not None and enough is not None:
        crossing = _crossing(found, short, enough)
        aside = BESIDE * tolerance if crossing - short > enough - crossing else -BESIDE * tolerance
        room = min(BESIDE * tolerance, 0.25 * (enough - short))
        return min(max(crossing - aside, short + room), enough - room)
    step = FIRST_STEP * WIDER ** (len(found) - 1)
    if enough is None:
        edge = max(found)
        return edge + max(step, math.log(found[edge] / OVERFLOW_LIMIT) / STEEPNESS)
    edge = min(found)
    return edge - max(step, math.log(OVERFLOW_LIMIT / max(found[edge], _LEAST_SHARE)) / STEEPNESS)


def _crossing(found: Mapping[float, float], short: float, enough: float) -> float:
    """Return the ln(factor) at which the share is at the limit, by interpolating its logarithm."""
    above, below = (math.log(max(found[at], _LEAST_SHARE)) for at in (short, enough))
    return short + (enough - short) * (above - math.log(OVERFLOW_LIMIT)) / max(above - below, 1e-12)
