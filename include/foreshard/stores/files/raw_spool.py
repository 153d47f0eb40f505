"""Records of a log file, on disk until their hours are saved."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshard.model import ONE_HOUR
from foreshard.observe.batches import ACCEPTED, TIME
from foreshard.stores.files.quarantined import QuarantineSpool


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
    """Implements :class:`foreshard.ports.access_logs.RecordSpool` with a Parquet file, and one for quarantined records.

    A batch is a row group, so the hours of a log that is sorted by time are read without the rest.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = pq.ParquetWriter(path, ACCEPTED, compression="lz4")
        self._quarantined = QuarantineSpool(path.with_name("quarantined.parquet"))

    def add(self, accepted: pa.Table) -> None:
        """Append accepted records."""
        if self._writer is None:
            raise ValueError("the spool is being read")
        if len(accepted):
            self._writer.write_table(accepted.cast(ACCEPTED))

    def add_quarantined(self, quarantined: pd.DataFrame, hours: Iterable[datetime | None]) -> None:
        """Append quarantined records, with the hour of each; None: its time can't be read."""
        self._quarantined.add(quarantined, hours)

    def hours(self, hours: Sequence[datetime]) -> Iterator[pa.Table]:
        """Yield the records of each of ``hours`` (ascending), by time."""
        table = pa.concat_tables([ACCEPTED.empty_table(), *self._between(hours[0], hours[-1] + ONE_HOUR)])
        times = table.column("timestamp").cast(pa.int64()).to_numpy()
        order = np.argsort(times, kind="stable")
        if (order[1:] < order[:-1]).any():
            table, times = table.take(pa.array(order)), times[order]
        for moment in hours:
            ends = [int(at.timestamp()) * 1_000_000 for at in (moment, moment + ONE_HOUR)]
            start, end = np.searchsorted(times, ends).tolist()
            yield table.slice(start, end - start)

    def batches(self, hour: datetime) -> Iterator[pa.Table]:
        """Yield the records of an hour, some at a time, in the order in which they were added."""
        return self._between(hour, hour + ONE_HOUR)

    def quarantined(self, hours: Sequence[datetime]) -> Iterator[tuple[datetime, pd.DataFrame]]:
        """Yield the quarantined records of ``hours``, some of one hour at a time."""
        return self._quarantined.of_hours(hours)

    def quarantined_besides(self, hours: Sequence[datetime]) -> Iterator[pd.DataFrame]:
        """Yield the quarantined records of no hour, and of other ``hours``, some at a time."""
        return self._quarantined.besides(hours)

    def close(self) -> None:
        """Finish writing."""
        self._quarantined.close()
        self._close_accepted()

    def _close_accepted(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _between(self, since: datetime, until: datetime) -> Iterator[pa.Table]:
        self._close_accepted()
        low, high = pa.scalar(since, TIME), pa.scalar(until, TIME)
        with pq.ParquetFile(self._path) as file:
            for number in range(file.num_row_groups):
                statistics = file.metadata.row_group(number).column(0).statistics
                if statistics.min < high.as_py() and statistics.max >= low.as_py():
                    group = file.read_row_group(number)
                    times = group.column("timestamp")
                    yield group.filter(pc.and_(pc.greater_equal(times, low), pc.less(times, high)))
