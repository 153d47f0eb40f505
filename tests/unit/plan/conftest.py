"""Small snapshots to plan for."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from foreshard.measure.demand import KeyDemand, OriginShares, ServingRule
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import HOURS_PER_WEEK, SECONDS_PER_HOUR, Partition, PartitionState, PlacementRule, RuleKind
from foreshard.plan.input.mean_week import MeanWeek
from foreshard.plan.input.migration_rate import MigrationRate
from foreshard.plan.input.snapshot import CoAccessGraph, IndexedShadow, PlanPolicy, Snapshot
from foreshard.settings import MigrateSettings, PlanSettings, SidecarSettings

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)
RATE = MigrationRate(60.0, 5.0 * 2**20)


SHIPPED = PlanPolicy.of(PlanSettings(), MigrateSettings(), ServingRule(SidecarSettings().room_mark, apply_cost=1.0))


def build_policy(**changes):
    """The policy that ships, except for ``changes``."""
    return replace(SHIPPED, **changes)


def build_world(
    loads,
    primary,
    capacities,
    *,
    sigma=0.0,
    read_share=0.0,
    origins=None,
    co_access=(),
    locations=None,
    km=None,
    states=None,
    key_bytes=1000.0,
    migration=RATE,
    **more,
):
    """A snapshot: ``loads`` (keys, hours) or (keys,) in cost/s; ``km`` between partitions, each its own location."""
    loads = np.asarray(loads, float)
    loads = loads[:, None] if loads.ndim == 1 else loads
    keys, places = len(loads), len(capacities)
    km = np.full((places, places), 100.0) * (1 - np.eye(places)) if km is None else np.asarray(km, float)
    locations = locations or [f"town-{p}" for p in range(places)]
    states = states or [PartitionState.ACTIVE] * places
    pairs = np.array(co_access, float).reshape(-1, 3)
    return Snapshot(
        hour=HOUR,
        table_version=3,
        keys=tuple(f"key-{k:04d}" for k in range(keys)),
        partitions=tuple(Partition(f"p{p}", locations[p], capacities[p], state=states[p]) for p in range(places)),
        demand=KeyDemand(
            loads * SECONDS_PER_HOUR,
            np.broadcast_to(np.asarray(sigma, float) * SECONDS_PER_HOUR, loads.shape).copy(),
            np.broadcast_to(np.asarray(read_share, float), (keys,)).copy(),
            origins or OriginShares.unknown(keys),
        ),
        primary=np.asarray(primary, np.int64),
        distance_km=km,
        partition_km=km,
        key_bytes=np.broadcast_to(np.asarray(key_bytes, float), (keys,)).copy(),
        co_access=CoAccessGraph.build(pairs[:, 0].astype(int), pairs[:, 1].astype(int), pairs[:, 2], keys),
        migration=migration,
        **more,
    )


def draw(seed):
    """A world and a policy; utilisation from idle to hopeless."""
    rng = np.random.default_rng(seed)
    keys, partitions, hours = int(rng.integers(0, 40)), int(rng.integers(1, 6)), int(rng.integers(1, 25))
    loads = rng.pareto(1.2, (keys, 1)) * rng.random((keys, hours))
    primary = rng.integers(0, partitions, keys)
    total = max(float(loads.sum(axis=0).max(initial=0.0)), 0.1)
    capacity = total / partitions / rng.uniform(0.2, 1.4) * rng.uniform(0.3, 2.0, partitions)
    edges = int(rng.integers(0, 60)) if keys else 0
    pairs = np.c_[rng.integers(0, max(keys, 1), (edges, 2)), rng.random(edges) * 1000]
    points = rng.random((partitions, 2)) * rng.choice([10.0, 5000.0])
    km = np.linalg.norm(points[:, None] - points[None], axis=2)
    reads = rng.integers(0, 60) if keys else 0
    origins = OriginShares.build(
        rng.integers(0, max(keys, 1), reads), rng.integers(0, partitions, reads), rng.random(reads), keys
    )
    shadows = {(int(k), int(rng.integers(0, partitions))) for k in rng.integers(0, max(keys, 1), 3)} if keys else set()
    states = [PartitionState.DRAINING if rng.random() < 0.15 else PartitionState.ACTIVE for _ in range(partitions)]
    snapshot = build_world(
        loads,
        primary,
        capacity,
        sigma=loads * rng.choice([0.0, 0.3, 1.0]),
        read_share=rng.random(keys),
        origins=origins,
        co_access=pairs,
        km=km,
        states=states,
        key_bytes=rng.integers(0, 10_000, keys).astype(float),
        access_cost=float(rng.choice([0.0, 0.1, 2.0])),
        week=draw_week(rng, keys),
        idle_hours=np.where(rng.random(keys) < 0.3, rng.integers(0, 400, keys).astype(float), np.inf),
        movable=rng.random(keys) < 0.9,
        last_source=np.where(rng.random(keys) < 0.1, rng.integers(0, partitions, keys), -1),
        shadows=tuple(
            IndexedShadow(f"s-{n}", k, p, "hot_key", float(rng.integers(0, 100)))
            for n, (k, p) in enumerate(sorted(shadows))
            if p != primary[k]
        ),
    )
    policy = build_policy(
        maximum_moves=int(rng.integers(0, 15)),
        maximum_shadows=int(rng.integers(0, 4)),
        maximum_bytes=float(rng.integers(0, 60_000)),
        reserve=float(rng.choice([0.0, 0.25])),
        serving=replace(SHIPPED.serving, correlation=float(rng.choice([0.0, 0.2]))),
    )
    rules = PlacementRules(draw_rules(rng, snapshot) if rng.random() < 0.5 else ())
    under_way = ~snapshot.movable & (rng.random(keys) < 0.5)
    return replace(snapshot, bounds=rules.bounds(snapshot.keys, snapshot.partitions), under_way=under_way), policy


def draw_week(rng, keys):
    """None, or a mean week of one to four weeks."""
    if rng.random() < 0.3:
        return None
    mean = (rng.pareto(1.5, (keys, 1)) * rng.random((keys, HOURS_PER_WEEK)) * SECONDS_PER_HOUR).astype(np.float32)
    return MeanWeek(mean, np.ones(keys, np.float32), float(rng.integers(1, 5)))


def draw_rules(rng, snapshot):
    """Up to four rules for single keys, prefixes and all keys; some can't be kept."""
    rules = []
    for _ in range(int(rng.integers(1, 5))):
        selector, prefix = f"key-{int(rng.integers(0, 40)):04d}", bool(rng.random() < 0.6)
        selector = selector[: int(rng.integers(0, 9))] if prefix else selector
        places = rng.choice(len(snapshot.partitions), int(rng.integers(1, len(snapshot.partitions) + 1)), replace=False)
        if rng.random() < 0.5:
            target = None if rng.random() < 0.3 else snapshot.partitions[int(places[0])].partition_id
            rules.append(PlacementRule(RuleKind.PIN, selector, prefix, target))
        else:
            homes = tuple(snapshot.partitions[int(p)].geographic_location for p in places)
            rules.append(PlacementRule(RuleKind.RESIDENCY, selector, prefix, None, homes))
    return list({rule.rule_id: rule for rule in rules}.values())


@pytest.fixture(scope="session")
def world():
    return build_world


@pytest.fixture(scope="session")
def drawn():
    return draw
