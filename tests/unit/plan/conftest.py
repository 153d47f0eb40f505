"""Small worlds to plan in."""

from datetime import UTC, datetime

import numpy as np
import pytest

from foreshard.load import SECONDS_PER_HOUR, KeyDemand, OriginShares
from foreshard.model import Partition, PartitionState
from foreshard.plan.snapshot import CoAccessGraph, Snapshot

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)


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
        **more,
    )


@pytest.fixture(scope="session")
def world():
    return build_world
