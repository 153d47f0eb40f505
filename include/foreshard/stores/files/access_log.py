"""Access logs in files: Parquet, CSV and JSON Lines, with the standard columns.

``timestamp``, ``partitionable_key`` and ``request_type`` are required. Other standard columns may be absent, and further
columns are ignored. CSV cells are read as text, so a key may be ``NA`` or ``007``. A JSON line that cannot be decoded becomes a
malformed record with its position, for the quarantine. Its text is dropped, because it may name a user.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.errors import CorruptLog
from foreshard.model import ACCESS_LOG_COLUMNS, ONE_HOUR
from foreshard.observe.batches import RawBatch, batch_times, rows_of
from foreshard.observe.clean import MALFORMED
from foreshard.observe.values import as_times
from foreshard.stores.files.json_lines import decoded, parsed

REQUIRED_COLUMNS = ("timestamp", "partitionable_key", "request_type")
BATCH_RECORDS = 200_000
_FORMATS = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson")


class FileAccessLog:
    """Log files as a source of hours. A folder stands for its log files, in the order of their names.

    A record without a readable time belongs to the hour of the record before it.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def read_hour(self, hour: datetime) -> Iterator[RawBatch]:
        """Yield the hour's records. Raise :class:`CorruptLog` if a file cannot be read."""
        for path in self._files():
            yield from self._of_file(path, hour)

    def _of_file(self, path: Path, hour: datetime) -> Iterator[RawBatch]:
        since, until = pd.Timestamp(hour), pd.Timestamp(hour + ONE_HOUR)
        last: pd.Timestamp | None = None
        for batch in read_tables(path, hour, hour + ONE_HOUR):
            claimed = batch_times(batch).ffill()
            claimed = claimed.bfill() if last is None else claimed.fillna(last)
            if claimed.isna().all():
                raise CorruptLog(str(path), f"none of its first {len(batch):,} times can be read")
            last = claimed.iloc[-1]
            inside = ((claimed >= since) & (claimed < until)).to_numpy()
            if inside.any():
                yield rows_of(batch, inside)

    def _files(self) -> Iterator[Path]:
        for path in self._paths:
            if path.is_dir():
                yield from (file for file in sorted(path.rglob("*")) if file.name.endswith(_FORMATS))
            else:
                yield path


def read_access_log(path: Path) -> pd.DataFrame:
    """Read a whole log file: its standard columns with their raw values. Raise :class:`CorruptLog`."""
    batches = list(read_batches(path))
    if not batches:
        raise CorruptLog(str(path), "it holds no record")
    return pd.concat(batches, ignore_index=True)


def read_batches(path: Path) -> Iterator[pd.DataFrame]:
    """Yield a log file in non-empty frames. Raise :class:`CorruptLog`."""
    for batch in read_tables(path):
        yield batch if isinstance(batch, pd.DataFrame) else batch.to_pandas()


def read_tables(path: Path, since: datetime | None = None, until: datetime | None = None) -> Iterator[RawBatch]:
    """Yield a log file in non-empty batches: tables if its columns have types, else frames. Raise :class:`CorruptLog`.

    Row groups of a Parquet file without a record in [since, until), by its own statistics, are skipped.
    """
    if not path.is_file():
        raise CorruptLog(str(path), "no such file")
    if not path.name.endswith(_FORMATS):
        raise CorruptLog(str(path), f"its name ends in none of {', '.join(_FORMATS)}")
    try:
        if path.name.endswith(".parquet"):
            yield from _parquet(path, since, until)
        elif path.name.endswith((".csv", ".csv.gz")):
            yield from _csv(path)
        else:
            yield from _json_lines(path)
    except (OSError, ValueError, EOFError, pa.ArrowException, csv.Error) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CorruptLog(str(path), f"it can't be read ({said})") from error


def _require_columns(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        found = ", ".join(str(name) for name in names) or "none"
        raise CorruptLog(str(path), f"it has no column {', '.join(missing)} (its columns: {found})")


def _parquet(path: Path, since: datetime | None, until: datetime | None) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        _require_columns(path, names)
        wanted = [name for name in ACCESS_LOG_COLUMNS if name in names]
        place = next(i for i in range(file.metadata.num_columns) if file.schema.column(i).name == "timestamp")
        groups = [
            number
            for number in range(file.num_row_groups)
            if _overlaps(file.metadata.row_group(number).column(place).statistics, since, until)
        ]
        if groups:
            for batch in file.iter_batches(BATCH_RECORDS, row_groups=groups, columns=wanted):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])


def _overlaps(statistics: Any, since: datetime | None, until: datetime | None) -> bool:
    """Return whether a row group may contain records of [since, until), or records without a time."""
    if since is None or until is None or statistics is None or not statistics.has_min_max or statistics.null_count:
        return True
    if not isinstance(statistics.min, datetime):
        return True
    times = as_times(pd.Series([statistics.min, statistics.max]))
    return bool(times.iloc[0] < until and times.iloc[1] >= since)


def _csv(path: Path) -> Iterator[pd.DataFrame]:
    with pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], chunksize=BATCH_RECORDS) as chunks:
        for chunk in chunks:
            _require_columns(path, list(chunk.columns))
            if len(chunk):
                yield chunk[[name for name in ACCESS_LOG_COLUMNS if name in chunk.columns]].reset_index(drop=True)


def _json_lines(path: Path) -> Iterator[RawBatch]:
    lines: list[bytes] = []
    places: list[int] = []
    checked = False
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                lines.append(line)
                places.append(number)
            if len(lines) >= BATCH_RECORDS:
                batch = parsed(lines, [f"{path.name}:{place}" for place in places])
                checked = checked or _require_records(path, lines, batch)
                yield batch
                lines, places = [], []
    if lines:
        batch = parsed(lines, [f"{path.name}:{place}" for place in places])
        _ = checked or _require_records(path, lines, batch)
        yield batch


def _require_records(path: Path, lines: Sequence[bytes], batch: RawBatch) -> bool:
    """Raise :class:`CorruptLog` unless the records have the required columns."""
    if isinstance(batch, pa.Table) and all(batch.column(name).null_count < len(batch) for name in REQUIRED_COLUMNS):
        return True
    readable = [record for record in (decoded(line, "") for line in lines) if MALFORMED not in record]
    if not readable:
        raise CorruptLog(str(path), f"none of its first {len(lines):,} lines is a JSON object")
    _require_columns(path, [name for name in ACCESS_LOG_COLUMNS if any(name in record for record in readable)])
    return True
