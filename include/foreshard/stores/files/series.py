"""The series of an hour in one Parquet file, with a row group per chunk of keys, so that a task reads only its own chunk.

``series/2014-12-31T23.parquet`` has the columns ``partitionable_key`` and ``costs`` (a fixed-size list of T floats, cost units
per hour). The schema's metadata holds the hour, one character per hour that says whether it was counted, and the revisions of
the tallies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foreshard.errors import MissingStageResult
from foreshard.model import SeriesMatrix
from foreshard.ports.stages import SeriesBasis

if TYPE_CHECKING:
    import pandas as pd

_HOUR, _COUNTED, _BASIS = b"foreshard.hour", b"foreshard.counted", b"foreshard.basis"
_PRODUCER = "foreshard forecast hour"
_GROUP = ("partitionable_key", "location", "request_type")


class ParquetSeriesStore:
    """Implements :class:`foreshard.ports.stages.SeriesStore` under ``data_dir/series`` and ``data_dir/series-totals``."""

    def __init__(self, data_dir: Path) -> None:
        self._folder, self._totals = data_dir / "series", data_dir / "series-totals"

    def path(self, hour: datetime) -> Path:
        """Return the path of the series of ``hour``."""
        return self._folder / f"{hour.astimezone(UTC):%Y-%m-%dT%H}.parquet"

    def save(self, series: SeriesMatrix, chunk_keys: int, basis: SeriesBasis) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        length = series.costs.shape[1]
        counted = "".join("1" if one else "0" for one in series.counted)
        schema = pa.schema(
            [("partitionable_key", pa.string()), ("costs", pa.list_(pa.float32(), length))],
            metadata={
                _HOUR: series.hour.astimezone(UTC).isoformat().encode(),
                _COUNTED: counted.encode(),
                _BASIS: json.dumps([basis.slots, basis.revisions]).encode(),
            },
        )
        with _replaced(self.path(series.hour)) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for start in range(0, len(series.keys), chunk_keys):
                rows = series.rows(start, start + chunk_keys)
                values = pa.FixedSizeListArray.from_arrays(pa.array(rows.costs.reshape(-1)), length)
                writer.write_table(pa.table([pa.array(rows.keys, pa.string()), values], schema=schema), len(rows.keys))
        return -(-len(series.keys) // chunk_keys)

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        first, end = (f"{moment.astimezone(UTC):%Y-%m-%dT%H}" for moment in (since, until))
        saved = [path.stem for path in self._folder.glob("*.parquet") if first <= path.stem < end]
        return datetime.fromisoformat(f"{max(saved)}:00:00+00:00") if saved else None

    def basis(self, hour: datetime) -> SeriesBasis | None:
        try:
            with self._open(hour) as file:
                slots, revisions = json.loads(file.schema_arrow.metadata[_BASIS])
        except (MissingStageResult, KeyError):
            return None
        return SeriesBasis(tuple(revisions), slots)

    def load_chunk(self, hour: datetime, chunk: int) -> SeriesMatrix:
        with self._open(hour) as file:
            if not 0 <= chunk < file.num_row_groups:
                raise MissingStageResult(f"series chunk {chunk}", hour.isoformat(), _PRODUCER)
            return _read_chunk(file, chunk)

    def load(self, hour: datetime) -> Iterator[SeriesMatrix]:
        with self._open(hour) as file:
            for chunk in range(file.num_row_groups):
                yield _read_chunk(file, chunk)

    def save_totals(self, hour: datetime, totals: pd.DataFrame) -> None:
        types = dict.fromkeys(_GROUP, "object") | {"count": "int64", "cost": "float64"}
        with _replaced(self._totals_path(hour)) as partial:
            totals.astype(types).to_parquet(partial, index=False)

    def load_totals(self, hour: datetime) -> pd.DataFrame:
        import pandas as pd

        path = self._totals_path(hour)
        if not path.is_file():
            raise MissingStageResult("history totals", hour.isoformat(), _PRODUCER)
        return pd.read_parquet(path)

    def _totals_path(self, hour: datetime) -> Path:
        return self._totals / self.path(hour).name

    def _open(self, hour: datetime) -> Any:
        import pyarrow.parquet as pq

        path = self.path(hour)
        if not path.is_file():
            raise MissingStageResult("series", hour.isoformat(), _PRODUCER)
        return pq.ParquetFile(path)


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """Yield a path to write to. It replaces ``target`` in one step; after an error ``target`` stays as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _read_chunk(file: Any, chunk: int) -> SeriesMatrix:
    metadata = file.schema_arrow.metadata
    table = file.read_row_group(chunk)
    counted = np.frombuffer(metadata[_COUNTED], dtype=np.uint8) == ord("1")
    values = table.column("costs").combine_chunks()
    costs = values.flatten().to_numpy(zero_copy_only=False).reshape(len(table), len(counted)).astype(np.float32)
    keys = tuple(table.column("partitionable_key").to_pylist())
    return SeriesMatrix(datetime.fromisoformat(metadata[_HOUR].decode()), keys, costs, counted)
