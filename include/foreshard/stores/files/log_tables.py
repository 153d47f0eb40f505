"""Reads one log file in batches, with the standard columns: by its format, its source's mapping, and the zone of its times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.observe.batches import RawBatch, plain_frame
from foreshard.observe.mapping import mapped
from foreshard.observe.zones import has_zoneless, in_zone
from foreshard.settings import SourceMapping
from foreshard.stores.files.log_formats import UNREADABLE, Piece, raw_batches

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


@dataclass(frozen=True, slots=True)
class FileRemarks:
    """What people should know of a file. ``zoneless``: whether its first times name no zone; None if it has no record.

    ``left_out`` counts the records that the mapping does not name.
    """

    zoneless: bool | None = None
    left_out: int = 0

    def and_then(self, more: FileRemarks) -> FileRemarks:
        """Return the remarks on this part of a file and the next one."""
        first = more.zoneless if self.zoneless is None else self.zoneless
        return FileRemarks(first, self.left_out + more.left_out)

    def on_zone(self, place: str) -> str | None:
        """Return a line for people about the zone of the times of the file at ``place``."""
        if not self.zoneless:
            return None
        return f"{place}: times without a zone are read as UTC; FORESHARD_OBSERVE__ACCESS_LOG_ZONE names another"

    def on_left_out(self, place: str) -> str | None:
        """Return a line for people about the records of the file at ``place`` that are left out."""
        if not self.left_out:
            return None
        return f"{place}: {self.left_out:,} records are left out, because the mapping's `only` or `keys` do not name them"


class FileTables:
    """A log file in batches. ``remarks``: what was seen so far."""

    def __init__(self, path: Path, form: SourceForm = PLAIN) -> None:
        self._path, self._form = path, form
        self.remarks = FileRemarks()

    def batches(
        self, since: datetime | None = None, until: datetime | None = None, piece: Piece | None = None
    ) -> Iterator[RawBatch]:
        """Yield non-empty batches: tables if its columns have types, else frames. Raise :class:`CorruptLog`.

        Row groups of a Parquet file without a record in [since, until), by its own statistics, are skipped. ``piece``: only
        this piece of the file is read. If times of the first batch have no zone and the source names none, they are in UTC.
        """
        mapping = self._form.mapping
        try:
            for raw in raw_batches(self._path, since, until, mapping, piece=piece):
                batch, left_out = raw, 0
                if mapping is not None:
                    known = mapped(raw if isinstance(raw, pd.DataFrame) else plain_frame(raw), mapping)
                    batch, left_out = known.records, int((~known.kept).sum())
                zoneless = self._look(batch) if len(batch) and self.remarks.zoneless is None else None
                self.remarks = self.remarks.and_then(FileRemarks(zoneless, left_out))
                if len(batch):
                    yield batch if self._form.zone is None else in_zone(batch, self._form.zone)
        except UNREADABLE as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CorruptLog(str(self._path), f"it can't be read ({said})") from error

    def _look(self, batch: RawBatch) -> bool:
        return self._form.zone is None and has_zoneless(batch["timestamp"])


def read_tables(path: Path, form: SourceForm = PLAIN, note: Note = lambda _line: None) -> Iterator[RawBatch]:
    """Yield a whole log file in non-empty batches. Raise :class:`CorruptLog`."""
    file, looked = FileTables(path, form), False
    for batch in file.batches():
        if not looked and (line := file.remarks.on_zone(str(path))):
            note(line)
        looked = True
        yield batch
    if line := file.remarks.on_left_out(str(path)):
        note(line)
