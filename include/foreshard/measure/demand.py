"""The demand of keys, and the load of partitions from keys with a single copy.

Loads are in cost/s, forecasts in cost per hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array

from foreshard.measure.distance import MS_PER_KM, NEAR_EQUAL_MS
from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray

Index = IntArray | BoolArray | slice | tuple[IntArray | BoolArray | slice | int | None, ...]

_DENSE_CODES, _DENSE_PER_ROW = 65_536, 8
"""Up to this many codes, or codes per row, sums use a dense array instead of sorting."""
_DENSE_ELEMENTS = 4096
"""Up to this many elements a matrix is dense."""
_UNITS = (SECONDS_PER_HOUR, SECONDS_PER_HOUR**2, SECONDS_PER_HOUR)


@dataclass(frozen=True)
class OriginShares:
    """The origins of each key's reads, as compressed sparse rows.

    The reads of key ``k`` come from ``location[indptr[k]:indptr[k+1]]`` with the shares ``share[indptr[k]:indptr[k+1]]``, which
    sum to 1. A key with unknown origins has an empty row.
    """

    indptr: IntArray
    location: IntArray
    share: FloatArray

    @classmethod
    def build(cls, key: npt.ArrayLike, location: npt.ArrayLike, weight: npt.ArrayLike, keys: int) -> OriginShares:
        """Build from triples (key index, location index, weight). Equal pairs are summed; weights ≤ 0 are dropped."""
        k, place, w = np.asarray(key, np.int64), np.asarray(location, np.int64), np.asarray(weight, np.float64)
        counted = w > 0
        if not counted.all():
            k, place, w = k[counted], place[counted], w[counted]
        width = max(int(place.max(initial=-1)) + 1, 1)
        pairs, summed = _summed(k * width + place, w, keys * width)
        row, column = pairs // width, pairs % width
        total = np.bincount(row, weights=summed, minlength=keys)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=keys))]).astype(np.int64)
        return cls(indptr, column, summed / total[row])

    @classmethod
    def unknown(cls, keys: int) -> OriginShares:
        """Unknown origins for all keys."""
        return cls(np.zeros(keys + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))

    def of(self, key: int) -> tuple[IntArray, FloatArray]:
        """Return (location indices, shares) of one key."""
        row = slice(int(self.indptr[key]), int(self.indptr[key + 1]))
        return self.location[row], self.share[row]

    def rows(self, keys: IntArray) -> OriginShares:
        """Return the origins of these keys only."""
        row, at = row_entries(self.indptr, keys)
        return OriginShares(np.searchsorted(row, np.arange(len(keys) + 1)), self.location[at], self.share[at])


@dataclass(frozen=True)
class KeyDemand:
    """The demand of each key: ``mean`` and ``sigma`` of its cost per hour (keys, hours), and the origins of its reads.

    ``read_share`` (keys,) is the share of reads in the key's cost.
    """

    mean: FloatArray
    sigma: FloatArray
    read_share: FloatArray
    origins: OriginShares

    @property
    def hours(self) -> int:
        """The horizon's length."""
        return int(self.mean.shape[1])

    def of(self, keys: IntArray) -> KeyDemand:
        """Return the demand of these keys (at least one) only."""
        return KeyDemand(self.mean[keys], self.sigma[keys], self.read_share[keys], self.origins.rows(keys))


def _summed(code: IntArray, weight: FloatArray, codes: int) -> tuple[IntArray, FloatArray]:
    """Return the distinct codes (below ``codes``) in order, and the sums of their weights (> 0)."""
    if codes <= max(_DENSE_CODES, _DENSE_PER_ROW * len(code)):
        total = np.bincount(code, weights=weight, minlength=codes).astype(np.float64)
        found = np.flatnonzero(total)
        return found, total[found]
    found, at = np.unique(code, return_inverse=True)
    return found, np.bincount(at, weights=weight, minlength=len(found)).astype(np.float64)


def row_entries(indptr: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Return the entries of ``rows`` of a compressed sparse matrix: each entry's index into ``rows``, and its position."""
    counts = indptr[rows + 1] - indptr[rows]
    row = np.repeat(np.arange(len(rows)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(indptr[rows], counts)


@dataclass(frozen=True, slots=True)
class ServingRule:
    """How reads are shared and loads are judged.

    ``room_mark``: the sidecar's room mark. ``z``: of the upper quantile. ``apply_cost``: the cost of applying a write to a
    shadow, as a share of the write's cost. ``correlation``: the mean correlation of two keys' forecast errors. ``near_km``:
    copies at most this much farther than the nearest count as equally near.
    """

    room_mark: float
    apply_cost: float
    z: float = 1.2815515655446004
    correlation: float = 0.0
    near_km: float = NEAR_EQUAL_MS / MS_PER_KM


@dataclass(frozen=True)
class LoadProfile:
    """Predicted load in cost/s (partitions, hours): ``mean``, and the sums of the keys' variances and standard deviations."""

    mean: FloatArray
    variance: FloatArray
    spread: FloatArray

    @classmethod
    def zeros(cls, partitions: int, hours: int) -> LoadProfile:
        """No load."""
        return cls(*(np.zeros((partitions, hours)) for _ in range(3)))

    def __add__(self, other: LoadProfile) -> LoadProfile:
        return LoadProfile(*(mine + its for mine, its in zip(self.parts(), other.parts(), strict=True)))

    def __sub__(self, other: LoadProfile) -> LoadProfile:
        return LoadProfile(*(np.maximum(mine - its, 0.0) for mine, its in zip(self.parts(), other.parts(), strict=True)))

    def rows(self, index: Index) -> LoadProfile:
        """Return the figures indexed by ``index``."""
        return LoadProfile(self.mean[index], self.variance[index], self.spread[index])

    def parts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``mean``, ``variance`` and ``spread``, all additive over keys."""
        return self.mean, self.variance, self.spread

    def deviation(self, correlation: float) -> FloatArray:
        """Return the standard deviation of the load if any two keys' errors have this correlation.

        Var Σxᵢ = (1 − ρ) Σσᵢ² + ρ (Σσᵢ)². With ρ = 0 the keys are independent.
        """
        return np.asarray(np.sqrt((1.0 - correlation) * self.variance + correlation * self.spread**2))

    def upper(self, rule: ServingRule) -> FloatArray:
        """Return the load at the rule's upper quantile."""
        return np.asarray(self.mean + rule.z * self.deviation(rule.correlation))


def key_profile(demand: KeyDemand, keys: IntArray | slice) -> LoadProfile:
    """Return the whole load of keys in cost/s, one row per key."""
    sigma = demand.sigma[keys] / SECONDS_PER_HOUR
    return LoadProfile(demand.mean[keys] / SECONDS_PER_HOUR, sigma**2, sigma)


def summing(group: IntArray, groups: int, weight: FloatArray | None = None) -> csc_array | FloatArray:
    """Return the matrix (groups, rows) that sums rows by their ``group`` (rows), with ``weight`` (rows).

    It is sparse unless it is small; a small dense matrix is faster.
    """
    each = np.ones(len(group)) if weight is None else weight
    if groups * len(group) <= _DENSE_ELEMENTS:
        dense = np.zeros((groups, len(group)))
        dense[group, np.arange(len(group))] = each
        return dense
    return csc_array((each, group, np.arange(len(group) + 1)), shape=(groups, len(group)))


def sum_by_partition(values: FloatArray, primary: IntArray, partitions: int) -> FloatArray:
    """Sum rows (keys, hours) by their partition; shape (partitions, hours)."""
    return np.asarray(summing(primary, partitions) @ values)


def unshadowed_load(demand: KeyDemand, primary: IntArray, partitions: int, without: Sequence[int] = ()) -> LoadProfile:
    """Return the load of the keys without shadows, which are all but ``without``, by primary partition."""
    by_partition = summing(primary, partitions, unshadowed_weights(len(primary), without))
    parts = zip((demand.mean, demand.sigma**2, demand.sigma), _UNITS, strict=True)
    return LoadProfile(*(by_partition @ values / unit for values, unit in parts))


def unshadowed_weights(keys: int, without: Sequence[int]) -> FloatArray:
    """Return 1 for keys without shadows and 0 for the keys ``without`` (K)."""
    weight = np.ones(keys)
    weight[np.asarray(without, np.int64)] = 0.0
    return weight
