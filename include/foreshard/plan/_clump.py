"""Clumps: a hot key and the keys used with it, grown by co-access as in Clay (Serafini et al., VLDB 2016)."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray
from foreshard.plan._placement_model import PlacementModel


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of the hour's limits."""

    moves: int
    size_bytes: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """Clumps at S sizes, one row each, against T targets: what their keys weigh together.

    ``uses`` are common uses per hour: among themselves (S), with other keys on the source (S) and on each target (S, T);
    ``distance`` is their cost × km to the readers; ``open_`` says which targets each of their keys may go to.
    """

    keys: tuple[tuple[int, ...], ...]
    load: LoadProfile
    size_bytes: FloatArray
    work: FloatArray
    uses_inside: FloatArray
    uses_source: FloatArray
    uses_targets: FloatArray
    distance_source: FloatArray
    distance_targets: FloatArray
    open_: BoolArray


class Growth:
    """A clump that grows from ``seed``, always by the key on ``source`` that is used most with it.

    ``allowed`` (K) are the keys that may join; ``targets`` the partitions that are considered, ``may_go`` (T) those of them
    that the seed may go to.
    """

    def __init__(
        self,
        view: PlacementModel,
        source: int,
        seed: int,
        allowed: BoolArray,
        allowance: Allowance,
        targets: IntArray,
        may_go: BoolArray,
    ) -> None:
        self._view, self._source, self._allowed = view, source, allowed
        self._places = np.append(targets, source)
        self._km = view.snapshot.distance_km[:, self._places]
        self._limit = min(allowance.moves, view.policy.maximum_clump)
        self._bytes_left = allowance.size_bytes
        self._keys = np.zeros(0, np.int64)
        self._neighbours: dict[int, float] = {seed: 0.0}
        self._ranked = [(0.0, seed)]
        self._load = np.zeros((3, len(view.hours.weight)))
        self._size = self._work = self._inside = 0.0
        self._uses, self._distance = np.zeros(len(view.capacity)), np.zeros(len(self._places))
        self._open = may_go
        self._home = view.snapshot.rules.home[:, targets] if view.snapshot.rules.any_rules else None

    def grow(self, steps: int) -> Sizes | None:
        """Add up to ``steps`` keys; return the clump as it was after each, or None where it can't grow."""
        rows: list[tuple[Any, ...]] = []
        while len(rows) < steps and len(self._keys) < self._limit and (key := self._closest()) is not None:
            del self._neighbours[key]
            if self._size + self._view.snapshot.key_bytes[key] > self._bytes_left:
                continue
            self._add(key)
            so_far, uses = tuple(self._keys.tolist()), self._uses[self._places]
            rows.append((so_far, self._load, self._size, self._work, self._inside, uses, self._distance, self._open))
        if not rows:
            return None
        keys, load, size, work, inside, used, distance, open_ = zip(*rows, strict=True)
        use, far, loads = np.array(used), np.array(distance), np.array(load)
        return Sizes(
            keys, LoadProfile(loads[:, 0], loads[:, 1], loads[:, 2]), np.array(size), np.array(work),
            np.array(inside), use[:, -1], use[:, :-1], far[:, -1], far[:, :-1], np.array(open_),
        )  # fmt: skip

    def _closest(self) -> int | None:
        """The key that is used most with the clump, the lower index on a tie."""
        while self._ranked:
            weight, key = self._ranked[0]
            if self._neighbours.get(key) == -weight:
                return key
            heapq.heappop(self._ranked)
        return None

    def _add(self, key: int) -> None:
        view, snapshot = self._view, self._view.snapshot
        neighbours, weights = snapshot.co_access.of(key)
        outside = np.ones(len(neighbours), bool)
        if len(neighbours) and len(self._keys):
            at = np.minimum(neighbours.searchsorted(self._keys), len(neighbours) - 1)
            outside[at[neighbours[at] == self._keys]] = False
            joined_uses = float(weights[~outside].sum())
            self._uses[self._source] -= joined_uses
            self._inside += joined_uses
        np.add.at(self._uses, view.primary[neighbours[outside]], weights[outside])
        self._keys = np.append(self._keys, key)
        joining = outside & self._allowed[neighbours]
        if self._home is not None:
            joining &= (self._home[snapshot.rules.row[neighbours]] & self._open).any(axis=1)
        for other, weight in zip(neighbours[joining].tolist(), weights[joining].tolist(), strict=True):
            total = self._neighbours[other] = self._neighbours.get(other, 0.0) + weight
            heapq.heappush(self._ranked, (-total, other))
        cost, sigma = view.hours.mean(key), view.hours.sigma(key) / SECONDS_PER_HOUR
        self._load = self._load.copy()
        self._load[0] += cost / SECONDS_PER_HOUR
        self._load[1] += sigma * sigma
        self._load[2] += sigma
        self._size += float(snapshot.key_bytes[key])
        work = float(cost.sum())
        places, shares = snapshot.demand.origins.of(key)
        self._distance = self._distance + work * (shares @ self._km[places])
        self._work += work
        self._open = self._open & (self._places[:-1] != view.not_back_to(key))
        if self._home is not None:
            self._open = self._open & self._home[snapshot.rules.row[key]]


def joined(sizes: list[Sizes]) -> Sizes:
    """All rows in one."""
    load = LoadProfile(*(np.concatenate(parts) for parts in zip(*(s.load.parts() for s in sizes), strict=True)))
    names = ("size_bytes", "work", "uses_inside", "uses_source", "uses_targets", "distance_source", "distance_targets", "open_")
    columns = {name: np.concatenate([getattr(s, name) for s in sizes]) for name in names}
    return Sizes(keys=tuple(keys for s in sizes for keys in s.keys), load=load, **columns)
