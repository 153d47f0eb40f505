"""What an engine of data frames does for the tally, besides running Narwhals' expressions.

The rules of observing are written once, as lazy Narwhals expressions. Polars runs them in this process, Spark on a cluster.
Narwhals has no operation for the few things here, so each engine has its own. A test compares their results byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import narwhals as nw
import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl

LazyRecords: TypeAlias = nw.LazyFrame[Any]
MOMENT = "moment"
"""The column with a record's time in microseconds since 1970."""
CODE, NAME = "code", "name"
HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class CodedRecords:
    """Records with ``MOMENT`` and codes for texts. ``names``: column → frame of ``CODE`` and ``NAME``, one row a code."""

    rows: LazyRecords
    names: dict[str, LazyRecords]
    parts: int = 1


class FrameEngine(Protocol):
    """Runs lazy frames."""

    def of_table(self, table: pa.Table) -> LazyRecords:
        """Return a table as a lazy frame."""

    def coded(self, records: LazyRecords, texts: Sequence[str], unnamed: Sequence[str] = ()) -> CodedRecords:
        """Return records with ``timestamp`` as ``MOMENT``, and ``texts`` as codes that are compared faster than text.

        A column's codes differ if and only if its texts do; their order has no meaning. ``unnamed``: more texts, without
        names for their codes.
        """

    def kept(self, frame: LazyRecords) -> LazyRecords:
        """Compute a frame that is used several times."""

    def numbered(self, frame: LazyRecords, name: str) -> LazyRecords:
        """Return the frame with a different number in each row, in a column ``name``."""

    def table(self, frame: LazyRecords) -> pa.Table:
        """Compute a frame."""


class Engine(FrameEngine, Protocol):
    """An engine that reads files."""

    def scan(self, paths: Sequence[Path]) -> LazyRecords:
        """Return the records of raw hours in Parquet, without reading them yet."""


RECORDS_OF_A_PART = 5_000_000
"""Records are counted in parts, each with all records of some keys, users or sessions. Memory holds the groups of so many."""


class PolarsFrames:
    """Implements :class:`FrameEngine` in this process, with as many threads as there are cores.

    Polars is imported when it is used. A process that has used it must not use it in a fork, where its threads are missing.
    """

    def of_table(self, table: pa.Table) -> LazyRecords:
        """See :class:`FrameEngine`."""
        import polars as pl

        return nw.from_native(pl.DataFrame(table).lazy())

    def coded(self, records: LazyRecords, texts: Sequence[str], unnamed: Sequence[str] = ()) -> CodedRecords:
        """See :class:`FrameEngine`. Whole numbers are their own codes."""
        import polars as pl

        given = records.to_native()
        schema = given.collect_schema()
        kinds = {name: pl.Categorical(pl.Categories.random()) for name in (*texts, *unnamed) if not schema[name].is_integer()}
        coding = [pl.col(name).cast(kind).to_physical() for name, kind in kinds.items()]
        made = given.with_columns(pl.col("timestamp").dt.epoch("us").alias(MOMENT), *coding).drop("timestamp")
        rows = self.kept(nw.from_native(made))
        found = self._collected(rows.to_native().select(pl.len().alias("rows"), *(pl.col(name).max() for name in kinds)))
        ends = found.row(0, named=True)
        names = {
            name: nw.from_native(_names(kinds[name], -1 if ends[name] is None else ends[name]))
            if name in kinds
            else rows.select(**{CODE: name, NAME: name}).unique()
            for name in texts
        }
        return CodedRecords(rows, names, max(1, -(-int(ends["rows"]) // RECORDS_OF_A_PART)))

    def kept(self, frame: LazyRecords) -> LazyRecords:
        """See :class:`FrameEngine`."""
        return nw.from_native(self._collected(frame.to_native()).lazy())

    def numbered(self, frame: LazyRecords, name: str) -> LazyRecords:
        """See :class:`FrameEngine`."""
        made: LazyRecords = nw.from_native(frame.to_native().with_row_index(name))
        return made

    def table(self, frame: LazyRecords) -> pa.Table:
        """See :class:`FrameEngine`."""
        return self._collected(frame.to_native()).to_arrow()

    @staticmethod
    def _collected(frame: pl.LazyFrame) -> pl.DataFrame:
        return frame.collect(engine="streaming")


def _names(kind: pl.Categorical, last: int) -> pl.LazyFrame:
    """Return the texts of the codes of a kind up to the ``last``."""
    import polars as pl

    codes = pl.LazyFrame().select(pl.int_range(last + 1, dtype=pl.UInt32).alias(CODE))
    return codes.with_columns(pl.col(CODE).cat.to(kind).cast(pl.String).alias(NAME))
