"""What an engine of data frames does for the tally, besides running Narwhals' expressions.

The rules of observing are written once, as lazy Narwhals expressions. Polars runs them in this process, Spark on a cluster.
Narwhals has no operation for the few things here, so each engine has its own. A test compares their results byte for byte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import narwhals as nw
import pyarrow as pa

from foreshard.observe.coded_text import coded_text, filled, is_text
from foreshard.observe.packing import Span, Spans

if TYPE_CHECKING:
    import polars as pl

LazyRecords: TypeAlias = nw.LazyFrame[Any]
MOMENT = "moment"
"""The column with a record's time in microseconds since 1970."""
CODE, NAME = "code", "name"
HOUR_US = 3_600_000_000
UNKNOWN_LOCATION = "unknown"


@dataclass(frozen=True)
class CodedRecords:
    """Records with ``MOMENT`` and codes for texts. ``names``: column → frame of ``CODE`` and ``NAME``, one row a code.

    ``spans``: the numbers of ``MOMENT`` and of the codes, if these are whole numbers.
    """

    rows: LazyRecords
    names: dict[str, LazyRecords]
    parts: int = 1
    spans: Spans = dataclasses.field(default_factory=dict)


def hours_of(records: CodedRecords) -> Span | None:
    """Return the hours of records, since 1970; None if their times are not known."""
    time = records.spans.get(MOMENT)
    return time and Span(time.low // HOUR_US, time.high // HOUR_US)


class FrameEngine(Protocol):
    """Runs lazy frames."""

    def of_table(self, table: pa.Table) -> LazyRecords:
        """Return a table as a lazy frame."""

    def coded(self, records: pa.Table, unnamed: Sequence[str] = ()) -> CodedRecords:
        """Return records with ``timestamp`` as ``MOMENT``, and texts as codes that are compared faster than text.

        A column's codes differ if and only if its texts do; their order has no meaning. Whole numbers are their own codes.
        ``unnamed``: columns whose codes need no names. A missing location is ``UNKNOWN_LOCATION``.
        """

    def kept(self, frame: LazyRecords) -> LazyRecords:
        """Compute a frame that is used several times."""

    def numbered(self, frame: LazyRecords, name: str) -> LazyRecords:
        """Return the frame with a different number in each row, in a column ``name``."""

    def split(self, frame: LazyRecords, number: nw.Expr, parts: int) -> list[LazyRecords]:
        """Return a frame in parts. Rows with the same whole number are in the same part."""

    def table(self, frame: LazyRecords) -> pa.Table:
        """Compute a frame."""


class Engine(FrameEngine, Protocol):
    """An engine that reads files."""

    def coded_files(self, paths: Sequence[Path], columns: Sequence[str], unnamed: Sequence[str] = ()) -> CodedRecords:
        """Return some columns of raw hours in Parquet, like ``coded``."""


RECORDS_OF_A_PART = 5_000_000
"""Records are counted in parts, each with all records of some users or sessions. Memory holds the groups of so many."""


class PolarsFrames:
    """Implements :class:`FrameEngine` in this process, with as many threads as there are cores.

    Polars is imported when it is used. A process that has used it must not use it in a fork, where its threads are missing.
    """

    def of_table(self, table: pa.Table) -> LazyRecords:
        """See :class:`FrameEngine`."""
        import polars as pl

        return nw.from_native(pl.DataFrame(table).lazy())

    def coded(self, records: pa.Table, unnamed: Sequence[str] = ()) -> CodedRecords:
        """See :class:`FrameEngine`."""
        import polars as pl

        columns, names, spans = {}, {}, {}
        for given in records.column_names:
            name = MOMENT if given == "timestamp" else given
            columns[name], texts = _numbers(given, records.column(given))
            if columns[name].dtype.is_float():
                continue
            spans[name] = _span(columns[name]) if texts is None else Span(0, len(texts) - 1, nw.Int32())
            if name != MOMENT and name not in unnamed:
                found = columns[name].drop_nulls().unique() if texts is None else texts
                codes = found if texts is None else pl.int_range(len(texts), dtype=pl.Int32, eager=True)
                names[name] = nw.from_native(pl.LazyFrame({CODE: codes, NAME: found}))
        rows: LazyRecords = nw.from_native(pl.LazyFrame(columns))
        return CodedRecords(rows, names, parts_of(len(records)), spans)

    def kept(self, frame: LazyRecords) -> LazyRecords:
        """See :class:`FrameEngine`."""
        return nw.from_native(self._collected(frame.to_native()).lazy())

    def numbered(self, frame: LazyRecords, name: str) -> LazyRecords:
        """See :class:`FrameEngine`."""
        made: LazyRecords = nw.from_native(frame.to_native().with_row_index(name))
        return made

    def split(self, frame: LazyRecords, number: nw.Expr, parts: int) -> list[LazyRecords]:
        """See :class:`FrameEngine`."""
        return [frame] if parts == 1 else [frame.filter(number % parts == part) for part in range(parts)]

    def table(self, frame: LazyRecords) -> pa.Table:
        """See :class:`FrameEngine`."""
        return self._collected(frame.to_native()).to_arrow()

    @staticmethod
    def _collected(frame: pl.LazyFrame) -> pl.DataFrame:
        return frame.collect(engine="streaming")


def moments_of(timestamps: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return times as ``MOMENT``."""
    return timestamps.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())


def coded_column(name: str, texts: pa.ChunkedArray, distinct: bool = False) -> pa.DictionaryArray:
    """Return a column of texts as coded text (see :func:`coded_text`). A missing location is ``UNKNOWN_LOCATION``."""
    coded = coded_text(texts, distinct)
    return filled(coded, UNKNOWN_LOCATION) if name == "location" else coded


def _numbers(name: str, column: pa.ChunkedArray) -> tuple[pl.Series, pl.Series | None]:
    """Return a column as numbers: times in microseconds, texts as their codes. Also return the texts of the codes."""
    import polars as pl

    if name == "timestamp":
        return pl.Series(moments_of(column)), None
    column = column.cast(pa.string()) if pa.types.is_null(column.type) else column
    if not is_text(column.type):
        return pl.Series(column), None
    coded = coded_column(name, column)
    return pl.Series(coded.indices), pl.Series(coded.dictionary, dtype=pl.String)


def parts_of(records: int) -> int:
    """Return in how many parts so many records are counted."""
    return max(1, -(-records // RECORDS_OF_A_PART))


def _span(column: pl.Series) -> Span:
    low: Any = column.min()
    high: Any = column.max()
    return Span(0, -1) if low is None else Span(low, high, nw.from_native(column, series_only=True).dtype)
