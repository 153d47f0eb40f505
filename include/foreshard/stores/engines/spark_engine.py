"""Spark, on a cluster: for hours that do not fit one machine. Its workers read the raw hours from shared storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import narwhals as nw

from foreshard.observe.engines import CODE, MOMENT, NAME, UNKNOWN_LOCATION, CodedRecords, LazyRecords
from foreshard.stores.engines.spark_session import shared_address, spark_session

if TYPE_CHECKING:
    import pyarrow as pa


class SparkEngine:
    """Implements :class:`foreshard.observe.engines.Engine`. The session ends with the engine, unless it ran before.

    Texts are their own codes: Spark compares them where they are.
    """

    def __init__(self, master: str, options: Mapping[str, str]) -> None:
        self._started = spark_session(master, options)
        self._session: Any = None
        self._persisted: list[Any] = []

    def __enter__(self) -> Self:
        self._session = self._started.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        for frame in self._persisted:
            with suppress(Exception):  # a session that has failed can't forget a frame
                frame.unpersist()
        self._persisted = []
        self._started.__exit__(kind, error, trace)
        self._session = None

    def coded_files(self, paths: Sequence[Path], columns: Sequence[str], unnamed: Sequence[str] = ()) -> CodedRecords:
        """See :class:`foreshard.observe.engines.Engine`."""
        given: LazyRecords = nw.from_native(self._session.read.parquet(*map(shared_address, paths)))
        return self._coded(given.select(*columns), unnamed)

    def of_table(self, table: pa.Table) -> LazyRecords:
        """See :class:`foreshard.observe.engines.FrameEngine`."""
        made: LazyRecords = nw.from_native(self._session.createDataFrame(table))
        return made

    def coded(self, records: pa.Table, unnamed: Sequence[str] = ()) -> CodedRecords:
        """See :class:`foreshard.observe.engines.FrameEngine`."""
        return self._coded(self.of_table(records), unnamed)

    def _coded(self, records: LazyRecords, unnamed: Sequence[str]) -> CodedRecords:
        from pyspark.sql import functions

        if "location" in records.collect_schema().names():
            records = records.with_columns(nw.col("location").fill_null(UNKNOWN_LOCATION))
        given = records.to_native()
        texts = [name for name, kind in given.dtypes if kind == "string" and name not in unnamed]
        rows = self.kept(nw.from_native(given.withColumn(MOMENT, functions.unix_micros("timestamp")).drop("timestamp")))
        names = {name: rows.select(**{CODE: name, NAME: name}).filter(~nw.col(CODE).is_null()).unique() for name in texts}
        return CodedRecords(rows, names)

    def kept(self, frame: LazyRecords) -> LazyRecords:
        """See :class:`foreshard.observe.engines.FrameEngine`."""
        from pyspark import StorageLevel

        made = frame.to_native().persist(StorageLevel.MEMORY_AND_DISK)
        self._persisted.append(made)
        kept: LazyRecords = nw.from_native(made)
        return kept

    def numbered(self, frame: LazyRecords, name: str) -> LazyRecords:
        """See :class:`foreshard.observe.engines.FrameEngine`. A second computation might number otherwise: a checkpoint."""
        from pyspark.sql import functions

        made = frame.to_native().withColumn(name, functions.monotonically_increasing_id())
        numbered: LazyRecords = nw.from_native(made.localCheckpoint(eager=True))
        return numbered

    def split(self, frame: LazyRecords, number: nw.Expr, parts: int) -> list[LazyRecords]:  # noqa: ARG002
        """See :class:`foreshard.observe.engines.FrameEngine`. Records of a cluster are one part: it splits frames itself."""
        return [frame]

    def table(self, frame: LazyRecords) -> pa.Table:
        """See :class:`foreshard.observe.engines.FrameEngine`."""
        return frame.to_native().toArrow()
