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
from foreshard.observe.checks import OPTIONAL, certainly_valid
from foreshard.observe.clean import AMBIGUOUS_TIME, EARLIEST, clean, column
from foreshard.observe.engines import PolarsFrames
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
    typed = _typed(columns, len(batch))
    if typed is None:
        return _slowly(plain_frame(batch), since, until, request_types, key_type)
    engine = PolarsFrames()
    sure = engine.of_table(typed).select(sure=certainly_valid(since, until, request_types, key_type))
    good = engine.table(sure).column("sure").to_numpy()
    if AMBIGUOUS_TIME in batch.column_names:
        good = good & ~_marked(batch)
    rest = np.flatnonzero(~good)
    if not len(rest):
        return CleanBatch(typed, _nothing())
    slow = _slowly(plain_frame(batch.take(pa.array(rest))), since, until, request_types, key_type)
    return CleanBatch(pa.concat_tables([typed.filter(pa.array(good)), slow.accepted]), slow.quarantined)


def accepted_table(frame: pd.DataFrame) -> pa.Table:
    """Return clean records as a table with the columns of ``ACCEPTED``."""
    return pa.Table.from_pandas(frame[ACCEPTED.names], schema=ACCEPTED, preserve_index=False, safe=False)


def plain_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame, with positions as text.

    Integers in columns with gaps stay integers; as floats, large ones would lose digits.
    """
    frame: pd.DataFrame = positions_as_text(table).to_pandas(integer_object_nulls=True)
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
        coded = pa.types.is_dictionary(field.type)
        if pa.types.is_string(field.type) or (coded and table.column(place).num_chunks > 1):
            texts = table.column(place).cast(pa.string())
            table = table.set_column(place, field.name, texts.dictionary_encode())
    return table


def _slowly(
    frame: pd.DataFrame, since: datetime, until: datetime, request_types: Collection[str], key_type: KeyType
) -> CleanBatch:
    cleaned = clean(frame, since, until, request_types, key_type)
    return CleanBatch(accepted_table(cleaned.accepted), cleaned.quarantined)


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
    """Return columns in the types of ``ACCEPTED``; None if one of another type needs a closer look."""
    made = [_made(columns.get(field.name), field, length) for field in ACCEPTED]
    return None if any(column is None for column in made) else pa.table(made, schema=ACCEPTED)


def _made(column: Any, field: pa.Field, length: int) -> Any:
    if column is None or pa.types.is_null(column.type):
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
    if _is_text(column.type) or (pa.types.is_integer(column.type) and not column.null_count):
        times = as_times(column.to_pandas())
        return pa.array(times, pa.timestamp("ns", tz="UTC")).cast(TIME, safe=False)
    return None


def _zoned_texts(column: Any) -> Any | None:
    """Return texts as times if all are of the plain form of ISO 8601 with a zone; None if they need a closer look."""
    if not _is_text(column.type):
        return None
    try:
        return column.cast(pa.string()).cast(TIME)
    except pa.ArrowInvalid:
        return None


def _without_nan(column: Any) -> Any:
    return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)


def _texts(column: Any, optional: bool) -> Any:
    """Return a column of text. Empty optional values become null."""
    if not _is_text(column.type) and not pa.types.is_integer(column.type):
        return None
    texts = column.cast(pa.string())
    texts.validate(full=True)
    if optional and pc.any(empty := pc.equal(texts, "")).as_py():
        texts = pc.if_else(empty, pa.scalar(None, pa.string()), texts)
    return texts


def _is_text(kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))
