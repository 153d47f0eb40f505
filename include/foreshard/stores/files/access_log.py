"""Access logs in files: Parquet, CSV, TSV and JSON lines, with the standard columns. Imports, hours, backtests and replays are
read here, so all of them see the same records.

``timestamp``, ``partitionable_key`` and ``request_type`` are required. Other standard columns may be absent, and further
columns are ignored. A line that cannot be decoded becomes a malformed record with its position, for the quarantine. Its text is
dropped, because it may name a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshard.errors import CorruptLog
from foreshard.model import ACCESS_LOG_COLUMNS, ONE_HOUR
from foreshard.observe.batches import RawBatch, batch_times, plain_frame, rows_of
from foreshard.observe.clean import MALFORMED, READ_COLUMNS, SOURCE
from foreshard.observe.duplicates import SeenRecords
from foreshard.observe.values import as_times
from foreshard.observe.zones import has_zoneless, in_zone
from foreshard.stores.files.delimited import Block, Header, parsed_block
from foreshard.stores.files.json_lines import decoded, parsed
from foreshard.stores.files.log_paths import file_format, log_files, opened

REQUIRED_COLUMNS = ("timestamp", "partitionable_key", "request_type")
BATCH_RECORDS = 200_000
LONGEST_FILE = timedelta(days=1)
"""The rest of a file that breaks off is assumed to be this long at most."""
_UNREADABLE = (OSError, ValueError, EOFError, pa.ArrowException)

Note = Callable[[str], None]
"""Takes one line for people."""


class FileAccessLog:
    """Log files as a source of hours. A folder stands for its log files, in the order of their names.

    A record without a readable time belongs to the hour of the record before it. ``zone``: of times that name none.
    """

    def __init__(self, paths: Sequence[Path], zone: ZoneInfo | None = None) -> None:
        self._paths, self._zone = tuple(paths), zone

    @property
    def name(self) -> str:
        return ", ".join(str(path.resolve()) for path in self._paths)

    def holds_whole(self, _hour: datetime) -> bool:
        """Return true: files don't forget their beginning."""
        return True

    def read_hour(self, hour: datetime, note: Note = lambda _line: None) -> Iterator[RawBatch]:
        """Yield the hour's records.

        A file that can't be read is named in a note, and the others are read. Raise :class:`CorruptLog` if the file may have
        records of this hour, if no file can be read, or if none has a record.
        """
        refused: list[CorruptLog] = []
        files = log_files(self._paths)
        filled = 0
        for path in files:
            read = _HourOfFile(path, hour)
            try:
                yield from read.batches(read_tables(path, hour, hour + ONE_HOUR, self._zone, note))
            except CorruptLog as error:
                if read.may_go_on():
                    raise
                refused.append(error)
            filled += read.records > 0 or path.name.endswith(".parquet")
        if len(refused) == len(files):
            raise refused[0]
        if not filled:
            raise CorruptLog(", ".join(map(str, self._paths)), "none of its files has a record")
        for unread in refused:
            note(str(unread))


class _HourOfFile:
    """The records of one hour in a file, and what was seen of the file's times."""

    def __init__(self, path: Path, hour: datetime) -> None:
        self._path, self._since, self._until = path, pd.Timestamp(hour), pd.Timestamp(hour + ONE_HOUR)
        self._last: pd.Timestamp | None = None
        self.records = 0

    def batches(self, tables: Iterator[RawBatch]) -> Iterator[RawBatch]:
        for batch in tables:
            self.records += len(batch)
            claimed = batch_times(batch).ffill()
            claimed = claimed.bfill() if self._last is None else claimed.fillna(self._last)
            if claimed.isna().all():
                raise CorruptLog(str(self._path), f"none of its first {len(batch):,} times can be read")
            self._last = claimed.iloc[-1]
            inside = ((claimed >= self._since) & (claimed < self._until)).to_numpy()
            if inside.any():
                yield rows_of(batch, inside)

    def may_go_on(self) -> bool:
        """Return whether the rest of the file, behind what was read, may have records of the hour."""
        return self._last is not None and self._since - LONGEST_FILE < self._last < self._until


def read_access_log(path: Path) -> pd.DataFrame:
    """Read a whole log: its standard columns with their raw values. Raise :class:`CorruptLog`."""
    batches = list(read_batches(path))
    if not batches:
        raise CorruptLog(str(path), "it holds no record")
    return pd.concat(batches, ignore_index=True)


def read_batches(path: Path, zone: ZoneInfo | None = None) -> Iterator[pd.DataFrame]:
    """Yield a log in non-empty frames, without records that come twice. Raise :class:`CorruptLog`."""
    seen = SeenRecords()
    for batch in read_log(path, zone):
        once = seen.without_duplicates(batch)
        if len(once):
            yield once if isinstance(once, pd.DataFrame) else plain_frame(once)


def read_log(path: Path, zone: ZoneInfo | None = None, note: Note = lambda _line: None) -> Iterator[RawBatch]:
    """Yield the records of a file, or of all files of a folder or pattern, in non-empty batches. Raise :class:`CorruptLog`."""
    for file in log_files([path]):
        yield from read_tables(file, None, None, zone, note)


def read_tables(
    path: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    zone: ZoneInfo | None = None,
    note: Note = lambda _line: None,
) -> Iterator[RawBatch]:
    """Yield a log file in non-empty batches: tables if its columns have types, else frames. Raise :class:`CorruptLog`.

    Row groups of a Parquet file without a record in [since, until), by its own statistics, are skipped. If times have no zone
    and ``zone`` is not given, they are in UTC, and a note says so.
    """
    kind, noted = file_format(path), False
    try:
        for batch in _parquet(path, since, until) if kind == "parquet" else _lines(path, kind):
            if zone is not None:
                batch = in_zone(batch, zone)
            elif not noted and has_zoneless(batch["timestamp"]):
                noted = True
                note(f"{path}: times without a zone are read as UTC; FORESHARD_OBSERVE__ACCESS_LOG_ZONE names another")
            yield batch
    except _UNREADABLE as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CorruptLog(str(path), f"it can't be read ({said})") from error


def require_columns(path: Path, names: Sequence[str]) -> None:
    """Raise :class:`CorruptLog` unless ``names`` has the required columns."""
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        found = ", ".join(str(name) for name in names) or "none"
        raise CorruptLog(str(path), f"it has no column {', '.join(missing)} (its columns: {found})")


def _parquet(path: Path, since: datetime | None, until: datetime | None) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        require_columns(path, names)
        wanted = [name for name in READ_COLUMNS if name in names]
        place = next(i for i in range(file.metadata.num_columns) if file.schema.column(i).name == "timestamp")
        row = 0
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            if _overlaps(group.column(place).statistics, since, until):
                for batch in file.iter_batches(BATCH_RECORDS, row_groups=[number], columns=wanted):
                    if batch.num_rows:
                        yield _with_rows(pa.Table.from_batches([batch]), path.name, row)
                        row += batch.num_rows
            else:
                row += group.num_rows


def _with_rows(table: pa.Table, file: str, first: int) -> pa.Table:
    """Return the table with each record's position: the file's name and the row, counted from 0."""
    rows = pa.array(range(first, first + len(table)), pa.int64()).cast(pa.string())
    return table.append_column(SOURCE, pc.binary_join_element_wise(pa.scalar(file), rows, ":"))


def _overlaps(statistics: Any, since: datetime | None, until: datetime | None) -> bool:
    """Return whether a row group may contain records of [since, until), or records without a time."""
    if since is None or until is None or statistics is None or not statistics.has_min_max or statistics.null_count:
        return True
    if not isinstance(statistics.min, datetime) or statistics.min.tzinfo is None:
        return True
    times = as_times(pd.Series([statistics.min, statistics.max]))
    return bool(times.isna().any() or (times.iloc[0] < until and times.iloc[1] >= since))


def _lines(path: Path, kind: str) -> Iterator[RawBatch]:
    with opened(path) as file:
        yield from _csv(path, file) if kind == "csv" else _json(path, file)


def _blocks(file: IO[bytes], first: int) -> Iterator[Block]:
    """Yield the lines that are not blank, in blocks. ``first`` is the number of the next line.

    If the file breaks off, the whole lines before come first, and then the error.
    """
    broken: Exception | None = None
    while broken is None:
        lines: list[bytes] = []
        try:
            lines.extend(islice(file, BATCH_RECORDS))
        except _UNREADABLE as error:
            broken = error
        if not lines and broken is None:
            return
        kept = [place for place, line in enumerate(lines, first) if not line.isspace()]
        yield Block([lines[place - first].rstrip(b"\r\n") for place in kept], kept)
        first += len(lines)
    raise broken


def _csv(path: Path, file: IO[bytes]) -> Iterator[RawBatch]:
    header = Header.of(next(iter(file), b""))
    if header.names == ("",) or not header.names:
        raise ValueError("it is empty")
    require_columns(path, header.names)
    rest, checked = Block((), ()), False
    for block in chain(_blocks(file, 2), (None,)):
        whole = Block([*rest.lines, *block.lines], [*rest.places, *block.places]) if block else rest
        batch, rest = parsed_block(whole, header, READ_COLUMNS, path.name, block is None)
        if len(batch):
            checked = checked or _require_rows(batch, header)
            yield batch


def _require_rows(batch: RawBatch, header: Header) -> bool:
    if isinstance(batch, pd.DataFrame) and batch[MALFORMED].eq(True).all():
        raise ValueError(f"none of its first {len(batch):,} records has the {len(header.names)} columns of its header")
    return True


def _json(path: Path, file: IO[bytes]) -> Iterator[RawBatch]:
    checked = False
    for block in _blocks(file, 1):
        if block.lines:
            batch = parsed(block.lines, [f"{path.name}:{place}" for place in block.places])
            checked = checked or _require_records(path, block.lines, batch)
            yield batch


def _require_records(path: Path, lines: Sequence[bytes], batch: RawBatch) -> bool:
    """Raise :class:`CorruptLog` unless the records have the required columns."""
    if isinstance(batch, pa.Table) and all(batch.column(name).null_count < len(batch) for name in REQUIRED_COLUMNS):
        return True
    readable = [record for record in (decoded(line, "") for line in lines) if MALFORMED not in record]
    if not readable:
        raise CorruptLog(str(path), f"none of its first {len(lines):,} lines is a JSON object")
    require_columns(path, [name for name in ACCESS_LOG_COLUMNS if any(name in record for record in readable)])
    return True
