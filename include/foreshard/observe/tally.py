"""Counts accesses per hour × key × location × request type, with their cost and number of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.model import KEY_LOAD_COLUMNS, FloatArray, IntArray

UNKNOWN_LOCATION = "unknown"
TALLIED = ("partitionable_key", "location", "request_type", "user_id", "cost")
"""The columns of records that a tally of one hour needs."""
_TEXTS = ("partitionable_key", "location", "request_type")


ROWS_AT_ONCE = 16_000_000
"""Records that are sorted at once. More are counted in several parts, each with all records of its keys."""


def tally(frame: pd.DataFrame, weights: Mapping[str, float]) -> pd.DataFrame:
    """Count clean records of one or more hours: rows with ``KEY_LOAD_COLUMNS``, sorted by them.

    The cost of an access is the measured one, or the weight of its request type (``weights`` has all types of clean records). A
    missing location counts as ``unknown``; a missing user is not counted. The order of the records makes no difference.
    """
    if frame.empty:
        return empty_key_load()
    texts = {name: pd.factorize(frame[name].fillna(UNKNOWN_LOCATION), sort=True) for name in _TEXTS}
    users, _ = pd.factorize(frame["user_id"], use_na_sentinel=True)
    hours, hour_names = pd.factorize(frame["timestamp"].dt.floor("h"), sort=True)
    codes: list[npt.NDArray[Any]] = [hours, *(text for text, _ in texts.values())]
    rows = _count(codes, users, frame["cost"].to_numpy(np.float64), texts, weights)
    return _frame(rows, hour_names, {name: np.asarray(names, object) for name, (_, names) in texts.items()})


def tally_table(table: pa.Table, hour: datetime, weights: Mapping[str, float]) -> pd.DataFrame:
    """Count the clean records of one hour, like :func:`tally`: in no particular order, with categorical texts.

    ``table`` needs the columns of ``TALLIED``, texts as dictionaries.
    """
    if not len(table):
        return empty_key_load()
    texts = {name: codes_of(table.column(name), UNKNOWN_LOCATION) for name in _TEXTS}
    users = only_codes(table.column("user_id"))
    cost = table.column("cost").to_numpy()
    keys = texts["partitionable_key"][0]
    parts = -(-len(table) // ROWS_AT_ONCE)
    found = []
    for part in range(parts):
        chosen = slice(None) if parts == 1 else np.flatnonzero(keys % parts == part)
        codes = [text[chosen] for text, _ in texts.values()]
        if len(codes[0]):
            found.append(_count([np.zeros(len(codes[0]), np.int8), *codes], users[chosen], cost[chosen], texts, weights))
    rows = [np.concatenate(columns) for columns in zip(*found, strict=True)]
    return _frame(rows, pd.DatetimeIndex([hour]), {name: names for name, (_, names) in texts.items()}, categorical=True)


def only_codes(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """Return a column with one dictionary as codes. Nulls are −1."""
    return np.concatenate([np.zeros(0, np.int32), *map(_indices, column.chunks)])


def _indices(chunk: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    codes: npt.NDArray[np.int32] = pc.fill_null(chunk.indices, -1).to_numpy().astype(np.int32)
    return codes


def codes_of(column: pa.ChunkedArray, missing: str | None = None) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Return a column with one dictionary as codes and names. Nulls are −1, or have the name ``missing``."""
    codes = only_codes(column)
    texts = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    names = texts.to_numpy(zero_copy_only=False).astype(object)
    if missing is None or not (codes < 0).any():
        return codes, names
    place = np.flatnonzero(names == missing)
    if not len(place):
        names = np.append(names, missing)
    codes[codes < 0] = place[0] if len(place) else len(names) - 1
    return codes, names


def _count(
    codes: Sequence[npt.NDArray[Any]],
    users: npt.NDArray[Any],
    cost: FloatArray,
    texts: Mapping[str, tuple[npt.NDArray[Any], Any]],
    weights: Mapping[str, float],
) -> list[npt.NDArray[Any]]:
    """Return the distinct combinations of codes, sorted, with their counts, costs and numbers of users."""
    cells = compress(*codes)
    weight = np.array([weights.get(str(name), 0.0) for name in texts["request_type"][1]])
    measured = ~np.isnan(cost)
    costs = np.where(measured, cost, weight[codes[-1]])
    order = np.lexsort((costs, cells)) if measured.any() else np.argsort(cells, kind="stable")
    ordered = cells[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    group = np.empty(len(cells), np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(ordered)))
    first = order[starts]
    return [
        *(column[first] for column in codes),
        np.diff(starts, append=len(ordered)),
        np.add.reduceat(costs[order], starts),
        _distinct(group, users, len(starts)),
    ]


def _frame(
    rows: Sequence[npt.NDArray[Any]], hours: Any, names: Mapping[str, npt.NDArray[Any]], categorical: bool = False
) -> pd.DataFrame:
    texts: dict[str, Any] = {
        name: pd.Categorical.from_codes(codes, pd.Index(names[name])) if categorical else names[name][codes]  # type: ignore[arg-type]
        for name, codes in zip(_TEXTS, rows[1:4], strict=True)
    }
    numbers = {"count": rows[4].astype(np.int64), "cost": rows[5], "distinct_users": rows[6]}
    return pd.DataFrame({"hour": hours[rows[0]], **texts, **numbers})[list(KEY_LOAD_COLUMNS)]


def empty_key_load() -> pd.DataFrame:
    """No rows, with ``KEY_LOAD_COLUMNS`` and their types."""
    types = {"hour": "datetime64[ns, UTC]", "count": "int64", "cost": "float64", "distinct_users": "int64"}
    return pd.DataFrame({name: pd.Series(dtype=types.get(name, "object")) for name in KEY_LOAD_COLUMNS})


def compress(*codes: npt.NDArray[Any]) -> IntArray:
    """Combine several columns of codes (≥ 0) into one code per row that sorts like the columns, without overflow."""
    combined = np.zeros(len(codes[0]), dtype=np.int64)
    size = 1
    for column in codes:
        width = int(column.max(initial=0)) + 1
        if size * width >= 2**62:
            _, combined = np.unique(combined, return_inverse=True)
            size = int(combined.max(initial=0)) + 1
        combined = combined * width + column
        size *= width
    return combined


def distinct(values: IntArray) -> IntArray:
    """Return the distinct values in order. Sorting takes a fraction of the time of ``numpy.unique`` with its hash table."""
    ordered = np.sort(values)
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]


def _distinct(group: IntArray, users: npt.NDArray[Any], groups: int) -> IntArray:
    known = users >= 0
    pairs = distinct(compress(group[known], users[known]))
    width = int(users.max(initial=0)) + 1
    return np.bincount(pairs // width, minlength=groups).astype(np.int64)
