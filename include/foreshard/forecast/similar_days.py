"""A seasonal mean per key that also uses similar weekdays.

The mean of the same hour of the week has few observations; the mean of the same hour of the day mixes days that differ. Here
each weekday's mean at the wanted hour is an estimate with a variance (noise ÷ observations) and a squared bias (its difference
from the wanted weekday around that hour, beyond noise). The estimates are averaged with weights 1/(variance + bias²). A key
without weekends therefore uses all its days, and a key with weekends keeps them separate. No calendar is assumed.

A key of few accesses cannot show by itself that it rests on a weekday. All keys together can: a weekday on which all are closed
gets the other weekdays' means scaled by the ratio of the totals, and does not count for open weekdays. So the load of open days
does not leak into a closed one, nor its zeros into them. This counts as far as the keys follow their total.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, BoolArray, FloatArray, IntArray

DAYS = 7
NEIGHBOURS = 2
"""Hours on each side over which bias and noise are averaged."""

CLOSED_RATIO = 4.0
"""A weekday on which all keys together have less than one part in so many of another's load is closed."""

_LEAST = 1e-12
_APART = np.abs(np.arange(HOURS_PER_DAY)[:, None] - np.arange(HOURS_PER_DAY))
_NEAR = (np.minimum(_APART, HOURS_PER_DAY - _APART) <= NEIGHBOURS).astype(np.float64)
"""(24, 24): 1 for hours of the day at most ``NEIGHBOURS`` apart, else 0."""


@dataclass(frozen=True)
class WeeklyProfile:
    """For each hour of the week, (K, 7, 24): the ``mean``, and ``seen``, its effective number of observations.

    ``noise`` (K, 24) is the variance of one observation around the mean of its hour of the week, by hour of the day. Day 0 is a
    Thursday, like 1970-01-01. If all keys were observed in the same hours, ``seen`` has one row, (1, 7, 24). ``together`` is
    the profile of the keys' mean, K = 1; None in the profile of the mean itself.
    """

    mean: FloatArray
    seen: FloatArray
    noise: FloatArray
    together: WeeklyProfile | None = None


def weeks_of(values: npt.NDArray[Any], numbers: IntArray, missing: float = 0.0) -> npt.NDArray[Any]:
    """Return ``values`` (n, T) at contiguous hours by week and hour of the week (n, weeks, 168), padded with ``missing``."""
    lead = int(numbers[0] % HOURS_PER_WEEK)
    tail = -(lead + values.shape[1]) % HOURS_PER_WEEK
    return np.pad(values, ((0, 0), (lead, tail)), constant_values=missing).reshape(len(values), -1, HOURS_PER_WEEK)


def distinct_rows(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the first row if all are equal, else all of them. What is derived from it broadcasts, and costs less."""
    return rows[:1] if len(rows) and (rows == rows[:1]).all() else rows


def weekly_profiles(
    costs: FloatArray, observed: BoolArray | FloatArray, numbers: IntArray, decays: Sequence[float]
) -> tuple[WeeklyProfile, ...]:
    """Return one profile per decay, from ``costs`` (K, T) at contiguous hours.

    A week has ``decay`` × the weight of the next. ``observed`` (K, T) may be weights between 0 and 1: hours that count less.
    """
    apart = _profiles(costs, observed, numbers, decays)
    weights = np.asarray(observed, dtype=np.float64)
    together = np.where(observed, costs, 0.0).sum(axis=0) / np.maximum(np.count_nonzero(weights, axis=0), 1)
    counted = weights.sum(axis=0) / max(len(costs), 1)
    whole = _profiles(together[None], counted[None], numbers, decays)
    return tuple(replace(own, together=common) for own, common in zip(apart, whole, strict=True))


def _profiles(
    costs: FloatArray, observed: BoolArray | FloatArray, numbers: IntArray, decays: Sequence[float]
) -> list[WeeklyProfile]:
    seen = weeks_of(distinct_rows(observed), numbers).astype(np.float64)
    values = weeks_of(np.where(observed, costs, 0.0), numbers)
    noise = _noise(values, seen)
    values = values * seen
    profiles = []
    for decay in decays:
        weights = decay ** np.arange(values.shape[1], dtype=np.float64)[::-1]
        total = np.einsum("w,kws->ks", weights, seen)
        mean = np.einsum("w,kws->ks", weights, values) / np.where(total > 0, total, 1.0)
        worth = total**2 / np.maximum(np.einsum("w,kws->ks", weights**2, seen), _LEAST)
        profiles.append(WeeklyProfile(_by_day(mean), _by_day(worth), noise))
    return profiles


def similar_days(profile: WeeklyProfile, ahead: IntArray) -> FloatArray:
    """Return the mean over similar days (K, H) for the hour numbers ``ahead``; zero for a key without observations."""
    day, hour = ahead // HOURS_PER_DAY % DAYS, ahead % HOURS_PER_DAY
    result: FloatArray = np.empty((len(profile.mean), len(ahead)))
    for wanted in np.unique(day):
        ratio = _ratios(profile.together, int(wanted))
        if (ratio != 1.0).any():
            ratio = 1.0 + _shared(profile, ratio, int(wanted)) * (ratio - 1.0)
        scaled = replace(profile, mean=profile.mean * ratio)
        variance = profile.noise[:, None, :] * np.maximum(ratio, 1.0) ** 2 / np.maximum(profile.seen, _LEAST)
        usable = (profile.seen > 0) & (ratio < CLOSED_RATIO)
        trust = np.where(usable, 1.0 / (variance + _squared_bias(scaled, int(wanted)) + _LEAST), 0.0)
        total = trust.sum(axis=1)
        mean = (trust * scaled.mean).sum(axis=1) / np.where(total > 0, total, 1.0)
        result[:, day == wanted] = mean[:, hour[day == wanted]]
    return result


def _shared(profile: WeeklyProfile, ratio: FloatArray, wanted: int) -> FloatArray:
    """Return how far the keys follow the common ``ratio``, 0 to 1 for each weekday and hour (7, 24).

    1 if it explains all differences between the keys' own means, 0 if it explains no more than half of them.
    """
    apart, scaled = (
        (_squared_bias(one, wanted) / np.maximum(profile.noise[:, None, :], _LEAST)).sum(axis=0)
        for one in (profile, replace(profile, mean=profile.mean * ratio))
    )
    return np.asarray(np.clip(1.0 - 2.0 * scaled / np.maximum(apart, _LEAST), 0.0, 1.0))


def _ratios(together: WeeklyProfile | None, wanted: int) -> FloatArray:
    """Return the keys' total on the wanted weekday ÷ that on each weekday around each hour (7, 24), if one of both is closed.

    It is 1 for all other weekdays: each key's own means say more about them.
    """
    if together is None:
        return np.ones((DAYS, HOURS_PER_DAY))
    seen, mean = together.seen[0], together.mean[0]
    both = (seen > 0) & (seen[[wanted]] > 0)
    there, here = _around(np.where(both, mean, 0.0)), _around(np.where(both, mean[[wanted]], 0.0))
    ratio: FloatArray = here / np.maximum(np.maximum(there, here / (2.0 * CLOSED_RATIO)), _LEAST)
    closed = both & (here + there > 0) & ((ratio <= 1.0 / CLOSED_RATIO) | (ratio >= CLOSED_RATIO))
    return np.where(closed, ratio, 1.0)


def same_hour_of_week(profile: WeeklyProfile, ahead: IntArray) -> FloatArray:
    """Return the plain mean (K, H) of the same hour of the week, or of the same hour of the day if that was never observed."""
    day, hour = ahead // HOURS_PER_DAY % DAYS, ahead % HOURS_PER_DAY
    total = profile.seen.sum(axis=1)
    any_day = (profile.seen * profile.mean).sum(axis=1) / np.where(total > 0, total, 1.0)
    seen = np.broadcast_to(profile.seen[:, day, hour], (len(profile.mean), len(ahead)))
    mean: FloatArray = np.where(seen > 0, profile.mean[:, day, hour], any_day[:, hour])
    return mean


def _squared_bias(profile: WeeklyProfile, wanted: int) -> FloatArray:
    """Return each weekday's squared difference from the wanted one around each hour, less noise; (K, 7, 24)."""
    both = (profile.seen > 0) & (profile.seen[:, wanted : wanted + 1] > 0)
    parts = np.where(both, 1.0 / np.maximum(profile.seen, _LEAST) + 1.0 / np.maximum(profile.seen[:, [wanted]], _LEAST), 0.0)
    excess = (profile.mean - profile.mean[:, [wanted]]) ** 2 - profile.noise[:, None, :] * parts
    bias = _around(np.where(both, excess, 0.0)) / np.maximum(_around(both.astype(np.float64)), 1.0)
    np.maximum(bias, 0.0, out=bias)
    bias[:, wanted] = 0.0
    return bias


def _noise(values: FloatArray, seen: FloatArray) -> FloatArray:
    """Return the variance of one observation by hour of the day (K, 24), averaged over neighbouring hours.

    It is estimated from the differences between weeks, or between days if no hour of the week was observed twice.
    """
    weekly, weekly_freedom = _scatter(
        _by_day(np.einsum("kws,kws->ks", values, seen)),
        _by_day(np.einsum("kws,kws,kws->ks", values, values, seen)),
        _by_day(seen.sum(axis=1)),
    )
    spread, freedom = _around(weekly.sum(axis=1)), _around(weekly_freedom.sum(axis=1))
    if not (freedom > 0).all():
        days, counted = values.reshape(len(values), -1, HOURS_PER_DAY), seen.reshape(len(seen), -1, HOURS_PER_DAY)
        daily, daily_freedom = _scatter(
            np.einsum("kdh,kdh->kh", days, counted), np.einsum("kdh,kdh,kdh->kh", days, days, counted), counted.sum(axis=1)
        )
        spread = np.where(freedom > 0, spread, _around(daily))
        freedom = np.where(freedom > 0, freedom, _around(daily_freedom))
    noise: FloatArray = np.maximum(spread / np.maximum(freedom, 1.0), _LEAST)
    return noise


def _scatter(sums: FloatArray, squares: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the squared deviations from the mean, and their degrees of freedom."""
    return np.maximum(squares - sums**2 / np.maximum(counts, 1.0), 0.0), np.maximum(counts - 1.0, 0.0)


def _by_day(slots: FloatArray) -> FloatArray:
    return slots.reshape(len(slots), DAYS, HOURS_PER_DAY)


def _around(values: FloatArray) -> FloatArray:
    """Return the sums over each hour of the day (last axis) and its neighbours, across midnight."""
    return np.asarray((values.reshape(-1, HOURS_PER_DAY) @ _NEAR).reshape(values.shape))
