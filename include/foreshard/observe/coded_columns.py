"""Columns as codes and names."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.model import IntArray


def only_codes(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """Return a column with one dictionary as codes. Nulls are −1."""
    return np.concatenate([np.zeros(0, np.int32), *map(_indices, column.chunks)])


def _indices(chunk: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    codes: npt.NDArray[np.int32] = pc.fill_null(chunk.indices, -1).to_numpy().astype(np.int32)
    return codes


def codes_of(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Return a column with one dictionary as codes and names. Nulls are −1."""
    texts = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    return only_codes(column), texts.to_numpy(zero_copy_only=False).astype(object)


def distinct(values: IntArray) -> IntArray:
    """Return the distinct values in order. Sorting takes a fraction of the time of ``numpy.unique`` with its hash table."""
    ordered = np.sort(values)
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]
