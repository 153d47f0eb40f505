"""Cleans batches of records column by column, without an object per value.

Most records of a typed source need no conversion: their values are recognised as valid in bulk. The others go through
:func:`foreshard.observe.clean.clean`, so both ways accept the same records and give the same values.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.model.key_space import SLOT_MARK, KeyType
from foreshard.observe.clean import AMBIGUOUS_TIME, MAXIMUM_KEY_BYTES, clean, column
from foreshard.observe.values import NUL, as_text, as_times

RawBatch: TypeAlias = pd.DataFrame | pa.Table
"""A batch of raw records: columns of any values, or columns with types."""

TIME = pa.timestamp("us", tz="UTC")
ACCEPTED = pa.schema(
    [
        ("timestamp", TIME),
        ("partitionable_key", pa.string()),
        ("user_id", pa.string()),
        ("request_type", pa.string()),
        ("location", pa.string()),
        ("session_id", pa.string()),
        ("cost", pa.float64()),
    ]
)
_OPTIONAL_TEXTS = ("user_id", "location", "session_id")
_VISIBLE = "[!-~]"
_CANONICAL = {
    KeyType.STRING: rf"^[^{SLOT_MARK}](?s:.*)$",
    KeyType.INT: "^(?:0|-?[1-9][0-9]{0,17})$",
    KeyType.OBJECT_ID: "^[0-9a-f]{24}$",
    KeyType.UUID: "^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
}
"""The forms of keys that are canonical for certain."""


@dataclass(frozen=True)
class CleanBatch:
    """A batch's ``accepted`` records, with the columns of ``ACCEPTED``, and the ``quarantined`` ones with their reasons."""

    accepted: pa.Table
    quarantined: pd.DataFrame


def clean_batch(
    batch: RawBatch,
    since: datetime,
    until: datetime,
    request_types: Collection[str],
    key_type: KeyType = KeyType.STRING,
) -> CleanBatch:
    """Check a batch against [since, until) and the known request types, like :func:`foreshard.observe.clean.clean`."""
    if isinstance(batch, pd.DataFrame):
        return _slowly(batch, since, until, request_types, key_type)
    columns = {name: _whole(batch.column(name)) for name in ACCESS_LOG_COLUMNS if name in batch.column_names}
    recognised = _Recognised.of(columns, len(batch), since, until, request_types, key_type)
    if recognised is None:
        return _slowly(plain_frame(batch), since, until, request_types, key_type)
    good = recognised.rows if AMBIGUOUS_TIME not in batch.column_names else recognised.rows & ~_marked(batch)
    rest = np.flatnonzero(~good)
    if not len(rest):
        return CleanBatch(recognised.table, clean(pd.DataFrame(), since, until, ()).quarantined)
    slow = _slowly(plain_frame(batch.take(pa.array(rest))), since, until, request_types, key_type)
    accepted = pa.concat_tables([recognised.table.filter(pa.array(good)), slow.accepted])
    return CleanBatch(accepted, slow.quarantined)


def accepted_table(frame: pd.DataFrame) -> pa.Table:
    """Return clean records as a table with the columns of ``ACCEPTED``."""
    return pa.Table.from_pandas(frame[ACCEPTED.names], schema=ACCEPTED, preserve_index=False, safe=False)


def plain_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame. Integers in columns with gaps stay integers; as floats, large ones would lose digits."""
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    return frame


def batch_times(batch: RawBatch) -> pd.Series[pd.Timestamp]:
    """Return the records' times; NaT where they are not readable, or ambiguous."""
    if isinstance(batch, pd.DataFrame):
        times = as_times(column(batch, "timestamp"))
    else:
        raw = batch.column("timestamp")
        zoned = _zoned_texts(raw)
        times = as_times((raw if zoned is None else zoned).to_pandas(integer_object_nulls=True))
    names = batch.columns if isinstance(batch, pd.DataFrame) else batch.column_names
    return times.mask(_marked(batch)) if AMBIGUOUS_TIME in names else times


def rows_of(batch: RawBatch, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> RawBatch:
    """Return the chosen records."""
    if chosen.all():
        return batch
    return batch[chosen].reset_index(drop=True) if isinstance(batch, pd.DataFrame) else batch.filter(pa.array(chosen))


def coded_texts(table: pa.Table) -> pa.Table:
    """Return the table with its texts as dictionaries. All chunks of a column share one.

    Coding texts again is faster than uniting dictionaries, which hashes each of them again.
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type):
            texts = table.column(place).cast(pa.string())
            table = table.set_column(place, field.name, texts.dictionary_encode())
    return table


def _slowly(
    frame: pd.DataFrame, since: datetime, until: datetime, request_types: Collection[str], key_type: KeyType
) -> CleanBatch:
    cleaned = clean(frame, since, until, request_types, key_type)
    return CleanBatch(accepted_table(cleaned.accepted), cleaned.quarantined)


@dataclass(frozen=True)
class _Recognised:
    """The records of a batch in the accepted form. ``rows`` marks the certainly valid ones."""

    table: pa.Table
    rows: np.ndarray[Any, np.dtype[np.bool_]]

    @classmethod
    def of(
        cls,
        columns: dict[str, Any],
        length: int,
        since: datetime,
        until: datetime,
        request_types: Collection[str],
        key_type: KeyType,
    ) -> _Recognised | None:
        """Return None if a column has a type that needs a closer look."""
        times, key, kind = (_made(columns, name, length) for name in ("timestamp", "partitionable_key", "request_type"))
        optional = [_made(columns, name, length) for name in _OPTIONAL_TEXTS]
        cost = _made(columns, "cost", length)
        if any(made is None for made in (times, key, kind, cost, *optional)):
            return None
        short = pc.less_equal(pc.binary_length(key.dictionary), MAXIMUM_KEY_BYTES)
        named = pc.and_(_visible(key.dictionary), pc.match_substring_regex(key.dictionary, _CANONICAL[key_type]))
        named = pc.and_(named, short)
        known = pc.is_in(kind.dictionary, pa.array(sorted(request_types), pa.string()))
        inside = pc.and_(pc.greater_equal(times, pa.scalar(since, TIME)), pc.less(times, pa.scalar(until, TIME)))
        valid = (inside, _of_rows(named, key), _of_rows(known, kind), pc.is_finite(cost), pc.greater_equal(cost, 0.0))
        flags = [_flags(part, missing=place > 2) for place, part in enumerate(valid)]
        flags += [
            ~_flags(_of_rows(nul, made), missing=False) for made in (key, kind, *optional) if (nul := _nuls(made)) is not None
        ]
        users, locations, sessions = (made.cast(pa.string()) for made in optional)
        texts = (key.cast(pa.string()), users, kind.cast(pa.string()), locations, sessions)
        return cls(pa.table([times, *texts, cost], schema=ACCEPTED), np.logical_and.reduce(flags))


def _marked(batch: RawBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the records whose times are ambiguous."""
    marks = batch[AMBIGUOUS_TIME] if isinstance(batch, pd.DataFrame) else batch.column(AMBIGUOUS_TIME).to_pandas()
    return np.asarray(marks.isin([True]), np.bool_)


def _whole(column: Any) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _made(columns: dict[str, Any], name: str, length: int) -> Any:
    """Return a column in its accepted type, texts as dictionaries; None if that needs a closer look."""
    column = columns.get(name)
    if column is None or pa.types.is_null(column.type):
        column = pa.nulls(length, ACCEPTED.field(name).type)
    if name == "timestamp":
        return _times(column)
    if name == "cost":
        numbers = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        return _without_nan(column.cast(pa.float64())) if numbers else None
    return _texts(column, optional=name in _OPTIONAL_TEXTS)


def _times(column: Any) -> Any:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp(column.type.unit, tz="UTC"), safe=False).cast(TIME, safe=False)
    zoned = _zoned_texts(column)
    if zoned is not None:
        return zoned
    if _is_text(column.type) or (pa.types.is_integer(column.type) and not column.null_count):
        times = as_times(column.to_pandas())
        return pa.array(times, pa.timestamp("ns", tz="UTC")).cast(TIME, safe=False)
    return None


def _zoned_texts(column: Any) -> Any | None:
    """Return texts as times if all are of the plain form of ISO 8601 with a zone; None if they need a closer look."""
    if not pa.types.is_string(column.type):
        return None
    try:
        return column.cast(TIME)
    except pa.ArrowInvalid:
        return None


def _without_nan(column: Any) -> Any:
    return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)


def _texts(column: Any, optional: bool) -> Any:
    """Return a column of text as a dictionary. Blank optional values become null."""
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    if not _is_text(column.type):
        return None
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    names = coded.dictionary.cast(pa.string())
    names.validate(full=True)
    if optional and not pc.all(_visible(names)).as_py() and len(names):
        names = pa.array(as_text(names.to_pandas()).values, pa.string())
        return pa.array(names.take(coded.indices)).dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, names)


def _is_text(kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _visible(names: Any) -> Any:
    """Return which names have a visible ASCII character, and are therefore not blank."""
    return pc.match_substring_regex(names, _VISIBLE)


def _nuls(coded: Any) -> Any | None:
    """Return which names have a NUL; None if no name has one."""
    flags = pc.match_substring(coded.dictionary, NUL)
    return flags if pc.any(flags).as_py() else None


def _of_rows(flags: Any, coded: Any) -> Any:
    """Return the flags of a dictionary's values for each row."""
    return flags.take(coded.indices)


def _flags(values: Any, missing: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(pc.fill_null(values, missing).to_numpy(zero_copy_only=False), np.bool_)
