"""Quarantined records: their numbers by reason, and where they wait while a log is imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshard.stores.files.hour_files import quarantine_table

_HOUR = "hour"
_HOUR_TYPE = pa.timestamp("s", tz="UTC")


def reasons_in(path: Path) -> dict[str, int]:
    """Return the numbers of records by reason in a file. Raise what pyarrow raises if it can't be read."""
    found = pc.value_counts(pq.read_table(path, columns=["reason"], read_dictionary=["reason"]).column(0).cast(pa.string()))
    return {one["values"]: one["counts"] for one in found.to_pylist()}


class QuarantineSpool:
    """Quarantined records of many hours, in a file that is made when the first one comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._closed = False

    def add(self, frame: pd.DataFrame, hours: Iterable[datetime | None]) -> None:
        """Append records, with the hour of each; None (or NaT): its time can't be read."""
        if self._closed:
            raise ValueError("the spool is being read")
        if not len(frame):
            return
        of_hour = pa.array(pd.Series(hours, dtype="datetime64[s, UTC]"), _HOUR_TYPE)
        table = quarantine_table(frame).append_column(_HOUR, of_hour)
        self._writer = self._writer or pq.ParquetWriter(self._path, table.schema, compression="lz4")
        self._writer.write_table(table)

    def of_hours(self, hours: Sequence[datetime]) -> Iterator[tuple[datetime, pd.DataFrame]]:
        """Yield the records of ``hours``, some of one hour at a time, in the order in which they were added."""
        asked = pa.array(hours, _HOUR_TYPE)
        for table in self._groups(min(hours), max(hours)):
            here = pc.unique(table.column(_HOUR).filter(pc.is_in(table.column(_HOUR), asked)))
            for hour in here:
                mine = table.filter(pc.fill_null(pc.equal(table.column(_HOUR), hour), False))
                yield hour.as_py(), mine.drop_columns([_HOUR]).to_pandas()

    def besides(self, hours: Sequence[datetime]) -> Iterator[pd.DataFrame]:
        """Yield the records of no hour, and of other ``hours``, some at a time."""
        asked = pa.array(hours, _HOUR_TYPE)
        for table in self._groups():
            others = table.filter(pc.invert(pc.is_in(table.column(_HOUR), asked)))
            if len(others):
                yield others.drop_columns([_HOUR]).to_pandas()

    def close(self) -> None:
        """Finish writing."""
        self._closed = True
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _groups(self, first: datetime | None = None, last: datetime | None = None) -> Iterator[pa.Table]:
        """Yield the batches, without those that have no hour from ``first`` to ``last``."""
        self.close()
        if not self._path.exists():
            return
        with pq.ParquetFile(self._path) as file:
            place = file.schema_arrow.get_field_index(_HOUR)
            for number in range(file.num_row_groups):
                found = file.metadata.row_group(number).column(place).statistics
                outside = first and last and found.has_min_max and (found.max < first or found.min > last)
                if not outside:
                    yield file.read_row_group(number)
