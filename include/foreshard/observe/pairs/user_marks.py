"""Marks of the users of a pair of keys: hashes of (key, key, user), so that marks of different pairs can't be linked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import IntArray
from foreshard.observe.pairs.pair_sums import MARK_LIMIT, listed

Coded = tuple[npt.NDArray[Any], IntArray]
"""Names, and codes of them."""


def user_marks(key_a: Coded, key_b: Coded, user: Coded, place: IntArray, pairs: int, number: int) -> list[list[int]]:
    """Return the ``number`` smallest marks of each pair's users, sorted.

    ``key_a`` and ``key_b``: of each of the ``pairs``. ``user`` and ``place`` (its pair): one row per user of a pair.
    """
    if number < 1:
        return [[]] * pairs
    a, b, hashed = (_hashes(names, codes) for names, codes in (key_a, key_b, user))
    pair = (_mixed(a) ^ _mixed(_mixed(b)))[place]
    mark = (_mixed(pair ^ hashed) >> np.uint64(33)).astype(np.int64)
    place, mark = np.divmod(np.sort(place * MARK_LIMIT + mark), MARK_LIMIT)
    _, start, size = np.unique(place, return_index=True, return_counts=True)
    few = np.arange(len(place)) - np.repeat(start, size) < number
    return listed(place[few], mark[few], pairs)


def _hashes(names: npt.NDArray[Any], codes: IntArray) -> npt.NDArray[np.uint64]:
    """Return the hash of each code's name. Each name is hashed once."""
    return pd.util.hash_array(names, categorize=False)[codes] if len(codes) else np.zeros(0, np.uint64)


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Apply the finaliser of splitmix64 (Steele, Lea, Flood 2014): every output bit depends on all input bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
