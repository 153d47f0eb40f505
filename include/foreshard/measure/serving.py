"""Which copy of each key serves which share of its cost: the shared ground of score and plan.

Writes go to the primary and, as apply cost, to each shadow. Reads go to the nearest copy with room, as the sidecar sends them:
copies that are about as near share them evenly, and a partition above its room mark passes the reads of shadowed keys on to the
next nearest copy. Where all copies are above it, they end up about equally full. The allocation is fluid (shares, not
requests), per hour.
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
) -> tuple[LoadProfile, CopyShares]:
    """Allocate the cost of the shadowed keys over their copies, on top of the ``base`` load of all other keys.

    Return the load of all keys together, and how the shadowed ones are shared out; variances scale with the share, as thinned
    counts do. Each (key, origin) asks its nearest copies first, in equal parts. Where a partition's asked load would pass its
    room mark, it takes the same fraction of each and the rest asks the next nearest copy. For what finds no room anywhere the
    mark is raised in steps; what is beyond them all is spread by capacity. Room is judged at the upper quantile.
    ``distance_km`` has shape (locations, partitions), without NaN.
    """
    copies = shadow_copies([(key, p) for key, p in shadows if p != primary[key]])
    keys = np.array(list(copies), np.int64)
    holders = copy_rows([(int(primary[key]), *held_by) for key, held_by in copies.items()])
    load, shares = serve_copies(base, demand.of(keys), holders, capacity, distance_km, rule)
    return load, CopyShares(keys[shares.key], shares.partition, shares.share)


def copy_rows(holders: Sequence[Sequence[int]]) -> IntArray:
    """The partitions with copies of each of n keys, its primary first: (n, most copies), −1 behind them."""
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
    """As :func:`share_reads`, for keys that all have several copies: ``holders`` as of :func:`copy_rows`."""
    row, column = np.nonzero(holders >= 0)
    partition, written = holders[row, column], (1.0 - demand.read_share)[row] * np.where(column == 0, 1.0, rule.apply_cost)
    served = _Served(
        row, partition, summing(partition, len(capacity)), key_profile(demand, slice(None)), capacity,
        base + LoadProfile.zeros(*base.mean.shape), np.repeat(written[:, None], demand.hours, axis=1),
    )  # fmt: skip
    served.add(written)
    if len(holders):
        _serve(_asks(holders, demand, distance_km, rule.near_km), served, rule)
    return served.taken, CopyShares(row, partition, served.share)


@dataclass(frozen=True, slots=True)
class _Served:
    """How far keys of these ``loads`` (keys, hours) are served: each copy's ``key`` row, its ``partition`` and its ``share``
    (copies, hours), and what is ``taken`` of partitions (P, hours); both grow in place.
    """

    key: IntArray
    partition: IntArray
    by_partition: csc_array | FloatArray
    loads: LoadProfile
    capacity: FloatArray
    taken: LoadProfile
    share: FloatArray

    def of(self, hours: IntArray) -> _Served:
        """A copy for these hours only."""
        then = (slice(None), hours)
        return replace(self, loads=self.loads.rows(then), taken=self.taken.rows(then), share=self.share[then])

    def put(self, hours: IntArray, part: _Served) -> None:
        """Take over what was served in these hours."""
        for total, now in zip(self.taken.parts(), part.taken.parts(), strict=True):
            total[:, hours] = now
        self.share[:, hours] = part.share

    def asked(self, share: FloatArray) -> LoadProfile:
        """What ``share`` of its key asked of each copy puts on partitions: the same in every hour (copies), or by hour."""
        if share.ndim == 1:
            keys, partitions = len(self.loads.mean), len(self.capacity)
            cell = self.partition * keys + self.key
            weight = np.bincount(cell, weights=share, minlength=partitions * keys).reshape(partitions, keys)
            return LoadProfile(*(weight @ part for part in self.loads.parts()))
        return LoadProfile(*(self.by_partition @ (share * part[self.key]) for part in self.loads.parts()))

    def add(self, share: FloatArray) -> None:
        """Take all that is asked."""
        for total, part in zip(self.taken.parts(), self.asked(share).parts(), strict=True):
            total += part


@dataclass(frozen=True, slots=True)
class _Asks:
    """One row per (shadowed key, origin, nearest copy): the ``key`` row, in which ``order`` it asks copies (−1: no more), and
    which ``share`` of the key's cost that is.
    """

    key: IntArray
    order: IntArray
    share: FloatArray


def _asks(holders: IntArray, demand: KeyDemand, distance_km: FloatArray, near_km: float) -> _Asks:
    """The read shares to be served; a key of unknown origins asks its primary first."""
    row, place, weight = _read_origins(demand)
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
    key, count = row[again], (holders >= 0).sum(axis=1)
    first = (np.cumsum(count) - count)[key]
    return _Asks(
        key,
        np.where(order < count[key][:, None], first[:, None] + order, -1),
        weight[again] * demand.read_share[key] / near[again],
    )


def _read_origins(demand: KeyDemand) -> tuple[IntArray, IntArray, FloatArray]:
    """(key row, location, share of its reads); the location is −1, with the whole share, where nothing is known."""
    origins = demand.origins
    start, count = origins.indptr[:-1], np.diff(origins.indptr)
    rows = np.maximum(count, 1)
    row = np.repeat(np.arange(len(count)), rows)
    known = count[row] > 0
    position = np.where(known, start[row] + np.arange(len(row)) - np.repeat(np.cumsum(rows) - rows, rows), 0)
    if not known.any():
        return row, np.full(len(row), -1, np.int64), np.ones(len(row))
    return row, np.where(known, origins.location[position], -1), np.where(known, origins.share[position], 1.0)


def _serve(asks: _Asks, served: _Served, rule: ServingRule) -> None:
    """Give ``asks`` to their nearest copies up to the room mark, and only what these have no room for to the others.

    What is asked first is the same share in every hour, so that it can be asked of each copy at once.
    """
    first: FloatArray = np.bincount(asks.order[:, 0], weights=asks.share, minlength=len(served.key)).astype(np.float64)
    fraction = _take(first, served, rule)
    served.share[:] += first[:, None] * fraction[served.partition]
    short = (fraction < 1.0) & np.bincount(served.partition, weights=first, minlength=len(fraction))[:, None].astype(bool)
    hours, target = np.flatnonzero(short.any(axis=0)), served.partition[asks.order[:, 0]]
    if not len(hours):
        return
    rows = np.flatnonzero(short.any(axis=1)[target])
    some = _Asks(asks.key[rows], asks.order[rows], asks.share[rows])
    left, part = some.share[:, None] * (1.0 - fraction[target[rows][:, None], hours]), served.of(hours)
    for turn in range(1, asks.order.shape[1]):
        _serve_turn(turn, some, left, part, rule)
    unserved = summing(some.key, len(part.loads.mean)) @ left
    _serve_beyond(unserved, part, rule)
    held = served.capacity[served.partition]
    even = held / np.bincount(served.key, weights=held)[served.key]
    rest = even[:, None] * unserved[served.key]
    part.add(rest)
    part.share[:] += rest
    served.put(hours, part)


def _serve_turn(turn: int, asks: _Asks, left: FloatArray, served: _Served, rule: ServingRule) -> None:
    """Let each ask what is ``left`` of it (rows, hours) of its copy number ``turn``, the nearest being 0."""
    asking = np.flatnonzero((asks.order[:, turn] >= 0) & left.any(axis=1))
    copy = asks.order[asking, turn]
    by_copy = summing(copy, len(served.key))
    fraction = _take(by_copy @ left[asking], served, rule)
    given = left[asking] * fraction[served.partition[copy]]
    served.share[:] += by_copy @ given
    left[asking] -= given


def _take(share: FloatArray, served: _Served, rule: ServingRule) -> FloatArray:
    """Take as much of the asked ``share`` of each copy as there is room for below the room mark; return which fraction (P,
    hours) that is."""
    taken, asked = served.taken, served.asked(share)
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
    key, target, by_key = here.key, here.partition, summing(here.key, len(left))
    for step in range(1, LEVELS + 1):
        if left.max(initial=0.0) <= _LEAST:
            break
        raised = replace(rule, room_mark=rule.room_mark * LEVEL_STEP**step)
        room = np.maximum(raised.room_mark * here.capacity[:, None] - here.taken.upper(rule), 0.0)[target]
        of_key = (by_key @ room)[key]
        want = left[key] * np.divide(room, of_key, out=np.zeros_like(room), where=of_key > 0)
        given = want * _take(want, here, raised)[target]
        here.share[:] += given
        left = np.maximum(left - by_key @ given, 0.0)
    served.put(hours, here)
    unserved[:, hours] = left


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
    base = unshadowed_load(demand, primary, len(capacity), sorted({key for key, p in shadows if p != primary[key]}))
    return share_reads(base, demand, primary, shadows, capacity, distance_km, rule)
