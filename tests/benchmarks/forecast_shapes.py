"""Rates and costs of synthetic logs on which forecasts differ: days that repeat, closed days, few keys, page views.

Every function takes (random, keys, hours) and returns costs (keys, hours). Hour 0 is a Monday's first hour.
"""

from __future__ import annotations

import numpy as np

MINUTES = 60
SEASON_DAYS = 38
"""The day on which a third of a timetable's services change their minute."""
HOLIDAYS = (9, 18, 29, 34, 46, 52)
"""Closed days of ``closures``, and days on which a timetable runs its Sunday's services."""
WEEKS = ("1111111", "1111100", "0000011", "1111110", "1010100")
"""On which weekdays a service of each kind runs, from Monday on."""


def timetable(random: np.random.Generator, keys: int, hours: int) -> np.ndarray:
    """Services at fixed minutes of their weekdays, late or cancelled at times; none at night. A new season moves a third."""
    days, costs = hours // 24, np.zeros((keys, hours))
    services = 1 + random.poisson(np.exp(random.normal(1.8, 1.0, keys)))
    variants = np.array([[int(one) for one in week] for week in WEEKS])
    for key, count in enumerate(services):
        minute = random.uniform(5.5 * MINUTES, 23 * MINUTES, count)
        later = np.where(random.random(count) < 1 / 3, random.uniform(5.5 * MINUTES, 23 * MINUTES, count), minute)
        runs = variants[random.choice(5, count, p=[0.45, 0.2, 0.1, 0.15, 0.1])]
        for day in range(days):
            weekday = 6 if day in HOLIDAYS else day % 7
            late = random.exponential(12.0, count) - 6.0
            at = 24 * MINUTES * day + (later if day >= SEASON_DAYS else minute) + late
            gone = (runs[:, weekday] > 0) & (random.random(count) > 0.02)
            place = np.clip(at[gone] // MINUTES, 0, hours - 1).astype(int)
            np.add.at(costs[key], place, 1.0)
    return costs


def repeats(random: np.random.Generator, keys: int, hours: int) -> np.ndarray:
    """Batch work by the clock: the same cost at the same hours of each weekday, in a few sizes; a fifth change it once."""
    week = np.zeros((keys, 2, 168))
    for key in range(keys):
        for version in range(2):
            at = random.choice(168, random.integers(3, 60), replace=False)
            week[key, version, at] = random.integers(1, 40, len(at))
    changed = random.integers(20 * 24, hours, (keys, 1)) + np.where(random.random((keys, 1)) < 0.2, 0, hours)
    place = np.arange(hours)
    costs = np.where(place >= changed, week[:, 1][:, place % 168], week[:, 0][:, place % 168])
    return costs * np.where(random.random(costs.shape) < 0.01, random.uniform(0.2, 2.0, costs.shape), 1.0)


def closures(random: np.random.Generator, keys: int, hours: int) -> np.ndarray:
    """Offices open from 8 to 18, closed at night, on Saturdays and on holidays, which the log does not announce."""
    at = np.arange(hours)
    day, hour = at // 24, at % 24
    opening = random.integers(7, 10, (keys, 1))
    shut = (day % 7 == 5) | np.isin(day, HOLIDAYS)
    busy = (hour >= opening) & (hour < opening + 9) & ~shut
    shape = 1.0 + 0.5 * np.sin((hour - 8) / 10 * 2 * np.pi) - 0.4 * (day % 7 == 6)
    after = 1.0 + 0.6 * np.isin(day - 1, HOLIDAYS)
    mood = np.exp(np.cumsum(random.normal(0, 0.05, hours // 24 + 1)) + random.normal(0, 0.12, hours // 24 + 1))[day]
    return random.poisson(np.exp(random.normal(0.3, 1.2, (keys, 1))) * busy * shape * after * mood).astype(float)


def few(random: np.random.Generator, keys: int, hours: int) -> np.ndarray:
    """A few large keys, each with its own wave, week, growth and slowly wandering level."""
    keys, at = min(keys, 12), np.arange(hours)
    wave = 1.0 + 0.6 * np.sin((at + random.uniform(0, 24, (keys, 1))) / 24 * 2 * np.pi) + 0.2 * np.sin(at / 12 * 2 * np.pi)
    week = np.where(at // 24 % 7 >= 5, random.uniform(0.5, 1.1, (keys, 1)), 1.0)
    wander = np.cumsum(random.normal(0, 0.015, (keys, hours)), axis=1) * 0.5 + at / hours * random.uniform(-0.3, 0.8, (keys, 1))
    rates = np.exp(random.normal(6.0, 0.8, (keys, 1))) * wave * week * np.exp(wander)
    return random.poisson(rates * random.gamma(60.0, 1 / 60.0, rates.shape)).astype(float)


def views(random: np.random.Generator, keys: int, hours: int) -> np.ndarray:
    """Page views: heavy-tailed pages, one reader's day with weaker weekends, news that bursts and decays, a common level."""
    at = np.arange(hours)
    day = 1.0 + 0.5 * np.sin((at % 24 - 9 + random.normal(0, 1.0, (keys, 1))) / 24 * 2 * np.pi)
    week = np.where(at // 24 % 7 >= 5, random.uniform(0.7, 1.2, (keys, 1)), 1.0)
    common = np.exp(np.cumsum(random.normal(0, 0.006, hours)) * 0.7)
    rates = np.exp(random.normal(1.0, 1.5, (keys, 1))) * day * week * common
    for key in np.flatnonzero(random.random(keys) < 0.5):
        for start in random.integers(0, hours, random.integers(1, 4)):
            rates[key, start:] *= 1.0 + random.uniform(1, 12) * np.exp(-np.arange(hours - start) / random.uniform(8, 60))
    wander = np.exp(np.cumsum(random.normal(0, 0.02, (keys, hours)), axis=1) * 0.4)
    return random.poisson(rates * wander * random.gamma(10.0, 0.1, rates.shape)).astype(float)


SHAPES = {"timetable": timetable, "repeats": repeats, "closures": closures, "few": few, "views": views}
"""Kind → function."""
