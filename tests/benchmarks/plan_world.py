"""Random snapshots for the planner's benchmark: heavy-tailed keys that are accessed in clumps, on uneven partitions.

They have the properties that make planning hard in practice: a few keys have much of the load, daily peaks differ by location,
some partitions are overloaded, most co-accessed keys are on one partition, and some keys already have shadows.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from foreshard.measure.demand import KeyDemand, OriginShares
from foreshard.model import SECONDS_PER_HOUR, Partition
from foreshard.plan.input.migration_rate import MigrationRate
from foreshard.plan.input.snapshot import CoAccessGraph, IndexedShadow, Snapshot

HOURS, PLACES, GROUP = 24, 20, 32
UTILISATION = 0.35
"""Share of the total capacity in use in the busiest hour."""


def draw_snapshot(keys: int, partitions: int, seed: int = 0) -> Snapshot:
    """A snapshot of ``keys`` on ``partitions`` without co-access; about one in ten partitions is overloaded."""
    rng = np.random.default_rng(seed)
    home = rng.integers(0, PLACES, partitions)
    group = np.arange(keys) // GROUP
    groups = int(group[-1]) + 1
    weight = rng.lognormal(0.0, 0.3, partitions)
    base = rng.choice(partitions, groups, p=weight / weight.sum())[group]
    strays = rng.random(keys) < 0.3
    primary = np.where(strays, rng.choice(partitions, keys, p=weight / weight.sum()), base).astype(np.int64)
    mean = _loads(rng, keys, home[base])
    capacity = mean.sum(axis=0).max() / SECONDS_PER_HOUR / UTILISATION / partitions
    points = rng.random((PLACES, 2)) * 8000.0
    km = np.linalg.norm(points[:, None] - points[home][None], axis=2)
    shadowed = rng.choice(keys, min(keys, max(1, partitions // 10)), replace=False)
    shadows = [
        IndexedShadow(f"s-{key}", int(key), int(place), "hot_key")
        for key, place in zip(shadowed, rng.integers(0, partitions, len(shadowed)), strict=True)
        if place != primary[key]
    ]
    return Snapshot(
        hour=datetime(2024, 3, 5, 7, tzinfo=UTC),
        table_version=1,
        keys=tuple(f"key-{number:07d}" for number in range(keys)),
        partitions=tuple(Partition(f"p{number:04d}", f"place-{home[number]}", capacity) for number in range(partitions)),
        demand=KeyDemand(mean, np.sqrt(1.6 * mean), rng.beta(4, 2, keys), _origins(rng, keys, home[base])),
        primary=primary,
        distance_km=km,
        partition_km=km[home],
        key_bytes=rng.lognormal(13.0, 1.5, keys),
        co_access=CoAccessGraph.empty(keys),
        migration=MigrationRate(60.0, 5.0 * 2**20),
        shadows=tuple(shadows),
        movable=rng.random(keys) < 0.95,
    )


def _loads(rng: np.random.Generator, keys: int, place: np.ndarray) -> np.ndarray:
    """Cost per key and hour (K, HOURS): Pareto sizes, cut where one key would fill half a partition; peaks by place."""
    size = np.minimum(rng.pareto(1.3, keys) + 0.1, 600.0) * 10.0
    peak = rng.normal(0, 2, keys) + 24.0 * place / PLACES
    shape = 1.05 + np.sin((np.arange(HOURS)[None] - peak[:, None]) / 24 * 2 * np.pi)
    return np.asarray(size[:, None] * shape)


def draw_pairs(keys: int, edges: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs and co-accesses per hour: three of four within a group, the others with keys of skewed popularity."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, keys, edges)
    near = np.minimum(a // GROUP * GROUP + rng.integers(0, GROUP, edges), keys - 1)
    far = (keys * rng.random(edges) ** 3).astype(np.int64)
    inside = rng.random(edges) < 0.75
    return a, np.where(inside, near, far), rng.pareto(1.5, edges) * np.where(inside, 5.0, 0.5)


def _origins(rng: np.random.Generator, keys: int, place: np.ndarray) -> OriginShares:
    """Two or three locations per key, with most reads from its own."""
    key = np.repeat(np.arange(keys), 3)
    where = rng.integers(0, PLACES, 3 * keys)
    where[::3] = place
    return OriginShares.build(key, where, rng.random(3 * keys) * np.tile([4.0, 1.0, 0.5], keys), keys)
