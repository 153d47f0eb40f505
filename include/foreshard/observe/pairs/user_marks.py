"""Marks of the users of a pair of keys: hashes of (key, key, user), so that marks of different pairs can't be linked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import IntArray
from foreshard.observe.pairs.pair_sums import MARK_LIMIT, listed

_Hashes = npt.NDArray[np.uint64]
_MARK_BITS = MARK_LIMIT.bit_length() - 1
_ROWS_AT_ONCE = 2**15
"""Their numbers stay in the processor's cache."""


def name_hashes(names: Sequence[str]) -> _Hashes:
    """Return the hash of each name."""
    return pd.util.hash_array(np.array(names, dtype=object), categorize=False) if len(names) else np.zeros(0, np.uint64)


def user_marks(key_a: _Hashes, key_b: _Hashes, user: _Hashes, place: IntArray, number: int) -> list[list[int]]:
    """Return the ``number`` smallest marks of each pair's users, sorted.

    ``key_a`` and ``key_b``: the hashes of each pair's keys. ``user`` and ``place`` (its pair): one row per user of a pair.
    """
    if number < 1:
        return [[]] * len(key_a)
    pair = _mixed(key_a) ^ _mixed(_mixed(key_b))
    found = np.empty(len(place), np.int64)
    for start in range(0, len(place), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        marks = _mixed(pair[place[rows]] ^ user[rows]) >> np.uint64(33)
        found[rows] = (place[rows] << _MARK_BITS) | marks.astype(np.int64)
    found.sort()
    starts = np.searchsorted(found, np.arange(len(key_a)) << _MARK_BITS)
    size = np.diff(starts, append=len(found))
    smallest = np.arange(number) + starts[:, None]
    found = found[smallest[np.arange(number) < size[:, None]]]
    return listed(found >> _MARK_BITS, found & (MARK_LIMIT - 1), len(key_a))


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Apply the finaliser of splitmix64 (Steele, Lea, Flood 2014): every output bit depends on all input bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
