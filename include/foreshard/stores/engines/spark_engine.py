"""Spark, on a cluster: for hours that do not fit one machine. Its workers read the raw hours from shared storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import narwhals as nw

from foreshard.errors import ConfigurationError
from foreshard.observe.engines import CODE, MOMENT, NAME, UNKNOWN_LOCATION, CodedRecords, LazyRecords

if TYPE_CHECKING:
    import pyarrow as pa

_OPTIONS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_SETTING = "FORESHARD_OBSERVE__ENGINE"
_LOCAL = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
"""A master in this process listens on the loopback only."""


class SparkEngine:
    """Implements :class:`foreshard.observe.engines.Engine`. The session ends with the engine, unless it ran before.

    Texts are their own codes: Spark compares them where they are.
    """

    def __init__(self, master: str, options: Mapping[str, str]) -> None:
        self._master, self._options = master, {**_OPTIONS, **(_LOCAL if master.startswith("local") else {}), **options}
        self._session: Any = None
        self._owned = False
        self._persisted: list[Any] = []

    def __enter__(self) -> Self:
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            remedy = "install it (pip install 'foreshard[spark]') and Java 17, or choose polars"
            raise ConfigurationError(_SETTING, "it is spark, but PySpark is not installed", remedy) from error
        builder = SparkSession.builder.appName("foreshard observe").master(self._master)
        for name, value in self._options.items():
            builder = builder.config(name, value)
        self._owned = SparkSession.getActiveSession() is None
        try:
            self._session = builder.getOrCreate()
        except Exception as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigurationError(
                _SETTING, f"Spark can't be started at {self._master} ({said})", "Spark 4.0 needs Java 17"
            ) from error
        return self

    def __exit__(self, *_error: object) -> None:
        for frame in self._persisted:
            frame.unpersist()
        self._persisted = []
        if self._owned and self._session is not None:
            self._session.stop()
        self._session = None

    def coded_files(self, paths: Sequence[Path], columns: Sequence[str], unnamed: Sequence[str] = ()) -> CodedRecords:
        """See :class:`foreshard.observe.engines.Engine`."""
        given: LazyRecords = nw.from_native(self._session.read.parquet(*(str(path.resolve()) for path in paths)))
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

    def table(self, frame: LazyRecords) -> pa.Table:
        """See :class:`foreshard.observe.engines.FrameEngine`."""
        return frame.to_native().toArrow()
