"""Which copy of each key serves which share of its cost: the shared ground of score and plan.

Writes go to the primary and, as apply cost, to each shadow. Reads go to the nearest copy with room, as the sidecar sends them:
copies that are about as near share them evenly, and a partition above its room mark passes the reads of shadowed keys on to the
next nearest copy. Where all copies are above it, they end up about equally full. The allocation is fluid (shares, not
requests), per hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foreshard.load.demand import IntArray, KeyDemand, LoadProfile, ServingRule, key_profile, summing, whole_key_load
from foreshard.model import FloatArray

LEVEL_STEP = 1.1
LEVELS = 6
"""The room mark is raised by so much, so many times, for reads whose copies are all above it."""
_LEAST = 1e-12
"""A smaller share of a key is too little to look for room for."""


@dataclass(frozen=True)
class CopyShares:
    """How the cost of keys with several copies is served: row ``r`` is the ``share[r]`` of ``key[r]`` on ``partition[r]``.

    ``share`` has shape (rows, hours). A key's shares sum to 1 + its shadows × its write share × apply cost.
    """

    key: IntArray
    partition: IntArray
    share: FloatArray

    def load(self, demand: KeyDemand, partitions: int) -> LoadProfile:
        """Return what these shares put on each partition. Variances scale with the share, as thinned counts do."""
        by_partition = summing(self.partition, partitions)
        return LoadProfile(*(by_partition @ (self.share * part) for part in key_profile(demand, self.key).parts()))


def shadow_copies(shadows: Sequence[tuple[int, int]]) -> dict[int, tuple[int, ...]]:
    """Group (key, partition) pairs: each shadowed key with its shadows' partitions, both in order, repetitions dropped."""
    grouped: dict[int, list[int]] = {}
    for key, partition in sorted(set(shadows)):
        grouped.setdefault(key, []).append(partition)
    return {key: tuple(held) for key, held in grouped.items()}


def share_reads(
    base: LoadProfile,
    demand: KeyDemand,
    primary: IntArray,
    shadows: Sequence[tuple[int, int]],
    capacity: FloatArray,
    distance_km: FloatArray,
    rule: ServingRule,
) -> CopyShares:
    """Allocate the cost of the shadowed keys over their copies, on top of the ``base`` load of all other keys.

    Each (key, origin) asks its nearest copies first, in equal parts. Where a partition's asked load would pass its room mark,
    it takes the same fraction of each and the rest asks the next nearest copy. For what finds no room anywhere the mark is
    raised in steps; what is beyond them all is spread by capacity. Room is judged at the upper quantile. ``distance_km`` has
    shape (locations, partitions), without NaN.
    """
    copies = shadow_copies([(key, p) for key, p in shadows if p != primary[key]])
    keys, width = np.array(list(copies), np.int64), 1 + max(map(len, copies.values()), default=0)
    holders = np.full((len(keys), width), -1, np.int64)
    for row, (key, held_by) in enumerate(copies.items()):
        holders[row, : 1 + len(held_by)] = (primary[key], *held_by)
    held, writes = holders >= 0, 1.0 - demand.read_share[keys]
    written = np.where(held, writes[:, None] * np.where(np.arange(width) == 0, 1.0, rule.apply_cost), 0.0)
    share = np.repeat(written[:, :, None], demand.hours, axis=2)
    taken = base + _as_shares(keys, holders, share).load(demand, len(capacity))
    served = _Served(holders, key_profile(demand, keys), capacity, taken, share)
    asks = _asks(keys, holders, demand, distance_km, rule.near_km)
    _serve(asks, served, rule)
    unserved = summing(asks.row, len(keys)) @ asks.left
    _serve_beyond(unserved, served, rule)
    even = np.where(held, capacity[holders], 0.0)
    share += (even / even.sum(axis=1, keepdims=True))[:, :, None] * unserved[:, None, :]
    return _as_shares(keys, holders, share)


@dataclass(frozen=True, slots=True)
class _Served:
    """How far keys of these ``loads`` are served: the ``share`` of each one's copies (keys, copies, hours), which are on the
    partitions ``holders`` (keys, copies; −1: none), and what is ``taken`` of partitions; both grow in place.
    """

    holders: IntArray
    loads: LoadProfile
    capacity: FloatArray
    taken: LoadProfile
    share: FloatArray

    def of(self, hours: IntArray) -> _Served:
        """A copy for these hours only."""
        then = (slice(None), hours)
        return replace(self, loads=self.loads.rows(then), taken=self.taken.rows(then), share=self.share[:, :, hours])

    def put(self, hours: IntArray, part: _Served) -> None:
        """Take over what was served in these hours."""
        for total, now in zip(self.taken.parts(), part.taken.parts(), strict=True):
            total[:, hours] = now
        self.share[:, :, hours] = part.share


@dataclass
class _Asks:
    """One row per (shadowed key, origin, nearest copy): which key row asks, in what order of copies, and what is unserved."""

    row: IntArray
    order: IntArray
    left: FloatArray


def _asks(keys: IntArray, holders: IntArray, demand: KeyDemand, distance_km: FloatArray, near_km: float) -> _Asks:
    """The read shares to be served; a key of unknown origins asks its primary first."""
    row, place, weight = _read_origins(keys, demand)
    held = holders[row] >= 0
    located = np.where(held, distance_km[np.maximum(place, 0)[:, None], holders[row]] if len(distance_km) else 0.0, np.inf)
    at_primary = np.where(np.arange(holders.shape[1]) == 0, 0.0, np.inf)
    distance = np.where((place >= 0)[:, None], located, at_primary)
    nearest_first = np.argsort(distance, axis=1, kind="stable")
    near = (distance <= distance.min(axis=1, keepdims=True) + near_km).sum(axis=1)
    again = np.repeat(np.arange(len(row)), near)
    turn = (np.arange(len(again)) - np.repeat(np.cumsum(near) - near, near))[:, None]
    column = np.arange(holders.shape[1])[None]
    moved_up = np.where(column == 0, turn, np.where(column <= turn, column - 1, column))
    order = np.take_along_axis(nearest_first[again], moved_up, axis=1)
    order[np.take_along_axis(holders[row[again]], order, axis=1) < 0] = -1
    share = weight[again] * demand.read_share[keys[row[again]]] / near[again]
    return _Asks(row[again], order, np.repeat(share[:, None], demand.hours, axis=1))


def _read_origins(keys: IntArray, demand: KeyDemand) -> tuple[IntArray, IntArray, FloatArray]:
    """(key row, location, share of its reads); the location is −1, with the whole share, where nothing is known."""
    origins = demand.origins
    start, count = origins.indptr[keys], origins.indptr[keys + 1] - origins.indptr[keys]
    rows = np.maximum(count, 1)
    row = np.repeat(np.arange(len(keys)), rows)
    known = count[row] > 0
    position = np.where(known, start[row] + np.arange(len(row)) - np.repeat(np.cumsum(rows) - rows, rows), 0)
    if not known.any():
        return row, np.full(len(row), -1, np.int64), np.ones(len(row))
    return row, np.where(known, origins.location[position], -1), np.where(known, origins.share[position], 1.0)


def _serve(asks: _Asks, served: _Served, rule: ServingRule) -> None:
    """Give ``asks`` to copies in rounds, nearest first, up to the room mark; ``served`` and ``asks.left`` follow in place."""
    _serve_turn(0, asks, served, rule)
    for turn in range(1, served.holders.shape[1]):
        hours = np.flatnonzero(asks.left.any(axis=0))
        if not len(hours):
            return
        some, part = _Asks(asks.row, asks.order, asks.left[:, hours]), served.of(hours)
        _serve_turn(turn, some, part, rule)
        served.put(hours, part)
        asks.left[:, hours] = some.left


def _serve_turn(turn: int, asks: _Asks, served: _Served, rule: ServingRule) -> None:
    """Let each ask its copy number ``turn``, the nearest being 0."""
    holders, share = served.holders, served.share
    asking = np.flatnonzero(asks.order[:, turn] >= 0)
    row, copy, left = asks.row[asking], asks.order[asking, turn], asks.left[asking]
    target = holders[row, copy]
    by_partition = summing(target, len(served.capacity))
    asked = LoadProfile(*(by_partition @ (left * part) for part in served.loads.rows(row).parts()))
    given = left * _take(asked, served, rule)[target]
    share += (summing(row * holders.shape[1] + copy, holders.size) @ given).reshape(share.shape)
    asks.left[asking] = left - given


def _take(asked: LoadProfile, served: _Served, rule: ServingRule) -> FloatArray:
    """Take as much of the asked load (P, hours) as there is room for below the room mark; return which fraction that is."""
    taken = served.taken
    full = LoadProfile(taken.mean, taken.variance + asked.variance, taken.spread + asked.spread).upper(rule)
    room = rule.room_mark * served.capacity[:, None] - full
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(asked.mean > 0, np.clip(room / asked.mean, 0.0, 1.0), np.where(room > 0, 1.0, 0.0))
    for total, part in zip(taken.parts(), asked.parts(), strict=True):
        total += fraction * part
    return np.asarray(fraction)


def _serve_beyond(unserved: FloatArray, served: _Served, rule: ServingRule) -> None:
    """Raise the mark step by step for what found no room (keys, hours), so that overloaded copies end up equally full.

    In each step a key asks all of its copies, in proportion to their room up to the raised mark, near or far: where all are
    overloaded, the sidecar's draw evens them out.
    """
    hours = np.flatnonzero(unserved.max(axis=0, initial=0.0) > _LEAST)
    left, here = unserved[:, hours], served.of(hours)
    keys, copies = np.nonzero(here.holders >= 0)
    target, parts = here.holders[keys, copies], here.loads.rows(keys).parts()
    by_partition, by_key = summing(target, len(here.capacity)), summing(keys, len(left))
    for step in range(1, LEVELS + 1):
        if left.max(initial=0.0) <= _LEAST:
            break
        raised = replace(rule, room_mark=rule.room_mark * LEVEL_STEP**step)
        room = np.maximum(raised.room_mark * here.capacity[:, None] - here.taken.upper(rule), 0.0)[target]
        of_key = (by_key @ room)[keys]
        want = left[keys] * np.divide(room, of_key, out=np.zeros_like(room), where=of_key > 0)
        given = want * _take(LoadProfile(*(by_partition @ (want * part) for part in parts)), here, raised)[target]
        here.share[keys, copies] += given
        left = np.maximum(left - by_key @ given, 0.0)
    served.put(hours, here)
    unserved[:, hours] = left


def _as_shares(keys: IntArray, holders: IntArray, share: FloatArray) -> CopyShares:
    """Flatten (key row, copy) shares to rows."""
    row, copy = np.nonzero(holders >= 0)
    return CopyShares(keys[row], holders[row, copy], share[row, copy])


def partition_load(
    demand: KeyDemand,
    primary: IntArray,
    shadows: Sequence[tuple[int, int]],
    capacity: FloatArray,
    distance_km: FloatArray,
    rule: ServingRule,
) -> tuple[LoadProfile, CopyShares]:
    """Return the load of every partition and hour, and how the shadowed keys are shared out.

    ``primary`` holds each key's partition index, ``shadows`` (key, partition) index pairs.
    """
    base = whole_key_load(demand, primary, len(capacity), sorted({key for key, p in shadows if p != primary[key]}))
    shares = share_reads(base, demand, primary, shadows, capacity, distance_km, rule)
    return base + shares.load(demand, len(capacity)), shares
