"""Counts accesses per hour × key × location × request type, with their cost and number of users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import KEY_LOAD_COLUMNS, IntArray

UNKNOWN_LOCATION = "unknown"


def tally(frame: pd.DataFrame, weights: Mapping[str, float]) -> pd.DataFrame:
    """Count clean records of one or more hours: rows with ``KEY_LOAD_COLUMNS``, sorted by them.

    The cost of an access is the measured one, or the weight of its request type (``weights`` has all types of clean records). A
    missing location counts as ``unknown``; a missing user is not counted.
    """
    if frame.empty:
        return empty_key_load()
    hours, hour_names = pd.factorize(frame["timestamp"].dt.floor("h"), sort=True)
    keys, key_names = pd.factorize(frame["partitionable_key"], sort=True)
    locations, location_names = pd.factorize(frame["location"].fillna(UNKNOWN_LOCATION), sort=True)
    kinds, kind_names = pd.factorize(frame["request_type"], sort=True)
    users, _ = pd.factorize(frame["user_id"], use_na_sentinel=True)
    cells = compress(hours, keys, locations, kinds)
    _, first, group = np.unique(cells, return_index=True, return_inverse=True)
    cost = frame["cost"].fillna(frame["request_type"].map(weights)).to_numpy(dtype=np.float64)
    return pd.DataFrame(
        {
            "hour": hour_names[hours[first]],
            "partitionable_key": np.asarray(key_names, dtype=object)[keys[first]],
            "location": np.asarray(location_names, dtype=object)[locations[first]],
            "request_type": np.asarray(kind_names, dtype=object)[kinds[first]],
            "count": np.bincount(group, minlength=len(first)).astype(np.int64),
            "cost": np.bincount(group, weights=cost, minlength=len(first)),
            "distinct_users": _distinct(group, users, len(first)),
        }
    )[list(KEY_LOAD_COLUMNS)]


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


def _distinct(group: IntArray, users: npt.NDArray[Any], groups: int) -> IntArray:
    known = users >= 0
    pairs = np.unique(compress(group[known], users[known]))
    width = int(users.max(initial=0)) + 1
    return np.bincount(pairs // width, minlength=groups).astype(np.int64)
