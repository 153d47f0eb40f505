"""Polars, in this process: reads raw hours in a stream, and keeps what does not fit in memory in temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import narwhals as nw

from foreshard.observe.engines import LazyRecords, PolarsFrames

SPILLED_RECORDS = 5_000_000
"""A frame that is used several times waits in a file if it is made from more records than this."""


class PolarsEngine(PolarsFrames):
    """Implements :class:`foreshard.observe.engines.Engine`. ``folder``: where temporary files are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spilled: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0
        self._records = 0

    def scan(self, paths: Sequence[Path]) -> LazyRecords:
        """See :class:`foreshard.observe.engines.Engine`."""
        import polars as pl

        frame = pl.scan_parquet(list(paths))
        self._records += int(frame.select(pl.len()).collect().item())
        return nw.from_native(frame)

    def kept(self, frame: LazyRecords) -> LazyRecords:
        """See :class:`foreshard.observe.engines.FrameEngine`."""
        import polars as pl

        if self._records <= SPILLED_RECORDS:
            return super().kept(frame)
        if self._spilled is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._spilled = tempfile.TemporaryDirectory(prefix="engine-", dir=self._folder)
        self._files += 1
        path = Path(self._spilled.name) / f"{self._files}.parquet"
        frame.to_native().sink_parquet(path, compression="lz4")
        return nw.from_native(pl.scan_parquet(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._spilled is not None:
            self._spilled.cleanup()
            self._spilled = None
