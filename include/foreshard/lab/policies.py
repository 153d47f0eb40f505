"""The policies that the planner is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import Cluster, LabAction, Past
from foreshard.model import SECONDS_PER_HOUR, IntArray, Partition, PartitionState
from foreshard.model.key_space import KeySpace
from foreshard.routing.slots import first_slots

MOST_MOVES = 20
"""The most moves that a policy begins in one hour."""


class StaticHash:
    """Every key stays where weighted rendezvous hashing places it."""

    within_hour = False

    def __init__(self, layout: PartitionLayout) -> None:
        self._layout = layout

    def start(self, past: Past) -> IntArray:
        """Hash over all active partitions."""
        return hashed(past.keys, self._layout.partitions)

    def decide(self, past: Past, cluster: Cluster) -> list[LabAction]:  # noqa: ARG002
        """No action."""
        return []


class StaticGeo(StaticHash):
    """Every key stays near the location with most of its use, hashed over the partitions there."""

    def __init__(self, layout: PartitionLayout, places: Sequence[str]) -> None:
        super().__init__(layout)
        self._km = layout.distance_from(places)

    def start(self, past: Past) -> IntArray:
        """Place keys by past use. Keys without known locations are hashed over all partitions."""
        primary = hashed(past.keys, self._layout.partitions)
        key, place, cost, _ = past.visits(past.now)
        known = place >= 0
        if not known.any():
            return primary
        use = np.zeros((len(past.keys), len(self._km)))
        np.add.at(use, (key[known], place[known]), cost[known])
        nearest = [np.flatnonzero(row <= row.min() + 1e-6) for row in self._km]
        for place_index in range(len(self._km)):
            mine = np.flatnonzero((use.argmax(axis=1) == place_index) & (use.max(axis=1) > 0))
            partitions = [self._layout.partitions[p] for p in nearest[place_index]]
            if len(mine):
                chosen = hashed([past.keys[k] for k in mine], partitions)
                primary[mine] = nearest[place_index][chosen]
        return primary


class Reactive(StaticHash):
    """Like E-Store (Taft et al., VLDB 2014): a partition that was overloaded in the last ``minutes`` loses its hottest keys.

    From a partition above ``high`` × capacity, the keys with the most load move one by one to the least loaded partition, as
    long as that stays below ``goal`` × capacity, until the source is below ``goal``. A key rests for an hour after its move.
    It acts in every step of a log that has times within the hour. Of windows of 5, 15, 30 and 60 minutes, 15 left it the least
    overload on three synthetic logs whose steps vary by less than 10%.
    """

    within_hour = True

    def __init__(self, layout: PartitionLayout, high: float = 0.9, goal: float = 0.8, minutes: int = 15) -> None:
        super().__init__(layout)
        self._high, self._goal, self._minutes = high, goal, minutes
        self._open = np.array([p.state is PartitionState.ACTIVE for p in layout.partitions], bool)

    def decide(self, past: Past, cluster: Cluster) -> list[LabAction]:
        """Decide from the load of the last minutes, or of the last hour in an hourly log."""
        capacity = self._layout.capacity * SECONDS_PER_HOUR
        cost, where = past.rate(self._minutes), cluster.primary.copy()
        for key, target in cluster.pending.items():
            where[key] = target
        load = np.bincount(where, weights=cost, minlength=len(capacity))
        changes: list[LabAction] = []
        for source in np.argsort(-load / capacity, kind="stable").tolist():
            if load[source] <= self._high * capacity[source]:
                break
            here = np.flatnonzero((where == source) & (cost > 0) & (cluster.moved_at < past.now - 1))
            for key in here[np.lexsort((here, -cost[here]))].tolist():
                if load[source] <= self._goal * capacity[source] or len(changes) >= MOST_MOVES:
                    break
                room = np.where(self._open, self._goal * capacity - load, -np.inf)
                room[source] = -np.inf
                target = int((room / capacity).argmax())
                if key in cluster.pending or room[target] < cost[key]:
                    continue
                changes.append(LabAction(key, target))
                load[source] -= cost[key]
                load[target] += cost[key]
                where[key] = target
        return changes


class MongoBalance(StaticHash):
    """Like MongoDB's balancer: balance data size, not load, by moving one key at a time from the largest to the smallest.

    It acts if the two differ by more than ``threshold`` of the mean size (MongoDB: three ranges).
    """

    def __init__(self, layout: PartitionLayout, threshold: float = 0.1) -> None:
        super().__init__(layout)
        self._threshold = threshold

    def decide(self, past: Past, cluster: Cluster) -> list[LabAction]:
        """Return at most one move an hour, of the key that best balances the two partitions."""
        size, share = past.sizes(), self._layout.capacity / self._layout.capacity.mean()
        where = cluster.primary.copy()
        for key, target in cluster.pending.items():
            where[key] = target
        held = np.bincount(where, weights=size, minlength=len(share)) / share
        most, least = int(held.argmax()), int(held.argmin())
        gap = float(held[most] - held[least])
        keys = np.flatnonzero((where == most) & (size > 0))
        if not len(keys) or gap <= self._threshold * held.mean():
            return []
        best = int(keys[np.abs(size[keys] - gap / 2).argmin()])
        return [LabAction(best, least)] if size[best] < gap and best not in cluster.pending else []


def hashed(keys: Sequence[str], partitions: Sequence[Partition]) -> IntArray:
    """Return the index of each key's partition by the first slot map."""
    active = [p for p in partitions if p.state is PartitionState.ACTIVE] or list(partitions)
    index: Mapping[str, int] = {partition.partition_id: place for place, partition in enumerate(partitions)}
    slots = first_slots(KeySpace(), {partition.partition_id: partition.capacity for partition in active})
    return np.array([index[slots.of(key).primary] for key in keys], np.int64)
