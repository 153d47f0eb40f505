"""How the cost of each key is shared among its copies; used by scoring, planning and the lab.

Writes go to the primary copy and, as apply cost, to each shadow. Reads go to the nearest copy with room, as in the sidecar:
equally near copies share the reads evenly, and a partition above its room mark passes reads of shadowed keys on to the next
nearest copy. If all copies are above the mark, they end up about equally full. The allocation is fluid (shares, not requests)
and made for each hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from scipy.sparse import csc_array

from foreshard.measure.demand import KeyDemand, LoadProfile, ServingRule, key_profile, summing, unshadowed_load
from foreshard.model import FloatArray, IntArray

LEVEL_STEP = 1.1
LEVELS = 6
"""When every copy is above the room mark, the mark is multiplied by ``LEVEL_STEP``, up to ``LEVELS`` times."""
_LEAST_SHARE = 1e-12
"""Unallocated shares of a key below this are ignored."""


@dataclass(frozen=True)
class CopyShares:
    """The allocation of keys with several copies: row ``r`` is the ``share[r]`` of ``key[r]`` on ``partition[r]``.

    ``share`` has shape (rows, hours). A key's shares sum to 1 + number of shadows × write share × apply cost.
    """

    key: IntArray
    partition: IntArray
    share: FloatArray


def shadow_copies(shadows: Sequence[tuple[int, int]]) -> dict[int, tuple[int, ...]]:
    """Group (key, partition) pairs by key: sorted keys with sorted partitions, without repetitions."""
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
) -> tuple[LoadProfile, CopyShares]:
    """Allocate the cost of the shadowed keys to their copies, on top of the ``base`` load of all other keys.

    Return the load of all keys, and the shares of the shadowed keys. Variances scale with the share, as for thinned counts.
    Each (key, origin) first requests its nearest copies, in equal parts. If the requests would exceed a partition's room mark,
    it takes the same fraction of each, and the rest requests the next nearest copy. For reads without room anywhere the mark
    is raised in steps; reads beyond the last step are spread by capacity. Room is judged at the upper quantile.
    ``distance_km`` has shape (locations, partitions), without NaN.
    """
    copies = shadow_copies([(key, p) for key, p in shadows if p != primary[key]])
    keys = np.array(list(copies), np.int64)
    holders = copy_rows([(int(primary[key]), *held_by) for key, held_by in copies.items()])
    load, shares = serve_copies(base, demand.of(keys), holders, capacity, distance_km, rule)
    return load, CopyShares(keys[shares.key], shares.partition, shares.share)


def copy_rows(holders: Sequence[Sequence[int]]) -> IntArray:
    """Return the partitions of each key's copies, the primary copy first, padded with −1: (keys, most copies)."""
    counts = np.fromiter(map(len, holders), np.int64, len(holders))
    rows = np.full((len(holders), int(counts.max(initial=1))), -1, np.int64)
    rows[np.arange(rows.shape[1]) < counts[:, None]] = np.fromiter(chain.from_iterable(holders), np.int64, int(counts.sum()))
    return rows


def serve_copies(
    base: LoadProfile,
    demand: KeyDemand,
    holders: IntArray,
    capacity: FloatArray,
    distance_km: FloatArray,
    rule: ServingRule,
) -> tuple[LoadProfile, CopyShares]:
    """Like :func:`share_reads`, for keys that all have shadows. ``holders`` is the result of :func:`copy_rows`."""
    row, column = np.nonzero(holders >= 0)
    partition, written = holders[row, column], (1.0 - demand.read_share)[row] * np.where(column == 0, 1.0, rule.apply_cost)
    allocation = _Allocation(
        row, partition, summing(partition, len(capacity)), key_profile(demand, slice(None)), capacity,
        base + LoadProfile.zeros(*base.mean.shape), np.repeat(written[:, None], demand.hours, axis=1),
    )  # fmt: skip
    allocation.add(written)
    if len(holders):
        _allocate(_read_requests(holders, demand, distance_km, rule.near_km), allocation, rule)
    return allocation.load, CopyShares(row, partition, allocation.share)


@dataclass(frozen=True, slots=True)
class _Allocation:
    """The allocation so far of keys with ``loads`` (keys, hours).

    Each copy has a ``key`` row, a ``partition`` and a ``share`` (copies, hours). ``load`` is the load of the partitions (P,
    hours). ``share`` and ``load`` grow in place.
    """

    key: IntArray
    partition: IntArray
    by_partition: csc_array | FloatArray
    loads: LoadProfile
    capacity: FloatArray
    load: LoadProfile
    share: FloatArray

    def of(self, hours: IntArray) -> _Allocation:
        """Return the allocation of these hours only, copied."""
        then = (slice(None), hours)
        return replace(self, loads=self.loads.rows(then), load=self.load.rows(then), share=self.share[then])

    def put_back(self, hours: IntArray, part: _Allocation) -> None:
        """Store the allocation of these hours."""
        for total, now in zip(self.load.parts(), part.load.parts(), strict=True):
            total[:, hours] = now
        self.share[:, hours] = part.share

    def load_of(self, share: FloatArray) -> LoadProfile:
        """Return the load on partitions if each copy takes ``share`` of its key: (copies,), or (copies, hours)."""
        if share.ndim == 1:
            keys, partitions = len(self.loads.mean), len(self.capacity)
            cell = self.partition * keys + self.key
            weight = np.bincount(cell, weights=share, minlength=partitions * keys).reshape(partitions, keys)
            return LoadProfile(*(weight @ part for part in self.loads.parts()))
        return LoadProfile(*(self.by_partition @ (share * part[self.key]) for part in self.loads.parts()))

    def add(self, share: FloatArray) -> None:
        """Add the whole ``share`` of each copy to the load."""
        for total, part in zip(self.load.parts(), self.load_of(share).parts(), strict=True):
            total += part


@dataclass(frozen=True, slots=True)
class _ReadRequests:
    """One row per (shadowed key, origin, nearest copy): the ``key`` row, the ``order`` in which it requests copies (−1: no
    more), and its ``share`` of the key's cost.
    """

    key: IntArray
    order: IntArray
    share: FloatArray


def _read_requests(holders: IntArray, demand: KeyDemand, distance_km: FloatArray, near_km: float) -> _ReadRequests:
    """Return the read requests. A key with unknown origins requests its primary copy first."""
    row, place, weight = _read_origins(demand)
    held = holders[row] >= 0
    located = np.where(held, distance_km[np.maximum(place, 0)[:, None], holders[row]] if len(distance_km) else 0.0, np.inf)
    at_primary = np.where(np.arange(holders.shape[1]) == 0, 0.0, np.inf)
    distance = np.where((place >= 0)[:, None], located, at_primary)
    nearest_first = np.argsort(distance, axis=1, kind="stable")
    near = (distance <= distance.min(axis=1, keepdims=True) + near_km).sum(axis=1)
    repeated = np.repeat(np.arange(len(row)), near)
    turn = (np.arange(len(repeated)) - np.repeat(np.cumsum(near) - near, near))[:, None]
    column = np.arange(holders.shape[1])[None]
    moved_up = np.where(column == 0, turn, np.where(column <= turn, column - 1, column))
    order = np.take_along_axis(nearest_first[repeated], moved_up, axis=1)
    key, count = row[repeated], (holders >= 0).sum(axis=1)
    first = (np.cumsum(count) - count)[key]
    return _ReadRequests(
        key,
        np.where(order < count[key][:, None], first[:, None] + order, -1),
        weight[repeated] * demand.read_share[key] / near[repeated],
    )


def _read_origins(demand: KeyDemand) -> tuple[IntArray, IntArray, FloatArray]:
    """Return (key row, location, share of its reads). A key with unknown origins has one row with location −1."""
    origins = demand.origins
    start, count = origins.indptr[:-1], np.diff(origins.indptr)
    rows = np.maximum(count, 1)
    row = np.repeat(np.arange(len(count)), rows)
    known = count[row] > 0
    position = np.where(known, start[row] + np.arange(len(row)) - np.repeat(np.cumsum(rows) - rows, rows), 0)
    if not known.any():
        return row, np.full(len(row), -1, np.int64), np.ones(len(row))
    return row, np.where(known, origins.location[position], -1), np.where(known, origins.share[position], 1.0)


def _allocate(requests: _ReadRequests, allocation: _Allocation, rule: ServingRule) -> None:
    """Allocate ``requests`` to their nearest copies up to the room mark, and the rest to the other copies.

    The first requests are the same share in every hour, so each copy is asked for all hours at once.
    """
    first: FloatArray = np.bincount(requests.order[:, 0], weights=requests.share, minlength=len(allocation.key)).astype(
        np.float64
    )
    fraction = _take(first, allocation, rule)
    allocation.share[:] += first[:, None] * fraction[allocation.partition]
    short = (fraction < 1.0) & np.bincount(allocation.partition, weights=first, minlength=len(fraction))[:, None].astype(bool)
    hours, target = np.flatnonzero(short.any(axis=0)), allocation.partition[requests.order[:, 0]]
    if not len(hours):
        return
    rows = np.flatnonzero(short.any(axis=1)[target])
    some = _ReadRequests(requests.key[rows], requests.order[rows], requests.share[rows])
    left, part = some.share[:, None] * (1.0 - fraction[target[rows][:, None], hours]), allocation.of(hours)
    for turn in range(1, requests.order.shape[1]):
        _allocate_turn(turn, some, left, part, rule)
    unserved = summing(some.key, len(part.loads.mean)) @ left
    _allocate_beyond_marks(unserved, part, rule)
    held = allocation.capacity[allocation.partition]
    even = held / np.bincount(allocation.key, weights=held)[allocation.key]
    rest = even[:, None] * unserved[allocation.key]
    part.add(rest)
    part.share[:] += rest
    allocation.put_back(hours, part)


def _allocate_turn(turn: int, requests: _ReadRequests, left: FloatArray, allocation: _Allocation, rule: ServingRule) -> None:
    """Allocate what is ``left`` (rows, hours) to each request's copy number ``turn``, where 0 is the nearest."""
    asking = np.flatnonzero((requests.order[:, turn] >= 0) & left.any(axis=1))
    copy = requests.order[asking, turn]
    by_copy = summing(copy, len(allocation.key))
    fraction = _take(by_copy @ left[asking], allocation, rule)
    given = left[asking] * fraction[allocation.partition[copy]]
    allocation.share[:] += by_copy @ given
    left[asking] -= given


def _take(share: FloatArray, allocation: _Allocation, rule: ServingRule) -> FloatArray:
    """Add the part of each copy's ``share`` that fits below the room mark. Return that fraction (P, hours)."""
    load, load_of = allocation.load, allocation.load_of(share)
    full = LoadProfile(load.mean, load.variance + load_of.variance, load.spread + load_of.spread).upper(rule)
    room = rule.room_mark * allocation.capacity[:, None] - full
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(load_of.mean > 0, np.clip(room / load_of.mean, 0.0, 1.0), np.where(room > 0, 1.0, 0.0))
    for total, part in zip(load.parts(), load_of.parts(), strict=True):
        total += fraction * part
    return np.asarray(fraction)


def _allocate_beyond_marks(unserved: FloatArray, allocation: _Allocation, rule: ServingRule) -> None:
    """Allocate shares without room (keys, hours) by raising the mark in steps, so that overloaded copies end up equally full.

    In each step a key requests all its copies, near or far, in proportion to their room below the raised mark. The sidecar's
    weighted draw has the same effect.
    """
    hours = np.flatnonzero(unserved.max(axis=0, initial=0.0) > _LEAST_SHARE)
    left, here = unserved[:, hours], allocation.of(hours)
    key, target, by_key = here.key, here.partition, summing(here.key, len(left))
    for step in range(1, LEVELS + 1):
        if left.max(initial=0.0) <= _LEAST_SHARE:
            break
        raised = replace(rule, room_mark=rule.room_mark * LEVEL_STEP**step)
        room = np.maximum(raised.room_mark * here.capacity[:, None] - here.load.upper(rule), 0.0)[target]
        of_key = (by_key @ room)[key]
        wanted = left[key] * np.divide(room, of_key, out=np.zeros_like(room), where=of_key > 0)
        given = wanted * _take(wanted, here, raised)[target]
        here.share[:] += given
        left = np.maximum(left - by_key @ given, 0.0)
    allocation.put_back(hours, here)
    unserved[:, hours] = left


def partition_load(
    demand: KeyDemand,
    primary: IntArray,
    shadows: Sequence[tuple[int, int]],
    capacity: FloatArray,
    distance_km: FloatArray,
    rule: ServingRule,
) -> tuple[LoadProfile, CopyShares]:
    """Return the load of every partition and hour, and the shares of the shadowed keys.

    ``primary`` holds each key's partition index, ``shadows`` (key, partition) index pairs.
    """
    base = unshadowed_load(demand, primary, len(capacity), sorted({key for key, p in shadows if p != primary[key]}))
    return share_reads(base, demand, primary, shadows, capacity, distance_km, rule)
