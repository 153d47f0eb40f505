"""Cleans batches of records column by column, without an object per value.

Most records of a typed source need no conversion: their values are recognised as valid in bulk. The others go through
:func:`foreshard.observe.clean.clean`, so both ways accept the same records and give the same values.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.model.key_space import KeyType
from foreshard.observe.checks import OPTIONAL, certain_numbers, certain_texts
from foreshard.observe.clean import AMBIGUOUS_TIME, EARLIEST, clean, column
from foreshard.observe.coded_text import CODED_TEXT, coded_text, codes, is_text, without
from foreshard.observe.engines import NAME, PolarsFrames
from foreshard.observe.positions import positions_as_text
from foreshard.observe.values import as_times

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
"""The columns of accepted records."""
CODED = pa.schema([pa.field(field.name, CODED_TEXT if is_text(field.type) else field.type) for field in ACCEPTED])
"""The same, with texts as dictionaries (:mod:`foreshard.observe.coded_text`)."""
TEXTS = tuple(field.name for field in ACCEPTED if is_text(field.type))


@dataclass(frozen=True)
class CleanBatch:
    """A batch's ``accepted`` records, with the columns of ``CODED``, and the ``quarantined`` ones with their reasons."""

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
    typed = _typed(columns, len(batch))
    if typed is None:
        return _slowly(plain_frame(batch), since, until, request_types, key_type)
    good = _certain(typed, since, until, request_types, key_type)
    if AMBIGUOUS_TIME in batch.column_names:
        good = good & ~_marked(batch)
    rest = np.flatnonzero(~good)
    if not len(rest):
        return CleanBatch(typed, _nothing())
    slow = _slowly(plain_frame(batch.take(pa.array(rest))), since, until, request_types, key_type)
    return CleanBatch(coded_texts(pa.concat_tables([typed.filter(pa.array(good)), slow.accepted])), slow.quarantined)


def _certain(
    typed: pa.Table, since: datetime, until: datetime, request_types: Collection[str], key_type: KeyType
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which records are valid for certain. Each distinct text is looked at once."""
    engine = PolarsFrames()
    sure = engine.of_table(typed.select(["timestamp", "cost"])).select(sure=certain_numbers(since, until))
    good: np.ndarray[Any, np.dtype[np.bool_]] = engine.table(sure).column(0).to_numpy()
    for name in TEXTS:
        column = typed.column(name).chunk(0)
        texts = engine.of_table(pa.table({NAME: column.dictionary}))
        valid = engine.table(texts.select(sure=certain_texts(name, request_types, key_type))).column(0).to_numpy()
        valid = np.append(valid, name in OPTIONAL)
        if not valid.all():
            good = good & valid[codes(column)]
    return good


def accepted_table(frame: pd.DataFrame) -> pa.Table:
    """Return clean records as a table with the columns of ``ACCEPTED``."""
    return pa.Table.from_pandas(frame[ACCEPTED.names], schema=ACCEPTED, preserve_index=False, safe=False)


def plain_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame, with positions as text.

    Integers in columns with gaps stay integers; as floats, large ones would lose digits.
    """
    plain = positions_as_text(table)
    for place, field in enumerate(plain.schema):
        if pa.types.is_dictionary(field.type):
            plain = plain.set_column(place, field.name, plain.column(place).cast(field.type.value_type))
    frame: pd.DataFrame = plain.to_pandas(integer_object_nulls=True)
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


def coded_texts(table: pa.Table, distinct: bool = False) -> pa.Table:
    """Return the table with its texts as dictionaries. ``distinct``: see :func:`foreshard.observe.coded_text.coded_text`."""
    for place, field in enumerate(table.schema):
        if is_text(field.type):
            table = table.set_column(place, field.name, coded_text(table.column(place), distinct))
    return table


def _slowly(
    frame: pd.DataFrame, since: datetime, until: datetime, request_types: Collection[str], key_type: KeyType
) -> CleanBatch:
    cleaned = clean(frame, since, until, request_types, key_type)
    return CleanBatch(coded_texts(accepted_table(cleaned.accepted)), cleaned.quarantined)


def _marked(batch: RawBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the records whose times are ambiguous."""
    marks = batch[AMBIGUOUS_TIME] if isinstance(batch, pd.DataFrame) else batch.column(AMBIGUOUS_TIME).to_pandas()
    return np.asarray(marks.isin([True]), np.bool_)


def _whole(column: Any) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


@cache
def _nothing() -> pd.DataFrame:
    """No quarantined records."""
    return clean(pd.DataFrame(), EARLIEST, EARLIEST, ()).quarantined


def _typed(columns: dict[str, Any], length: int) -> pa.Table | None:
    """Return columns in the types of ``CODED``; None if one of another type needs a closer look."""
    made = [_made(columns.get(field.name), field, length) for field in CODED]
    return None if any(column is None for column in made) else pa.table(made, schema=CODED)


def _made(column: Any, field: pa.Field, length: int) -> Any:
    if column is None or pa.types.is_null(column.type):
        if field.name in TEXTS:
            return coded_text(pa.nulls(length, pa.string()))
        return pa.nulls(length, field.type)
    if field.name == "timestamp":
        return _times(column)
    if field.name == "cost":
        numbers = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        return _without_nan(column.cast(pa.float64())) if numbers else None
    return _texts(column, optional=field.name in OPTIONAL)


def _times(column: Any) -> Any:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp(column.type.unit, tz="UTC"), safe=False).cast(TIME, safe=False)
    zoned = _zoned_texts(column)
    if zoned is not None:
        return zoned
    if is_text(column.type) or (pa.types.is_integer(column.type) and not column.null_count):
        times = as_times(column.to_pandas())
        return pa.array(times, pa.timestamp("ns", tz="UTC")).cast(TIME, safe=False)
    return None


def _zoned_texts(column: Any) -> Any | None:
    """Return texts as times if all are of the plain form of ISO 8601 with a zone; None if they need a closer look."""
    if not is_text(column.type):
        return None
    try:
        return column.cast(pa.string()).cast(TIME)
    except pa.ArrowInvalid:
        return None


def _without_nan(column: Any) -> Any:
    return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)


def _texts(column: Any, optional: bool) -> Any:
    """Return a column of text. Empty optional values become null."""
    if not is_text(column.type) and not pa.types.is_integer(column.type):
        return None
    texts = coded_text(column)
    return without(texts, "") if optional else texts
