"""Compares an hour with the same hour of earlier weeks, on the log scale, and with its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

import numpy as np

from foreshard.model import FloatArray, HourCounts

ENOUGH_WEEKS = 3
"""A band is learned from at least so many earlier weeks."""

SPREADS = 4.0
"""A figure is unusual if it is more robust spreads than this away from the median, on the log scale."""

NARROWEST = math.log(1.5)
"""No band is narrower: half as many again is never unusual."""

SILENT_MINUTES = 10
MISSED_ACCESSES = 30
"""A silence of this many minutes is unusual if so many accesses, or clumps of accesses, were expected in it."""

ENOUGH_DAYS = 14
"""How the accesses spread over the minutes of an hour is learned from at least so many earlier days."""

DOUBTFUL, IMPOSSIBLE = -5.0, -6.0
"""Decimal logarithms of the chance that an hour ends in silence, below which that is doubtful, and impossible."""

SCHEDULED = 3
"""Hours with the same records from which they repeat by schedule."""

_EVIDENCE = 0.25
"""What an access of an earlier day counts for: days differ more than by chance."""

ALIKE = 0.5
"""Two hours with more than this share of their records in common are the same hour twice, unless ``SCHEDULED`` are so alike."""

_OF_NORMAL = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""


@dataclass(frozen=True, slots=True)
class Band:
    """The usual range of a figure: ``middle`` ÷ and × exp(``width``)."""

    middle: float
    width: float

    @property
    def low(self) -> float:
        """The lowest usual figure."""
        return self.middle / math.exp(self.width)

    @property
    def high(self) -> float:
        """The highest usual figure."""
        return self.middle * math.exp(self.width)


@dataclass(frozen=True, slots=True)
class Silence:
    """The longest stretch of minutes without an access, and the accesses ``expected`` in it; ``learned`` from weeks.

    ``clump``: so many accesses come together, so that their absence says as much as that of one.
    """

    first: int
    minutes: int
    expected: float
    learned: bool = False
    clump: float = 1.0

    @property
    def to_the_end(self) -> bool:
        """Whether the hour ends in silence."""
        return self.first + self.minutes == 60


def band(figures: Sequence[float], counted: float = math.inf) -> Band | None:
    """Return the usual range: the median and the median absolute deviation of logarithms. None without enough weeks.

    ``counted``: a typical number of records behind a figure. Chance alone spreads small numbers.
    """
    if len(figures) < ENOUGH_WEEKS or min(figures) < 0:
        return None
    logs = np.log(np.maximum(np.asarray(figures, np.float64), 1e-9 if counted == math.inf else 0.5))
    middle = float(np.median(logs))
    spread = _OF_NORMAL * float(np.median(np.abs(logs - middle)))
    return Band(math.exp(middle), max(SPREADS * spread, NARROWEST) + 3 / math.sqrt(max(counted, 1)))


def same_source(found: HourCounts, usual: Sequence[HourCounts]) -> tuple[HourCounts, ...]:
    """Return the earlier weeks that the hour's source gave, if they are enough; else all."""
    if found.facts is None or not found.facts.source:
        return tuple(usual)
    same = tuple(week for week in usual if week.facts and week.facts.source == found.facts.source)
    return same if len(same) >= ENOUGH_WEEKS else tuple(usual)


def may_be_a_holiday(days: Sequence[HourCounts], busy: int) -> bool:
    """Return whether this hour of the day was quiet before, on more than two days if two weeks are known."""
    counts = sorted(day.accesses for day in days)
    return bool(counts) and counts[2 if len(counts) >= 14 else 0] < busy


def longest_silence(minutes: Sequence[int], usual: Sequence[HourCounts]) -> Silence:
    """Return the longest silence, and the accesses that the earlier weeks' minutes, or an even rate, let expect in it.

    A short part of the hour says little about the rest: at most four times as many accesses are expected as there are, and no
    more than earlier weeks had.
    """
    quiet = np.concatenate([[False], np.asarray(minutes) == 0, [False]])
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
    if not len(edges) or not sum(minutes):
        return Silence(0, 0, 0.0)
    first, end = max(edges.tolist(), key=lambda stretch: stretch[1] - stretch[0])
    weeks = [week.facts.minutes for week in usual if week.facts and sum(week.facts.minutes)]
    learned = len(weeks) >= ENOUGH_WEEKS
    typical = np.mean(np.asarray(weeks, np.float64), axis=0) if learned else np.ones(60)
    usually = float(typical[first:end].sum())
    share = usually / float(typical.sum())
    expected = sum(minutes) * share / max(1 - share, 1 / 4)
    clump = _clump(np.asarray(weeks if learned else [minutes], np.float64))
    return Silence(first, end - first, min(expected, usually) if learned else expected, learned, clump)


@dataclass(frozen=True, slots=True)
class SilentEnd:
    """An hour has no access from minute ``first`` on. ``chance``: the decimal logarithm of its probability on a usual day."""

    first: int
    chance: float


def silent_end(minutes: Sequence[int], days: Sequence[HourCounts]) -> SilentEnd | None:
    """Return how likely it is that none of the hour's accesses fell behind its last one; None without enough days.

    The shares of both parts of the hour are learned from earlier ``days``; with the hour's own accesses, this is a
    beta-binomial distribution. One access that is spread evenly over the hour is the prior. Accesses that come in clumps count
    for less.
    """
    known = [day.facts.minutes for day in days if day.facts and sum(day.facts.minutes)]
    accesses = sum(minutes)
    if len(known) < ENOUGH_DAYS or not accesses:
        return None
    first = 60 - next(place for place, count in enumerate(reversed(minutes)) if count)
    clump = _clump(np.asarray(known, np.float64))
    each = np.asarray(known, np.float64).sum(axis=0) / clump
    before, behind = (_EVIDENCE * float(part.sum()) + len(part) / 60 for part in (each[:first], each[first:]))
    if not behind:
        return None
    log = _log_beta(behind, before + accesses / clump) - _log_beta(behind, before)
    return SilentEnd(first, log / math.log(10))


def _clump(days: FloatArray) -> float:
    """Return how many accesses come together: the variance of neighbouring minutes (days, 60) ÷ what chance alone gives.

    A session's accesses follow each other for some minutes, so parts of five minutes are looked at as well.
    """
    found = [1.0]
    for minutes in (1, 5):
        parts = days.reshape(len(days), 60 // minutes, minutes).sum(axis=2)
        found.append(float((np.diff(parts, axis=1) ** 2).mean() / 2 / parts.mean()))
    return max(found)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def same_hour(found: HourCounts, others: Sequence[HourCounts]) -> tuple[HourCounts, float] | None:
    """Return the hour that is most like this one, and the share of their records in common; None if there is none to compare.

    If ``SCHEDULED`` hours are so alike, or as many pairs of hours at the same distance, a schedule repeats itself, and none
    counts as the same: a person would have stopped a source that delivers hours again and again. Fewer than ``SCHEDULED`` hours
    can't tell.
    """
    known = [(other, share) for other in others if (share := _in_common(found, other)) is not None]
    if len(known) < SCHEDULED:
        return None
    apart = [found.hour - other.hour for other, share in known if share > ALIKE]
    if len(apart) >= SCHEDULED or any(_pairs_alike(others, distance) >= SCHEDULED for distance in apart):
        return None
    return max(known, key=lambda pair: pair[1])


def _pairs_alike(hours: Sequence[HourCounts], apart: timedelta) -> int:
    """Return how many pairs of hours that lie ``apart`` have the same records."""
    at = {one.hour: one for one in hours}
    pairs = ((one, at[one.hour - apart]) for one in hours if one.hour - apart in at)
    return sum((_in_common(one, other) or 0.0) > ALIKE for one, other in pairs)


def _in_common(one: HourCounts, other: HourCounts) -> float | None:
    """Return the estimated share of both hours' different records that both have."""
    if one.facts is None or other.facts is None or not one.facts.sketch or not other.facts.sketch:
        return None
    a, b = set(one.facts.sketch), set(other.facts.sketch)
    lowest = sorted(a | b)[: max(len(a), len(b))]
    return sum(hashed in a and hashed in b for hashed in lowest) / len(lowest)


def share_with_user(usual: Sequence[HourCounts]) -> float:
    """Return the median share of records with a user; 0 without enough weeks."""
    shares = [week.facts.with_user / week.accesses for week in usual if week.facts and week.accesses]
    return median(shares) if len(shares) >= ENOUGH_WEEKS else 0.0
