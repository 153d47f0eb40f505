"""Positions of records in their log: ``FILE:PLACE``.

Only quarantined records show theirs. So a batch carries the name of its file once and the places as numbers, and few of them
become text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.observe.clean import SOURCE

_POSITION = pa.struct([("file", pa.dictionary(pa.int8(), pa.string())), ("place", pa.int64())])


def with_positions(table: pa.Table, file: str, places: Sequence[int] | npt.NDArray[np.int64]) -> pa.Table:
    """Return the table with the column ``SOURCE``: the position of each of its records in ``file``."""
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(table), np.int8)), pa.array([file], pa.string()))
    positions = pa.StructArray.from_arrays([names, pa.array(places, pa.int64())], names=["file", "place"])
    return table.append_column(SOURCE, positions)


def positions_as_text(table: pa.Table) -> pa.Table:
    """Return the table with its positions as ``FILE:PLACE``. Positions that are texts already stay themselves."""
    for at, field in enumerate(table.schema):
        if field.name == SOURCE and field.type == _POSITION:
            texts = [_texts(chunk) for chunk in table.column(at).chunks]
            table = table.set_column(at, SOURCE, pa.chunked_array(texts, pa.string()))
    return table


def _texts(positions: pa.StructArray) -> pa.StringArray:
    file, place = (field.cast(pa.string()) for field in positions.flatten())
    return pc.binary_join_element_wise(file, place, ":")
