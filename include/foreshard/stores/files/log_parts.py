"""Parts of a log. One process reads them one after another, or the executors of a cluster read them at the same time.

A part is a file, some row groups of a large Parquet file, or some lines of large plain JSON lines. Other texts are not split:
a packed file can be read from its beginning only, and only the whole of a CSV tells where the lines of a quoted cell begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.model import ONE_HOUR, BoolArray
from foreshard.observe.ahead import one_ahead
from foreshard.observe.batches import RawBatch, batch_times, rows_of
from foreshard.stores.files.log_formats import UNREADABLE, Piece, last_time_before
from foreshard.stores.files.log_tables import FileRemarks, FileTables, Note, SourceForm

LONGEST_FILE = timedelta(days=1)
"""The rest of a file that breaks off is assumed to be this long at most."""


class SourcePart(Protocol):
    """A part of a log. It can be sent to other machines."""

    @property
    def place(self) -> str:
        """The file, for people."""

    @property
    def size(self) -> int:
        """The bytes to read."""

    @property
    def form(self) -> SourceForm: ...

    @property
    def piece(self) -> Piece | None:
        """The piece of the file; None: the whole file."""

    @property
    def earlier(self) -> tuple[Piece, ...]:
        """The pieces that come before in the same file."""

    def is_there(self) -> bool:
        """Return whether this machine sees the file."""

    def file(self) -> AbstractContextManager[Path]:
        """Yield a local file with the records."""


@dataclass(frozen=True)
class LogFilePart:
    """A file of a log, or a piece of it."""

    path: Path
    form: SourceForm
    size: int = 0
    piece: Piece | None = None
    earlier: tuple[Piece, ...] = ()

    @property
    def place(self) -> str:
        return str(self.path)

    def is_there(self) -> bool:
        return self.path.is_file()

    @contextmanager
    def file(self) -> Iterator[Path]:
        yield self.path


@dataclass(frozen=True, slots=True)
class PartFound:
    """What was found in a part: its ``records`` of any hour, the ``last`` readable time, and why its rest can't be read."""

    records: int
    last: pd.Timestamp | None
    remarks: FileRemarks
    refused: CorruptLog | None = None


class PartReading:
    """Reads the records of one hour in a part.

    A record without a readable time belongs to the hour of the record before it, also if that one is in an earlier part.
    """

    def __init__(self, part: SourcePart, hour: datetime) -> None:
        self._part, self._since, self._until = part, hour, hour + ONE_HOUR
        self._records = 0
        self._last: pd.Timestamp | None = None
        self._refused: CorruptLog | None = None
        self._remarks = FileRemarks()

    @property
    def found(self) -> PartFound:
        """What was seen so far."""
        return PartFound(self._records, self._last, self._remarks, self._refused)

    def batches(self) -> Iterator[RawBatch]:
        """Yield the hour's records. If the part breaks off, they end early, and ``found`` says why."""
        with self._part.file() as path:
            tables = FileTables(path, self._part.form)
            try:
                for batch in one_ahead(tables.batches(self._since, self._until, self._part.piece)):
                    self._remarks = tables.remarks
                    inside = self._inside(path, batch)
                    if inside.any():
                        yield rows_of(batch, inside)
            except CorruptLog as error:
                self._refused = CorruptLog(self._part.place, error.problem)
                self._last = self._last or self._time_before(path)
            self._remarks = tables.remarks

    def _inside(self, path: Path, batch: RawBatch) -> BoolArray:
        """Return which records belong to the hour."""
        times = batch_times(batch)
        if self._last is None and self._part.earlier and pd.isna(times.iloc[0]):
            self._last = _last_time(path, self._part)
        self._records += len(times)
        claimed = times.ffill()
        claimed = claimed.bfill() if self._last is None else claimed.fillna(self._last)
        if claimed.isna().all():
            raise CorruptLog(str(path), f"none of its first {len(times):,} times can be read")
        self._last = claimed.iloc[-1]
        inside: BoolArray = np.asarray((claimed >= self._since) & (claimed < self._until), np.bool_)
        return inside

    def _time_before(self, path: Path) -> pd.Timestamp | None:
        """Return the last time before what was read, by the file's own statistics: row groups may have been skipped."""
        try:
            piece = self._part.piece
            groups = piece if isinstance(piece, tuple) else None
            return last_time_before(path, self._part.form.mapping, self._since, self._until, groups)
        except (CorruptLog, *UNREADABLE):
            return None


def _last_time(path: Path, part: SourcePart) -> Any:
    """Return the last readable time before a part; None without one, or if what is before it can't be read."""
    for piece in reversed(part.earlier):
        try:
            times = pd.concat([batch_times(batch) for batch in FileTables(path, part.form).batches(piece=piece)])
        except (CorruptLog, ValueError):
            return None
        if times.notna().any():
            return times.dropna().iloc[-1]
    return None


class SourceVerdict:
    """Decides, part by part, whether an hour can be read from its source. Parts are added in the order of the log.

    ``files`` is the number of the source's files, and ``passed`` that of those which are not opened for this hour.
    """

    def __init__(self, places: str, hour: datetime, note: Note, files: int, passed: int) -> None:
        self._places, self._note = places, note
        self._since, self._until = pd.Timestamp(hour), pd.Timestamp(hour + ONE_HOUR)
        self._files, self._filled = files, passed
        self._refused: list[CorruptLog] = []
        self._place: str | None = None
        self._file = PartFound(0, None, FileRemarks())
        self._told = False

    def look(self, part: SourcePart, found: PartFound) -> None:
        """Give a note about the zone of a file's times, once."""
        if part.place != self._place:
            self._end_file()
            self._place, self._file, self._told = part.place, PartFound(0, None, FileRemarks()), False
        line = self._file.remarks.and_then(found.remarks).on_zone(part.place)
        if line and not self._told:
            self._note(line)
        self._told = self._told or line is not None

    def add(self, part: SourcePart, found: PartFound) -> bool:
        """Take what was found in a part. Return whether its records count: not behind the place where its file breaks off.

        Raise :class:`CorruptLog` if the rest of a file that breaks off may have records of the hour.
        """
        self.look(part, found)
        before = self._file
        if before.refused is not None:
            return False
        last = before.last if found.last is None else found.last
        remarks = before.remarks.and_then(found.remarks)
        self._file = PartFound(before.records + found.records, last, remarks, found.refused)
        if found.refused is not None:
            if last is not None and self._since - LONGEST_FILE < last < self._until:
                raise found.refused
            self._refused.append(found.refused)
        return True

    def close(self) -> None:
        """Raise :class:`CorruptLog` if no file can be read, or if none has a record. Name the others in notes."""
        self._end_file()
        if self._refused and len(self._refused) == self._files:
            raise self._refused[0]
        if self._files and not self._filled:
            raise CorruptLog(self._places, "none of its files has a record")
        for error in self._refused:
            self._note(str(error))

    def _end_file(self) -> None:
        if self._place is None:
            return
        line = self._file.remarks.on_left_out(self._place)
        if line and self._file.refused is None:
            self._note(line)
        self._filled += self._file.records > 0 or self._place.endswith(".parquet")
        self._place = None


def records_of(parts: Iterable[SourcePart], verdict: SourceVerdict, hour: datetime) -> Iterator[RawBatch]:
    """Yield the records of parts, one after another."""
    for part in parts:
        reading = PartReading(part, hour)
        for batch in reading.batches():
            verdict.look(part, reading.found)
            yield batch
        verdict.add(part, reading.found)
    verdict.close()
