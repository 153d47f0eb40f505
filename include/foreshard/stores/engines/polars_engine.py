"""Polars, in this process: reads raw hours in a stream, and keeps what does not fit in memory in temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import narwhals as nw
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.observe.batches import ACCEPTED
from foreshard.observe.coded_text import is_text
from foreshard.observe.engines import MOMENT, CodedRecords, LazyRecords, PolarsFrames, parts_of
from foreshard.observe.packing import Span
from foreshard.stores.engines.coded_stream import TextCodes, beside, row_groups, write_coded

SPILLED_RECORDS = 5_000_000
"""A frame that is used several times waits in a file if it is made from more records than this."""
_SPILL: dict[str, Any] = {"compression": "lz4", "statistics": False, "maintain_order": False}
_PART = "part"


class PolarsEngine(PolarsFrames):
    """Implements :class:`foreshard.observe.engines.Engine`. ``folder``: where temporary files are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spilled: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0
        self._records = 0

    def coded_files(self, paths: Sequence[Path], columns: Sequence[str], unnamed: Sequence[str] = ()) -> CodedRecords:
        """See :class:`foreshard.observe.engines.Engine`."""
        self._records += sum(pq.read_metadata(path).num_rows for path in paths)
        if self._records > SPILLED_RECORDS:
            return self._in_a_stream(paths, columns, unnamed)
        texts = [field.name for field in ACCEPTED if field.name in columns and is_text(field.type)]
        tables = []
        for path in paths:
            with pq.ParquetFile(path, read_dictionary=texts) as file:
                tables.append(file.read(list(columns)))
        return self.coded(pa.concat_tables(tables), unnamed)

    def _in_a_stream(self, paths: Sequence[Path], columns: Sequence[str], unnamed: Sequence[str]) -> CodedRecords:
        """Return the records of large files. Memory holds the texts of ``unnamed`` columns first, then those of the others."""
        import polars as pl

        texts = [name for name in columns if is_text(ACCEPTED.field(name).type)]
        named = {name: TextCodes(named=True) for name in texts if name not in unnamed}
        spans: dict[str, Span | None] = {}
        groups = row_groups(paths, [name for name in columns if name not in unnamed])
        if unnamed:
            bare = {name: TextCodes(named=False) for name in unnamed}
            apart = self._place().with_suffix(".parquet")
            write_coded(apart, row_groups(paths, unnamed), bare)
            spans |= {name: codes.span for name, codes in bare.items()}
            bare.clear()
            groups = beside(groups, row_groups([apart], unnamed))
        path = self._place().with_suffix(".parquet")
        write_coded(path, groups, named)
        spans |= {name: codes.span for name, codes in named.items()}
        names: dict[str, LazyRecords] = {name: nw.from_native(codes.names()) for name, codes in named.items()}
        rows: LazyRecords = nw.from_native(pl.scan_parquet(path))
        ends = self.table(rows.select(low=nw.col(MOMENT).min(), high=nw.col(MOMENT).max())).to_pylist()[0]
        return CodedRecords(rows, names, parts_of(self._records), {**spans, MOMENT: Span(ends["low"], ends["high"])})

    def kept(self, frame: LazyRecords) -> LazyRecords:
        """See :class:`foreshard.observe.engines.FrameEngine`."""
        import polars as pl

        if self._records <= SPILLED_RECORDS:
            return super().kept(frame)
        path = self._place().with_suffix(".parquet")
        frame.to_native().sink_parquet(path, **_SPILL)
        return nw.from_native(pl.scan_parquet(path))

    def split(self, frame: LazyRecords, number: nw.Expr, parts: int) -> list[LazyRecords]:
        """See :class:`foreshard.observe.engines.FrameEngine`. Each part of a large frame is a file, so it is read by itself."""
        import polars as pl

        if parts == 1 or self._records <= SPILLED_RECORDS:
            return super().split(frame, number, parts)
        folder = self._place()
        numbered = frame.with_columns((number % parts).cast(nw.Int64).alias(_PART)).to_native()
        numbered.sink_parquet(pl.PartitionBy(folder, key=_PART, include_key=False), mkdir=True, **_SPILL)
        nothing = pl.DataFrame(schema=frame.to_native().collect_schema()).lazy()
        folders = [folder / f"{_PART}={part}" for part in range(parts)]
        return [nw.from_native(pl.scan_parquet(one / "*.parquet") if one.exists() else nothing) for one in folders]

    def _place(self) -> Path:
        """Return a path for a temporary file."""
        if self._spilled is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._spilled = tempfile.TemporaryDirectory(prefix="engine-", dir=self._folder)
        self._files += 1
        return Path(self._spilled.name) / str(self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._spilled is not None:
            self._spilled.cleanup()
            self._spilled = None
