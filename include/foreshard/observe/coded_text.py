"""Texts as dictionaries: a code per record, and each distinct text once.

A log has few distinct texts, and what is checked or hashed once per distinct text costs little. All chunks of a column are
coded with one dictionary, in which each text comes once and is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

CODED_TEXT = pa.dictionary(pa.int32(), pa.string())
"""The type of coded text."""


def is_text(kind: Any) -> bool:
    """Return whether a type is text, or text as a dictionary."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def coded_text(column: Any, distinct: bool = False) -> pa.DictionaryArray:
    """Return a column of texts, whole numbers, or dictionaries of them as ``CODED_TEXT``.

    ``distinct``: its dictionaries have each text once, as in files of our own. To look costs as much as to code.
    Raise ``pa.ArrowInvalid`` if a text is not UTF-8.
    """
    several = isinstance(column, pa.ChunkedArray) and column.num_chunks > 1
    array = _whole(column)
    once = distinct or several or not pa.types.is_dictionary(array.type)  # dictionaries that were united have each text once
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    texts = array.dictionary.cast(pa.string())
    texts.validate(full=True)
    if texts.null_count or not (once or pc.count_distinct(texts).as_py() == len(texts)):
        return pa.DictionaryArray.from_arrays(array.indices, texts).cast(pa.string()).dictionary_encode()
    return _used(array.indices.cast(pa.int32()), texts)


def without(column: pa.DictionaryArray, text: str) -> pa.DictionaryArray:
    """Return coded text in which one ``text`` is missing instead."""
    place = pc.index(column.dictionary, text).as_py()
    if place < 0:
        return column
    given = pc.not_equal(column.indices, place)
    return _used(pc.if_else(given, column.indices, pa.scalar(None, pa.int32())), column.dictionary)


def filled(column: pa.DictionaryArray, text: str) -> pa.DictionaryArray:
    """Return coded text with a ``text`` where it is missing."""
    if not column.null_count:
        return column
    texts = column.dictionary
    place = pc.index(texts, text).as_py()
    if place < 0:
        place, texts = len(texts), pa.concat_arrays([texts, pa.array([text], pa.string())])
    return pa.DictionaryArray.from_arrays(pc.fill_null(column.indices, pa.scalar(place, pa.int32())), texts)


def codes(column: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    """Return a code per record; −1 where the text is missing."""
    found: npt.NDArray[np.int32] = pc.fill_null(column.indices, -1).to_numpy()
    return found


def _whole(column: Any) -> Any:
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def _used(indices: Any, texts: Any) -> pa.DictionaryArray:
    """Return coded text without the texts that no record has."""
    used = np.zeros(len(texts) + 1, np.bool_)
    used[pc.fill_null(indices, -1).to_numpy()] = True
    used = used[:-1]
    if used.all():
        return pa.DictionaryArray.from_arrays(indices, texts)
    places = pa.array(np.cumsum(used, dtype=np.int32) - np.int32(1))
    return pa.DictionaryArray.from_arrays(places.take(indices), texts.filter(pa.array(used)))
