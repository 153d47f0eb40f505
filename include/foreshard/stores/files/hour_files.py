"""The Parquet files of raw hours.

An hour is one file, its head, which appears whole or not at all. The head has the records; or it names part files that have
them, which executors of a cluster have written. What no head names does not count.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from filecmp import cmp
from hashlib import blake2b
from pathlib import Path
from shutil import copy2

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshard.errors import CorruptLog, RawUserId
from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.observe.pseudonym import PATTERN as PSEUDONYM_PATTERN

_SOURCE, _DUPLICATES, _PARTS = b"foreshard.source", b"foreshard.duplicates", b"foreshard.parts"
_IDENTITIES = ("user_id", "session_id")
_FORM = {
    "compression": "zstd",
    "store_schema": False,
    "use_dictionary": ["partitionable_key", "user_id", "request_type", "location", "session_id"],
    "dictionary_pagesize_limit": 2**26,  # a column with a larger dictionary is written, and read, text by text
    "write_statistics": ["timestamp"],
}
QUARANTINED = pa.schema([(name, pa.string()) for name in (*ACCESS_LOG_COLUMNS, "source", "reason")])


@dataclass(frozen=True)
class WrittenPart:
    """A part file that waits: its number of records, and a digest of its bytes."""

    path: Path
    rows: int
    digest: str


@dataclass(frozen=True)
class HourHead:
    """What a head says: the source, the duplicates that were dropped, the number of records, and the files that have them."""

    source: str
    duplicates: int
    rows: int
    files: tuple[Path, ...]

    @classmethod
    def read(cls, path: Path) -> HourHead:
        """Read a head. Raise :class:`CorruptLog` if it can't be read, or if one of its parts is missing."""
        try:
            found = pq.read_metadata(path)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path) from error
        about = found.metadata or {}
        parts = [(path.parent / name, int(rows)) for name, rows in json.loads(about.get(_PARTS, b"[]"))]
        for part, _ in parts:
            if not part.exists():
                raise unreadable(part)
        source, duplicates = about.get(_SOURCE, b"").decode(), int(about.get(_DUPLICATES, b"0"))
        files = tuple(part for part, _ in parts) or (path,)
        return cls(source, duplicates, int(found.num_rows) + sum(rows for _, rows in parts), files)


def unreadable(path: Path) -> CorruptLog:
    """Return the error about a file of an hour that can't be read."""
    return CorruptLog(str(path), "it can't be read; extract the hour again")


class HourFile:
    """A Parquet file that appears whole or not at all. Raw ids are refused."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self._schema, self.rows = path, schema, 0
        self._writer: pq.ParquetWriter | None = None
        self._partial: Path | None = None
        self._parts: list[tuple[str, int]] = []

    def write(self, table: pa.Table) -> None:
        """Append records. Raise :class:`RawUserId` if a user or a session is not a pseudonym."""
        for name in _IDENTITIES:
            _refuse_raw_ids(table.column(name))
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".part")
            os.close(handle)
            self._partial = Path(name)
            self._writer = pq.ParquetWriter(self._partial, self._schema, **_FORM)
        if len(table):
            self._writer.write_table(table.cast(self._schema))
            self.rows += len(table)

    def name_parts(self, parts: Sequence[WrittenPart]) -> None:
        """Make this the head of part files, in their order. They move to the folder beside it, under names of their digests."""
        folder = self.path.with_suffix(".parts")
        self.write(self._schema.empty_table())
        for part in parts:
            folder.mkdir(exist_ok=True)
            kept = folder / f"{len(self._parts):05}-{part.digest}.parquet"
            part.path.replace(kept)
            self._parts.append((str(kept.relative_to(self.path.parent)), part.rows))

    def keep(self, source: str = "", duplicates: int = 0, replaced: Path | None = None) -> None:
        """Replace the file. A different file that it replaces is kept beside ``replaced``, with its time in its name."""
        if self._writer is None or self._partial is None:
            return
        about = {_SOURCE: source.encode(), _DUPLICATES: str(duplicates).encode()} if replaced else {}
        if self._parts:
            about[_PARTS] = json.dumps(self._parts).encode()
        self._writer.add_key_value_metadata(about)
        self._writer.close()
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.chmod(0o640)
        if replaced is not None and not (self.path.exists() and cmp(self.path, self._partial, shallow=False)):
            keep_copy(self.path, replaced)
        self._partial.replace(self.path)
        self._writer = self._partial = None

    def close(self) -> None:
        """Delete what was not kept."""
        if self._writer is not None and self._partial is not None:
            self._writer.close()
            self._partial.unlink(missing_ok=True)
            self._writer = self._partial = None

    def as_part(self) -> WrittenPart | None:
        """Keep the file as a part that waits for its head; None without records."""
        if not self.rows:
            self.close()
            return None
        self.keep()
        with self.path.open("rb") as file:
            digest = blake2b(digest_size=16)
            while block := file.read(2**20):
                digest.update(block)
        return WrittenPart(self.path, self.rows, digest.hexdigest())


def quarantine_table(frame: pd.DataFrame) -> pa.Table:
    """Return quarantined records as they are written."""
    return pa.Table.from_pandas(frame[QUARANTINED.names], schema=QUARANTINED, preserve_index=False, safe=False)


def keep_copy(path: Path, replaced: Path) -> None:
    """Keep a file that is replaced, as a link, with the time of its last change in its name. Its parts stay where they are."""
    if not path.exists():
        return
    kept = replaced.with_name(f"{replaced.name.removesuffix('.parquet')}.{path.stat().st_mtime_ns}.parquet")
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        try:
            kept.hardlink_to(path)
        except OSError:
            copy2(path, kept)


def _refuse_raw_ids(column: pa.ChunkedArray) -> None:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    names = pa.chunked_array([chunk.dictionary for chunk in column.chunks], column.type.value_type)
    hidden = pc.match_substring_regex(names, f"^(?:{PSEUDONYM_PATTERN})$")
    raw = names.filter(pc.invert(pc.fill_null(hidden, True)))
    if len(raw):
        raise RawUserId(len(pc.unique(raw)))
