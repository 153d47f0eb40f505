"""Synthetic logs with a known truth: the rate of every key and hour. Deterministic for a seed.

``diurnal``: keys in four time zones with their own daily waves, without weekends. ``launches``: keys that appear, decay, burst
for some hours, or vanish. ``groups``: keys that follow the weekly shape of their group and its good and bad days. ``jobs``: a
calm day, except for keys with a job: up to four hours a day, always the same, with many times the usual rate.

Levels are heavy-tailed. With probability one half, an access comes with an access of another key of its clump (2 to 8 keys of
one location) in the same session. Every key's count is therefore a Poisson variable with a known rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import FloatArray, IntArray, Location

START = datetime(2024, 1, 1, tzinfo=UTC)
PLACES = (
    Location("Dublin", 53.35, -6.26),
    Location("New York", 40.71, -74.01),
    Location("Tokyo", 35.68, 139.69),
    Location("Sao Paulo", -23.55, -46.63),
)
OFFSETS = np.array([0, -5, 9, -3])
PLACE_SHARES = np.array([0.35, 0.3, 0.2, 0.15])
ACCESSES_PER_KEY = 0.4
"""Mean accesses per key and hour, without co-accesses."""
CO_ACCESS_CHANCE = 0.5
"""The probability that an access comes with one of another key of the clump."""
HOME_SHARE = 0.85
"""The share of a key's accesses from its own location."""
JOB_SHARE = 0.05
"""The share of keys with a job in a ``jobs`` log."""
WRITE_SHARE = 0.25
WRITE_COST = 2.0


@dataclass(frozen=True)
class SyntheticLog:
    """``records`` with the standard columns, and the true ``mean`` and ``sigma`` (keys, hours) of their cost."""

    records: pd.DataFrame
    keys: tuple[str, ...]
    mean: FloatArray
    sigma: FloatArray


@dataclass(frozen=True)
class _KeyTraits:
    """Each key's location, clump (consecutive numbers) and level."""

    place: IntArray
    clump: IntArray
    level: FloatArray


Rates = Callable[[np.random.Generator, _KeyTraits, int], FloatArray]


def _diurnal(random: np.random.Generator, traits: _KeyTraits, hours: int) -> FloatArray:
    clumps = int(traits.clump.max()) + 1
    shift, depth = random.normal(0, 1.5, clumps)[traits.clump], random.uniform(0.5, 1.0, clumps)[traits.clump]
    local = np.arange(hours)[None] + OFFSETS[traits.place][:, None] + shift[:, None]
    turn = local / 24 * 2 * np.pi
    return np.asarray(np.maximum(1 + depth[:, None] * np.sin(turn - 2) + 0.3 * depth[:, None] * np.sin(2 * turn), 0.03))


def _launches(random: np.random.Generator, traits: _KeyTraits, hours: int) -> FloatArray:
    rates = 0.4 * _diurnal(random, traits, hours)
    at, keys = np.arange(hours)[None], len(traits.place)
    kind, start = random.random((keys, 1)), random.integers(0, hours, (keys, 1))
    fade = random.uniform(2, 12, (keys, 1)) * 24
    launched = np.where(at >= start, 0.5 + 6.0 * np.exp(-np.maximum(at - start, 0) / fade), 0.0)
    gone = (at < start).astype(np.float64)
    rates = rates * np.where(kind < 0.25, launched, np.where(kind < 0.35, gone, 1.0))
    for key in np.flatnonzero(random.random(keys) < 0.3):
        burst = int(random.integers(0, hours))
        rates[key, burst : burst + int(random.integers(2, 9))] *= random.uniform(3, 9)
    return rates


def _groups(random: np.random.Generator, traits: _KeyTraits, hours: int) -> FloatArray:
    groups = 10
    group = random.integers(0, groups, int(traits.clump.max()) + 1)[traits.clump]
    slots = np.arange(168)
    peaks = random.integers(0, 24, (groups, 2))
    day = sum(np.exp(-(((slots[None] - peaks[:, [n]] + 12) % 24 - 12) ** 2) / 8.0) for n in (0, 1))
    weekend = np.where(slots[None] // 24 >= 5, random.uniform(0.1, 1.5, (groups, 1)), 1.0)
    shape = (0.15 + day) * weekend
    good = np.exp(random.normal(0, 0.25, (groups, hours // 24 + 1)))
    at = np.arange(hours)
    return np.asarray((shape[:, at % 168] * good[:, at // 24])[group])


def _jobs(random: np.random.Generator, traits: _KeyTraits, hours: int) -> FloatArray:
    keys, hour = len(traits.place), np.arange(hours)[None] % 24
    start, lasts = random.integers(0, 24, (keys, 1)), random.integers(1, 5, (keys, 1))
    busy = (random.random((keys, 1)) < JOB_SHARE) & ((hour - start) % 24 < lasts)
    return np.asarray((0.7 + 0.3 * _diurnal(random, traits, hours)) * np.where(busy, random.uniform(10, 40, (keys, 1)), 1.0))


KINDS: Mapping[str, Rates] = {"diurnal": _diurnal, "launches": _launches, "groups": _groups, "jobs": _jobs}


def synthesise(kind: str, keys: int, days: int, seed: int) -> SyntheticLog:
    """Draw a log of one of ``KINDS``."""
    random, hours = np.random.default_rng(seed), days * 24
    clump = np.repeat(np.arange(keys), random.integers(2, 9, keys))[:keys]
    place = random.choice(len(PLACES), keys, p=PLACE_SHARES)[clump]
    traits = _KeyTraits(place, clump, np.exp(random.normal(0, 1.6, keys)))
    own = KINDS[kind](random, traits, hours) * traits.level[:, None]
    own *= ACCESSES_PER_KEY / max(float(own.mean()), 1e-12)
    counts = random.poisson(own)
    size = np.bincount(clump)[clump]
    sums = np.zeros((int(clump.max()) + 1, hours))
    np.add.at(sums, clump, own)
    co_accesses = CO_ACCESS_CHANCE * (sums[clump] - own) / np.maximum(size - 1, 1)[:, None]
    rate = own + co_accesses
    names = tuple(f"{kind}-{number:05}" for number in range(keys))
    mean = rate * (1 + (WRITE_COST - 1) * WRITE_SHARE)
    sigma = np.sqrt(rate * (1 + (WRITE_COST**2 - 1) * WRITE_SHARE))
    return SyntheticLog(_records(random, traits, counts, names), names, mean, sigma)


def _records(random: np.random.Generator, traits: _KeyTraits, counts: IntArray, names: tuple[str, ...]) -> pd.DataFrame:
    key, hour = np.nonzero(counts)
    number = counts[key, hour]
    key, hour = np.repeat(key, number), np.repeat(hour, number)
    second = random.integers(0, 3540, len(key))
    session = np.arange(len(key))
    away = random.integers(0, len(PLACES), len(key))
    place = np.where(random.random(len(key)) < HOME_SHARE, traits.place[key], away)
    first, size = np.searchsorted(traits.clump, traits.clump[key]), np.bincount(traits.clump)[traits.clump[key]]
    step = 1 + (random.random(len(key)) * np.maximum(size - 1, 1)).astype(np.int64)
    partner = first + (key - first + step) % size
    co_accessed = np.flatnonzero((random.random(len(key)) < CO_ACCESS_CHANCE) & (size > 1))
    chosen = np.concatenate([np.arange(len(key)), co_accessed])
    keys = np.concatenate([key, partner[co_accessed]])
    seconds = hour[chosen] * 3600 + second[chosen] + np.concatenate([np.zeros(len(key)), np.full(len(co_accessed), 20)])
    order = np.argsort(seconds, kind="stable")
    chosen, keys, seconds = chosen[order], keys[order], seconds[order]
    user = (session * 2654435761 % 4000)[chosen]
    writes = random.random(len(chosen)) < WRITE_SHARE
    return pd.DataFrame(
        {
            "timestamp": pd.Timestamp(START) + pd.to_timedelta(seconds, unit="s"),
            "partitionable_key": _named(keys, names),
            "user_id": _named(user, [f"user-{n}" for n in range(4000)]),
            "request_type": _named(writes.astype(np.int64), ["read", "write"]),
            "location": _named(place[chosen], [p.name for p in PLACES]),
            "session_id": session[chosen],
        }
    )


def _named(codes: IntArray, names: Sequence[str]) -> npt.NDArray[np.object_]:
    return np.asarray(np.array(names, dtype=object)[codes])
