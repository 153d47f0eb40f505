"""Accepted records of a log file, on disk until their hours are saved."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshard.model import ONE_HOUR
from foreshard.observe.batches import ACCEPTED, TIME


@contextmanager
def record_spool(folder: Path) -> Iterator[ParquetSpool]:
    """Yield an empty spool under ``folder``. It is deleted at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="import-", dir=folder) as made:
        spool = ParquetSpool(Path(made) / "records.parquet")
        try:
            yield spool
        finally:
            spool.close()


class ParquetSpool:
    """Implements :class:`foreshard.ports.access_logs.RecordSpool` with one Parquet file.

    A batch is a row group, so the hours of a log that is sorted by time are read without the rest.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = pq.ParquetWriter(path, ACCEPTED, compression="lz4")

    def add(self, accepted: pa.Table) -> None:
        """Append records."""
        if self._writer is None:
            raise ValueError("the spool is being read")
        if len(accepted):
            self._writer.write_table(accepted.cast(ACCEPTED))

    def hours(self, hours: Sequence[datetime]) -> Iterator[pa.Table]:
        """Yield the records of each of ``hours`` (ascending), by time."""
        self.close()
        low, high = pa.scalar(hours[0], TIME), pa.scalar(hours[-1] + ONE_HOUR, TIME)
        parts = [ACCEPTED.empty_table()]
        with pq.ParquetFile(self._path) as file:
            for number in range(file.num_row_groups):
                statistics = file.metadata.row_group(number).column(0).statistics
                if statistics.min < high.as_py() and statistics.max >= low.as_py():
                    group = file.read_row_group(number)
                    times = group.column("timestamp")
                    parts.append(group.filter(pc.and_(pc.greater_equal(times, low), pc.less(times, high))))
        table = pa.concat_tables(parts)
        times = table.column("timestamp").cast(pa.int64()).to_numpy()
        order = np.argsort(times, kind="stable")
        if (order[1:] < order[:-1]).any():
            table, times = table.take(pa.array(order)), times[order]
        for moment in hours:
            ends = [int(at.timestamp()) * 1_000_000 for at in (moment, moment + ONE_HOUR)]
            start, end = np.searchsorted(times, ends).tolist()
            yield table.slice(start, end - start)

    def close(self) -> None:
        """Finish writing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
