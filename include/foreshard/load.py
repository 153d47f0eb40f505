"""Which copy of each key serves which share of its cost, and the load that makes: the shared ground of score and plan.

Writes go to the primary and, as apply cost, to each shadow. Reads go to the nearest copy with room, as the sidecar sends them:
copies that are about as near share them evenly, and a partition above its room mark passes the reads of shadowed keys on to the
next nearest copy. The allocation is fluid (shares, not requests), per hour. Loads are cost/s, forecasts cost per hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array

from foreshard.model import FloatArray

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Index = IntArray | BoolArray | slice | tuple[IntArray | BoolArray | slice | int | None, ...]

SECONDS_PER_HOUR = 3600.0
_UNITS = (SECONDS_PER_HOUR, SECONDS_PER_HOUR**2, SECONDS_PER_HOUR)


@dataclass(frozen=True)
class OriginShares:
    """Where each key's reads come from, as compressed sparse rows.

    Key ``k``'s reads come from ``location[indptr[k]:indptr[k+1]]`` in the shares ``share[indptr[k]:indptr[k+1]]``, which sum
    to 1; a key of unknown origins has an empty row.
    """

    indptr: IntArray
    location: IntArray
    share: FloatArray

    @classmethod
    def build(cls, key: npt.ArrayLike, location: npt.ArrayLike, weight: npt.ArrayLike, keys: int) -> OriginShares:
        """Build from triples (key index, location index, weight); equal pairs are summed, weights ≤ 0 dropped."""
        w = np.asarray(weight, np.float64)
        k, place, w = np.asarray(key, np.int64)[w > 0], np.asarray(location, np.int64)[w > 0], w[w > 0]
        width = int(place.max(initial=-1)) + 1
        pairs, inverse = np.unique(k * max(width, 1) + place, return_inverse=True)
        summed = np.bincount(inverse, weights=w, minlength=len(pairs)).astype(np.float64)
        row, column = pairs // max(width, 1), pairs % max(width, 1)
        total = np.bincount(row, weights=summed, minlength=keys)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=keys))]).astype(np.int64)
        return cls(indptr, column, summed / total[row])

    @classmethod
    def unknown(cls, keys: int) -> OriginShares:
        """Nothing known of any key."""
        return cls(np.zeros(keys + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))

    def of(self, key: int) -> tuple[IntArray, FloatArray]:
        """Return (location indices, shares) of one key."""
        row = slice(int(self.indptr[key]), int(self.indptr[key + 1]))
        return self.location[row], self.share[row]


@dataclass(frozen=True)
class KeyDemand:
    """What each key asks for: ``mean`` and ``sigma`` of cost per hour, shape (keys, hours), and how its reads are spread.

    ``read_share`` is the share of the key's cost that reads make, shape (keys,).
    """

    mean: FloatArray
    sigma: FloatArray
    read_share: FloatArray
    origins: OriginShares

    @property
    def hours(self) -> int:
        """The horizon's length."""
        return int(self.mean.shape[1])


@dataclass(frozen=True, slots=True)
class ServingRule:
    """How loads are judged: the sidecar's room mark, the upper quantile's ``z``, and two factors.

    ``apply_cost``: what applying a write to a shadow costs, as a share of the write's own cost. ``correlation``: of two keys'
    forecast errors, on average. ``near_km``: copies at most this much farther than the nearest count as equally near.
    """

    room_mark: float = 0.8
    z: float = 1.2815515655446004
    apply_cost: float = 1.0
    correlation: float = 0.0
    near_km: float = 15.0


@dataclass(frozen=True)
class LoadProfile:
    """Predicted load per partition × hour (cost/s): ``mean``, and the sums of the keys' variances and standard deviations."""

    mean: FloatArray
    variance: FloatArray
    spread: FloatArray

    @classmethod
    def zeros(cls, partitions: int, hours: int) -> LoadProfile:
        """No load at all."""
        return cls(*(np.zeros((partitions, hours)) for _ in range(3)))

    def __add__(self, other: LoadProfile) -> LoadProfile:
        return LoadProfile(*(mine + its for mine, its in zip(self.parts(), other.parts(), strict=True)))

    def __sub__(self, other: LoadProfile) -> LoadProfile:
        return LoadProfile(*(np.maximum(mine - its, 0.0) for mine, its in zip(self.parts(), other.parts(), strict=True)))

    def rows(self, index: Index) -> LoadProfile:
        """The same figures indexed along their first axis (or newly broadcast)."""
        return LoadProfile(self.mean[index], self.variance[index], self.spread[index])

    def parts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``mean``, ``variance`` and ``spread``, all additive over keys."""
        return self.mean, self.variance, self.spread

    def deviation(self, correlation: float) -> FloatArray:
        """The standard deviation of the load where any two keys' errors have this correlation (a common factor).

        Var Σxᵢ = (1 − ρ) Σσᵢ² + ρ (Σσᵢ)²: uncertainties are added as variances; with ρ = 0 the keys are independent.
        """
        return np.asarray(np.sqrt((1.0 - correlation) * self.variance + correlation * self.spread**2))

    def upper(self, rule: ServingRule) -> FloatArray:
        """The load at the rule's upper quantile."""
        return np.asarray(self.mean + rule.z * self.deviation(rule.correlation))


def key_profile(demand: KeyDemand, keys: IntArray | slice) -> LoadProfile:
    """Return the load of whole keys in cost/s, one row per key."""
    sigma = demand.sigma[keys] / SECONDS_PER_HOUR
    return LoadProfile(demand.mean[keys] / SECONDS_PER_HOUR, sigma**2, sigma)


def sum_by_partition(values: FloatArray, primary: IntArray, partitions: int) -> FloatArray:
    """Sum rows (keys, hours) by their partition; shape (partitions, hours)."""
    member = csc_array((np.ones(len(primary)), primary, np.arange(len(primary) + 1)), shape=(partitions, len(primary)))
    return np.asarray(member @ values)


def whole_key_load(demand: KeyDemand, primary: IntArray, partitions: int, without: Sequence[int] = ()) -> LoadProfile:
    """Return the load of the keys that have one copy only (all but ``without``), each wholly on its primary."""
    kept: BoolArray | slice = slice(None)
    if len(without):
        kept = np.ones(len(primary), bool)
        kept[np.asarray(without, np.int64)] = False
    mean, sigma, where = demand.mean[kept], demand.sigma[kept], primary[kept]
    sums = (sum_by_partition(values, where, partitions) for values in (mean, sigma**2, sigma))
    return LoadProfile(*(total / unit for total, unit in zip(sums, _UNITS, strict=True)))


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
        profile = LoadProfile.zeros(partitions, demand.hours)
        for total, part in zip(profile.parts(), key_profile(demand, self.key).parts(), strict=True):
            np.add.at(total, self.partition, self.share * part)
        return profile


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
    it takes the same fraction of each and the rest asks the next nearest copy. What finds no room anywhere is spread by
    capacity. Room is judged at the upper quantile. ``distance_km`` has shape (locations, partitions), without NaN.
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
    asks = _asks(keys, holders, demand, distance_km, rule.near_km)
    _serve(asks, taken, share, holders, key_profile(demand, keys), capacity, rule)
    even = np.where(held, capacity[holders], 0.0)
    unserved = np.zeros((len(keys), demand.hours))
    np.add.at(unserved, asks.row, asks.left)
    share += (even / even.sum(axis=1, keepdims=True))[:, :, None] * unserved[:, None, :]
    return _as_shares(keys, holders, share)


@dataclass
class _Asks:
    """One row per (shadowed key, origin, nearest copy): which key row asks, in what order of copies, and what is unserved."""

    row: IntArray
    order: IntArray
    left: FloatArray


def _asks(keys: IntArray, holders: IntArray, demand: KeyDemand, distance_km: FloatArray, near_km: float) -> _Asks:
    """The read shares to be served; a key of unknown origins asks its primary first."""
    rows, orders, weights = [], [], []
    for row, key in enumerate(keys.tolist()):
        held, (places, shares) = holders[row][holders[row] >= 0], demand.origins.of(key)
        for place, weight in zip(places, shares, strict=True) if len(places) else [(-1, 1.0)]:
            distance = distance_km[place, held] if place >= 0 else np.where(held == held[0], 0.0, np.inf)
            nearest_first = np.argsort(distance, kind="stable")
            near = nearest_first[: int((distance <= distance.min() + near_km).sum())]
            for first in near:
                order = np.full(holders.shape[1], -1, np.int64)
                order[: len(held)] = [first, *nearest_first[nearest_first != first]]
                rows.append(row)
                orders.append(order)
                weights.append(weight * demand.read_share[key] / len(near))
    left = np.repeat(np.array(weights, np.float64)[:, None], demand.hours, axis=1)
    return _Asks(np.array(rows, np.int64), np.array(orders, np.int64).reshape(len(rows), holders.shape[1]), left)


def _serve(
    asks: _Asks,
    taken: LoadProfile,
    share: FloatArray,
    holders: IntArray,
    loads: LoadProfile,
    capacity: FloatArray,
    rule: ServingRule,
) -> None:
    """Give ``asks`` for keys of these ``loads`` to copies in rounds, nearest first; ``share`` and ``taken`` grow in place."""
    mark = (rule.room_mark * capacity)[:, None]
    for turn in range(holders.shape[1]):
        asking = np.flatnonzero(asks.order[:, turn] >= 0)
        row, copy = asks.row[asking], asks.order[asking, turn]
        target = holders[row, copy]
        asked = LoadProfile.zeros(len(capacity), share.shape[2])
        for total, part in zip(asked.parts(), loads.rows(row).parts(), strict=True):
            np.add.at(total, target, asks.left[asking] * part)
        room = mark - LoadProfile(taken.mean, taken.variance + asked.variance, taken.spread + asked.spread).upper(rule)
        with np.errstate(divide="ignore", invalid="ignore"):
            fraction = np.where(asked.mean > 0, np.clip(room / asked.mean, 0.0, 1.0), np.where(room > 0, 1.0, 0.0))
        for total, part in zip(taken.parts(), asked.parts(), strict=True):
            total += fraction * part
        np.add.at(share, (row, copy), asks.left[asking] * fraction[target])
        asks.left[asking] *= 1.0 - fraction[target]


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


def load_prediction_scores(profile: LoadProfile, capacity: FloatArray, rule: ServingRule) -> FloatArray:
    """LPS per partition: the horizon's peak of the upper-quantile load ÷ capacity, shape (partitions,)."""
    return np.asarray((profile.upper(rule) / capacity[:, None]).max(axis=1, initial=0.0))
