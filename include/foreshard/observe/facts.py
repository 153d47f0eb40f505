"""Finds the facts by which an hour is compared with other hours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from foreshard.model import HourFacts
from foreshard.observe.factorising import codes_of, only_codes

SKETCH = 64
"""Hashes in a sketch. The share that two sketches have in common is right to about 6 points at a half."""

_LOWEST = 4096
"""The lowest hashes are looked at, with all records that share them."""
_DISTINCT = 20
"""Of so many different records, not all are repeated equally often by chance."""
_MINUTE = 60_000_000
_ROWS_AT_ONCE = 4_000_000
"""Records that are hashed at once. Each takes about 50 bytes meanwhile."""
_TEXTS = ("partitionable_key", "location", "request_type", "user_id")


def facts_of(batches: Iterable[pa.Table], hour: datetime, weights: Mapping[str, float], source: str) -> HourFacts:
    """Return the facts of clean records: ``batches`` have ``timestamp`` and ``TALLIED``, texts as dictionaries."""
    start = np.int64(pd.Timestamp(hour).value // 1000)
    lowest, minutes = np.zeros(0, np.uint64), np.zeros(60, np.int64)
    costs, records, with_user = [0.0], 0, 0
    for batch in batches:
        offset = batch.column("timestamp").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy() - start
        cost = batch.column("cost").to_numpy()
        kinds, names = codes_of(batch.column("request_type"))
        weight = np.array([weights.get(str(name), 0.0) for name in names] or [0.0])
        costs.append(float(np.where(np.isnan(cost), weight[kinds] if len(kinds) else 0.0, cost).sum()))
        with_user += int((only_codes(batch.column("user_id")) >= 0).sum())
        minutes += np.bincount(np.clip(offset // _MINUTE, 0, 59), minlength=60)
        lowest = _lowest(np.concatenate([lowest, _lowest_hashes(batch, offset, cost)]))
        records += len(offset)
    found, times_each = np.unique(lowest, return_counts=True)
    if records > _LOWEST:
        found, times_each = found[:-1], times_each[:-1]
    return HourFacts(
        cost=math.fsum(costs),
        with_user=with_user,
        minutes=tuple(minutes.tolist()),
        repeated=int(np.gcd.reduce(times_each)) if len(found) >= _DISTINCT else 1,
        sketch=tuple(found[:SKETCH].astype(np.int64).tolist()),
        source=source,
    )


def _lowest(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return hashes if len(hashes) <= _LOWEST else np.partition(hashes, _LOWEST - 1)[:_LOWEST]


def _lowest_hashes(coded: pa.Table, offset: npt.NDArray[np.int64], cost: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return the lowest hashes of the records, of 63 bits. The hour itself is left out."""
    texts = [_named(coded.column(name)) for name in _TEXTS]
    lowest = np.zeros(0, np.uint64)
    for start in range(0, len(offset), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        mixed = _mixed(offset[rows].astype(np.uint64))
        for codes, of_names in texts:
            mixed = _mixed(mixed ^ of_names[codes[rows]])
        hashes = _mixed(mixed ^ np.where(np.isnan(cost[rows]), -1.0, cost[rows]).view(np.uint64)) >> np.uint64(1)
        lowest = _lowest(np.concatenate([lowest, _lowest(hashes)]))
    return lowest


def _named(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint64]]:
    """Return a column's codes and the hashes of its names; the last hash, at the code -1, belongs to a missing text."""
    codes, names = codes_of(column)
    hashed = pd.util.hash_array(names, categorize=False) if len(names) else np.zeros(0, np.uint64)
    return codes, np.append(hashed, np.uint64(7))


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread each value over all bits (the finaliser of SplitMix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
