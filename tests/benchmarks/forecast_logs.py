"""Synthetic access logs with a known truth: thousands of keys of two different kinds. Deterministic for a seed.

``web``: heavy-tailed levels, a day's wave by time zone, weekends by group, groups that move together from day to day,
launches, decays, slow growth, bursts; counts, half of them overdispersed. ``jobs``: machines without weekends: constant rates,
jobs at fixed hours of the day, every few hours, once a week; levels that change; a cost per access of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

START = datetime(2024, 1, 1, tzinfo=UTC)


def web_rates(random: np.random.Generator, keys: int, hours: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates (keys, hours) and each key's location (keys,)."""
    at = np.arange(hours)
    location = random.integers(0, 4, keys)
    local = at[None, :] - np.array([0, 6, 12, 18])[location][:, None] - random.normal(0, 1.5, (keys, 1))
    strength = random.uniform(0.3, 1.0, (keys, 1))
    wave = 1.0 + strength * np.sin((local - 8) / 24 * 2 * np.pi) + 0.3 * strength * np.sin(local / 12 * 2 * np.pi)
    group = random.integers(0, 12, keys)
    weekend = np.where((local // 24).astype(int) % 7 >= 5, random.uniform(0.3, 1.3, 12)[group][:, None], 1.0)
    together = np.exp(np.cumsum(random.normal(0, 0.04, (12, hours // 24 + 1)), axis=1))[group][:, at // 24]
    rates = np.exp(random.normal(0.5, 1.6, (keys, 1))) * np.maximum(wave, 0.02) * weekend * together
    kind, start = random.random((keys, 1)), random.integers(24 * 10, hours - 48, (keys, 1))
    days = random.uniform(2, 10, (keys, 1)) * 24
    decay = 0.2 + np.where(at >= start, 4.0 * np.exp(-np.clip(at - start, 0, None) / days), 0.0)
    growth = np.exp((at / hours - 0.5) * random.normal(0, 1.5, (keys, 1)))
    rates *= np.where(kind < 0.12, at >= start, np.where(kind < 0.3, decay, np.where(kind < 0.4, growth, 1.0)))
    for key in np.flatnonzero(random.random(keys) < 0.6):
        burst = int(random.integers(0, hours))
        rates[key, burst : burst + int(random.integers(1, 6))] *= 1.0 + random.uniform(2, 8)
    return rates, location


def jobs_rates(random: np.random.Generator, keys: int, hours: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates (keys, hours) and each key's location (keys,)."""
    at = np.arange(hours)
    kind, offset = random.integers(0, 4, (keys, 1)), random.integers(0, 168, (keys, 1))
    daily = 0.1 + 6.0 * ((at - offset) % 24 < 2)
    cyclic = 0.4 + 3.0 * ((at - offset) % 6 == 0)
    weekly = 0.3 + 8.0 * ((at - offset) % 168 < 5) + 0.25 * (1 + np.sin(at / 24 * 2 * np.pi))
    shape = np.choose(np.broadcast_to(kind, (keys, hours)), [np.ones((keys, hours)), daily, cyclic, weekly])
    start = random.integers(24 * 10, hours, (keys, 1))
    change = np.where((random.random((keys, 1)) < 0.3) & (at >= start), random.uniform(0.2, 4.0, (keys, 1)), 1.0)
    day = np.exp(random.normal(0, 0.15, (keys, hours // 24 + 1)))[:, at // 24]
    return np.exp(random.normal(1.5, 1.3, (keys, 1))) * shape * change * day, random.integers(0, 3, keys)


def counts(kind: str, keys: int, hours: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Costs (keys, hours), drawn from the rates, and each key's location (keys,)."""
    random = np.random.default_rng(seed)
    if kind == "web":
        rates, location = web_rates(random, keys, hours)
        scattered = random.gamma(8.0, 1.0 / 8.0, rates.shape)
        return random.poisson(np.where(np.arange(keys)[:, None] % 2 == 0, rates, rates * scattered)).astype(float), location
    rates, location = jobs_rates(random, keys, hours)
    return random.poisson(rates) * random.choice([0.5, 1.0, 2.0], (keys, 1)), location


def write_log(kind: str, path: Path, keys: int = 2000, days: int = 70) -> Path:
    """Write a log with the standard columns and one record per key and hour, with the cost of that hour."""
    costs, location = counts(kind, keys, days * 24)
    key, hour = np.nonzero(costs)
    order = np.argsort(hour, kind="stable")
    key, hour = key[order], hour[order]
    frame = pd.DataFrame(
        {
            "timestamp": pd.Timestamp(START) + pd.to_timedelta(hour, unit="h"),
            "partitionable_key": np.array([f"{kind}-{number:05}" for number in range(keys)], dtype=object)[key],
            "user_id": "u",
            "request_type": "read",
            "location": np.array([f"place-{number}" for number in range(4)], dtype=object)[location[key]],
            "cost": costs[key, hour],
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    return path


if __name__ == "__main__":
    import sys

    for name in sys.argv[2:] or ("web", "jobs"):
        print(write_log(name, Path(sys.argv[1]) / f"{name}.parquet"))
