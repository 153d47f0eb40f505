"""Access logs in files. Imports, hours, backtests and replays are read here, so all of them see the same records.

``timestamp``, ``partitionable_key`` and ``request_type`` are required, as columns or by the source's mapping. Other standard
columns may be absent, and further columns are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.model import ONE_HOUR
from foreshard.observe.ahead import one_ahead
from foreshard.observe.batches import RawBatch, batch_times, plain_frame, rows_of
from foreshard.observe.duplicates import SeenRecords
from foreshard.observe.mapping import mapped
from foreshard.observe.zones import has_zoneless, in_zone
from foreshard.settings import SourceMapping
from foreshard.stores.files.log_formats import UNREADABLE, raw_batches
from foreshard.stores.files.log_paths import log_files

LONGEST_FILE = timedelta(days=1)
"""The rest of a file that breaks off is assumed to be this long at most."""
Note = Callable[[str], None]
"""Takes one line for people."""


@dataclass(frozen=True)
class SourceForm:
    """The form of a source. ``zone``: of times that name none (None: UTC). ``mapping``: None for the standard columns."""

    zone: ZoneInfo | None = None
    mapping: SourceMapping | None = None

    @property
    def any_name(self) -> bool:
        """Whether the mapping gives the format, so that the names of files don't matter."""
        return self.mapping is not None and self.mapping.format is not None


PLAIN = SourceForm()


class FileAccessLog:
    """Log files as a source of hours. A folder stands for its log files, in the order of their names.

    A record without a readable time belongs to the hour of the record before it.
    """

    def __init__(self, paths: Sequence[Path], source: SourceForm | None = None) -> None:
        self._paths, self._source = tuple(paths), source or PLAIN

    @property
    def name(self) -> str:
        return ", ".join(str(path.resolve()) for path in self._paths)

    def holds_whole(self, _hour: datetime) -> bool:
        """Return true: files don't forget their beginning."""
        return True

    def read_hour(self, hour: datetime, note: Note = lambda _line: None) -> Iterator[RawBatch]:
        """Yield the hour's records.

        Files that were last written more than a day before the hour are not opened. A file that can't be read is named in a
        note, and the others are read. Raise :class:`CorruptLog` if the file may have
        records of this hour, if no file can be read, or if none has a record.
        """
        refused: list[CorruptLog] = []
        files = log_files(self._paths, self._source.any_name)
        filled = 0
        for path in files:
            if _ended_before(path, hour):
                filled += 1
                continue
            read = _HourOfFile(path, hour)
            try:
                yield from read.batches(one_ahead(read_tables(path, hour, hour + ONE_HOUR, self._source, note)))
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


def _ended_before(path: Path, hour: datetime) -> bool:
    """Return whether a file was last written so long before an hour that it has no record of it. It is not opened then."""
    try:
        return path.stat().st_mtime < (hour - LONGEST_FILE).timestamp()
    except OSError:
        return False


def read_access_log(path: Path) -> pd.DataFrame:
    """Read a whole log: its standard columns with their raw values. Raise :class:`CorruptLog`."""
    batches = list(read_batches(path))
    if not batches:
        raise CorruptLog(str(path), "it holds no record")
    return pd.concat(batches, ignore_index=True)


def read_batches(path: Path, source: SourceForm = PLAIN) -> Iterator[pd.DataFrame]:
    """Yield a log in non-empty frames, without records that come twice. Raise :class:`CorruptLog`."""
    seen = SeenRecords()
    for batch in read_log(path, source):
        once = seen.without_duplicates(batch)
        if len(once):
            yield once if isinstance(once, pd.DataFrame) else plain_frame(once)


def read_log(path: Path, source: SourceForm = PLAIN, note: Note = lambda _line: None) -> Iterator[RawBatch]:
    """Yield the records of a file, or of all files of a folder or pattern, in non-empty batches. Raise :class:`CorruptLog`."""
    for file in log_files([path], source.any_name):
        yield from read_tables(file, None, None, source, note)


def read_tables(
    path: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    source: SourceForm = PLAIN,
    note: Note = lambda _line: None,
) -> Iterator[RawBatch]:
    """Yield a log file in non-empty batches: tables if its columns have types, else frames. Raise :class:`CorruptLog`.

    Row groups of a Parquet file without a record in [since, until), by its own statistics, are skipped. If times have no zone
    of the first batch and the source names none, they are in UTC, and a note says so.
    """
    looked, left_out = False, 0
    try:
        for raw in raw_batches(path, since, until, source.mapping):
            batch = raw
            if source.mapping is not None:
                known = mapped(raw if isinstance(raw, pd.DataFrame) else plain_frame(raw), source.mapping)
                batch, left_out = known.records, left_out + int((~known.kept).sum())
            if not len(batch):
                continue
            if source.zone is not None:
                batch = in_zone(batch, source.zone)
            elif not looked and has_zoneless(batch["timestamp"]):
                note(f"{path}: times without a zone are read as UTC; FORESHARD_OBSERVE__ACCESS_LOG_ZONE names another")
            looked = True
            yield batch
    except UNREADABLE as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CorruptLog(str(path), f"it can't be read ({said})") from error
    if left_out:
        note(f"{path}: {left_out:,} records are left out, because the mapping's `only` or `keys` do not name them")
