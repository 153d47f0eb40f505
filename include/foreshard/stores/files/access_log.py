"""Access logs in files. Imports, hours, backtests and replays are read here, so all of them see the same records.

``timestamp``, ``partitionable_key`` and ``request_type`` are required, as columns or by the source's mapping. Other standard
columns may be absent, and further columns are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.observe.batches import RawBatch, plain_frame
from foreshard.observe.duplicates import SeenRecords
from foreshard.stores.files.log_parts import LONGEST_FILE, LogFilePart, SourceVerdict, records_of
from foreshard.stores.files.log_paths import log_files
from foreshard.stores.files.log_splitting import parts_of
from foreshard.stores.files.log_tables import PLAIN, Note, SourceForm, read_tables


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
        yield from records_of(*self.parts(hour, note), hour)

    def parts(
        self, hour: datetime, note: Note = lambda _line: None, most: int | None = None
    ) -> tuple[list[LogFilePart], SourceVerdict]:
        """Return the parts that may have records of an hour, and what judges them. Large files are split."""
        files = log_files(self._paths, self._source.any_name)
        if most is not None:
            files = [path.absolute() for path in files]  # executors work in other folders
        opened = [path for path in files if not ended_before(path, hour)]
        places = ", ".join(map(str, self._paths))
        verdict = SourceVerdict(places, hour, note, len(files), len(files) - len(opened))
        return parts_of(opened, self._source, hour, most), verdict


def ended_before(path: Path, hour: datetime) -> bool:
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
        yield from read_tables(file, source, note)
