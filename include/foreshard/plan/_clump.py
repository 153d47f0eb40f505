"""Clumps and the options for moving them.

A clump is a hot key and its co-accessed keys, grown as in Clay (Serafini et al., VLDB 2016).
"""

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
    """The remaining moves and bytes of the hour's limits."""

    moves: int
    size_bytes: float


@dataclass(frozen=True, slots=True)
class ClumpSizes:
    """S clumps, one per row, compared with T targets: the load, size and co-access of their keys.

    ``work`` is the clumps' cost over all hours. The ``co_accesses_…`` are per hour: among the clump's own keys (S), with other
    keys on the source (S), and with keys on each target (S, T). ``distance_…`` is cost × km to the readers.
    ``allowed_targets`` (S, T) are the targets that every key of the clump may move to.
    """

    keys: tuple[tuple[int, ...], ...]
    load: LoadProfile
    size_bytes: FloatArray
    work: FloatArray
    co_accesses_inside: FloatArray
    co_accesses_source: FloatArray
    co_accesses_targets: FloatArray
    distance_source: FloatArray
    distance_targets: FloatArray
    allowed_targets: BoolArray


class ClumpGrowth:
    """A clump that grows from ``seed``, each time by the key on ``source`` with the most co-access to it.

    ``allowed`` (K): the keys that may join. ``targets``: the partitions considered. ``seed_targets`` (T): the targets that the
    seed may move to.
    """

    def __init__(
        self,
        model: PlacementModel,
        source: int,
        seed: int,
        allowed: BoolArray,
        allowance: Allowance,
        targets: IntArray,
        seed_targets: BoolArray,
    ) -> None:
        self._view, self._source, self._allowed = model, source, allowed
        self._places = np.append(targets, source)
        self._km = model.snapshot.distance_km[:, self._places]
        self._limit = min(allowance.moves, model.policy.maximum_clump)
        self._bytes_left = allowance.size_bytes
        self._keys = np.zeros(0, np.int64)
        self._neighbours: dict[int, float] = {seed: 0.0}
        self._ranked = [(0.0, seed)]
        self._load = np.zeros((3, len(model.hours.weight)))
        self._size = self._work = self._inside = 0.0
        self._co_accesses, self._distance = np.zeros(len(model.capacity)), np.zeros(len(self._places))
        self._allowed_targets = seed_targets
        self._home = model.snapshot.rules.home[:, targets] if model.snapshot.rules.any_rules else None

    def grow(self, steps: int) -> ClumpSizes | None:
        """Add up to ``steps`` keys. Return the clump after each step, or None if it cannot grow."""
        rows: list[tuple[Any, ...]] = []
        while len(rows) < steps and len(self._keys) < self._limit and (key := self._closest()) is not None:
            del self._neighbours[key]
            if self._size + self._view.snapshot.key_bytes[key] > self._bytes_left:
                continue
            self._add(key)
            keys_so_far, co_accesses = tuple(self._keys.tolist()), self._co_accesses[self._places]
            rows.append(
                (
                    keys_so_far,
                    self._load,
                    self._size,
                    self._work,
                    self._inside,
                    co_accesses,
                    self._distance,
                    self._allowed_targets,
                )
            )
        if not rows:
            return None
        keys, load, size, work, inside, used, distance, allowed_targets = zip(*rows, strict=True)
        co_access, far, loads = np.array(used), np.array(distance), np.array(load)
        return ClumpSizes(
            keys, LoadProfile(loads[:, 0], loads[:, 1], loads[:, 2]), np.array(size), np.array(work),
            np.array(inside), co_access[:, -1], co_access[:, :-1], far[:, -1], far[:, :-1], np.array(allowed_targets),
        )  # fmt: skip

    def _closest(self) -> int | None:
        """Return the key with the most co-access to the clump; the lower index if equal."""
        while self._ranked:
            weight, key = self._ranked[0]
            if self._neighbours.get(key) == -weight:
                return key
            heapq.heappop(self._ranked)
        return None

    def _add(self, key: int) -> None:
        model, snapshot = self._view, self._view.snapshot
        neighbours, weights = snapshot.co_access.of(key)
        outside = np.ones(len(neighbours), bool)
        if len(neighbours) and len(self._keys):
            at = np.minimum(neighbours.searchsorted(self._keys), len(neighbours) - 1)
            outside[at[neighbours[at] == self._keys]] = False
            joined_co_accesses = float(weights[~outside].sum())
            self._co_accesses[self._source] -= joined_co_accesses
            self._inside += joined_co_accesses
        np.add.at(self._co_accesses, model.primary[neighbours[outside]], weights[outside])
        self._keys = np.append(self._keys, key)
        joining = outside & self._allowed[neighbours]
        if self._home is not None:
            joining &= (self._home[snapshot.rules.row[neighbours]] & self._allowed_targets).any(axis=1)
        for other, weight in zip(neighbours[joining].tolist(), weights[joining].tolist(), strict=True):
            total = self._neighbours[other] = self._neighbours.get(other, 0.0) + weight
            heapq.heappush(self._ranked, (-total, other))
        cost, sigma = model.hours.mean(key), model.hours.sigma(key) / SECONDS_PER_HOUR
        self._load = self._load.copy()
        self._load[0] += cost / SECONDS_PER_HOUR
        self._load[1] += sigma * sigma
        self._load[2] += sigma
        self._size += float(snapshot.key_bytes[key])
        work = float(cost.sum())
        places, shares = snapshot.demand.origins.of(key)
        self._distance = self._distance + work * (shares @ self._km[places])
        self._work += work
        self._allowed_targets = self._allowed_targets & (self._places[:-1] != model.not_back_to(key))
        if self._home is not None:
            self._allowed_targets = self._allowed_targets & self._home[snapshot.rules.row[key]]


def concatenate(sizes: list[ClumpSizes]) -> ClumpSizes:
    """Concatenate the rows."""
    load = LoadProfile(*(np.concatenate(parts) for parts in zip(*(s.load.parts() for s in sizes), strict=True)))
    names = (
        "size_bytes",
        "work",
        "co_accesses_inside",
        "co_accesses_source",
        "co_accesses_targets",
        "distance_source",
        "distance_targets",
        "allowed_targets",
    )
    columns = {name: np.concatenate([getattr(s, name) for s in sizes]) for name in names}
    return ClumpSizes(keys=tuple(keys for s in sizes for keys in s.keys), load=load, **columns)


GIBIBYTE = float(2**30)


@dataclass(frozen=True, slots=True)
class Effort:
    """The extent of a search: the number of keys that are tried as ``seeds``, and of seeds that are ``grown`` into clumps."""

    seeds: int = 48
    grown: int = 6


FULL_EFFORT = Effort()


@dataclass(frozen=True, slots=True)
class MoveOption:
    """A move of ``keys`` (the hot key first) to ``target``.

    ``worth`` is the risk removed, less the ``price`` of moves and bytes. ``value`` also includes ``crossing``, the change in
    co-accesses per hour that cross partitions, and ``distance_km``, the change in the mean distance to the readers.
    """

    keys: tuple[int, ...]
    target: int
    price: float
    worth: float
    value: float
    crossing: float
    distance_km: float
    size_bytes: float


@dataclass(frozen=True, slots=True)
class MoveSearch:
    """The best option, or the obstacle: ``limit_reached``, ``nothing_movable``, ``no_target_fits`` or ``gain_too_small``."""

    best: MoveOption | None
    obstacle: str = ""
