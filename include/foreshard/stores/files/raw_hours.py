"""Raw hours as Parquet: ``raw/date=YYYY-MM-DD/hour=HH.parquet``, and quarantined records in ``quarantine/…`` beside it.

A file appears whole or not at all, and says which source gave its records. Users and sessions are stored as pseudonyms; a raw
id is refused. An hour that is replaced by a different one is kept in ``replaced/…`` until the retention of raw hours.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from filecmp import cmp
from pathlib import Path
from shutil import copy2
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshard.errors import CorruptLog, MissingStageResult, RawUserId
from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.observe.batches import ACCEPTED, CODED, accepted_table, coded_texts
from foreshard.observe.pseudonym import PATTERN as PSEUDONYM_PATTERN
from foreshard.ports.access_logs import RawHour
from foreshard.stores.files.raw_spool import ParquetSpool, record_spool

_SOURCE, _DUPLICATES = b"foreshard.source", b"foreshard.duplicates"
_IDENTITIES = ("user_id", "session_id")
_FORM = {
    "compression": "zstd",
    "store_schema": False,
    "use_dictionary": ["partitionable_key", "user_id", "request_type", "location", "session_id"],
    "dictionary_pagesize_limit": 2**26,  # a column with a larger dictionary is written, and read, text by text
    "write_statistics": ["timestamp"],
}
_QUARANTINED = pa.schema([(name, pa.string()) for name in (*ACCESS_LOG_COLUMNS, "source", "reason")])


class ParquetHourStore:
    """Stores raw hours under ``data_dir``. Saving an hour again replaces it."""

    def __init__(self, data_dir: Path) -> None:
        self._raw, self._quarantine, self._replaced = (data_dir / name for name in ("raw", "quarantine", "replaced"))

    @contextmanager
    def writer(self, hour: datetime) -> Iterator[ParquetHourWriter]:
        """Yield a writer of the hour's files. They replace the hour's if :meth:`ParquetHourWriter.keep` is called."""
        places = (_path(root, hour) for root in (self._raw, self._quarantine, self._replaced))
        writer = ParquetHourWriter(self, hour, *places)
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def spool(self) -> Iterator[ParquetSpool]:
        """Yield a spool. It is deleted at the end."""
        with record_spool(self._raw) as made:
            yield made

    def save(self, hour: datetime, accepted: pd.DataFrame, quarantined: pd.DataFrame, source: str = "") -> RawHour:
        """Write the hour's files at once."""
        with self.writer(hour) as writer:
            writer.add(coded_texts(accepted_table(accepted)), quarantined)
            return writer.keep(source)

    def set_aside(self, label: str, quarantined: pd.DataFrame) -> Path:
        """Write quarantined records without an hour to ``quarantine/LABEL.parquet``."""
        file = _PartialFile(self._quarantine / f"{label}.parquet", _QUARANTINED)
        try:
            file.write(_quarantine_table(quarantined))
            file.keep()
        finally:
            file.close()
        return file.path

    def load(self, hour: datetime) -> pd.DataFrame:
        """Return the accepted records, with the standard columns and aware UTC times."""
        tables = [ACCEPTED.empty_table(), *(table.cast(ACCEPTED) for table in self.batches(hour, ACCEPTED.names))]
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
        return frame.astype({"timestamp": "datetime64[ns, UTC]", "cost": "float64"})

    def batches(self, hour: datetime, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of the accepted records, a row group at a time, texts as dictionaries."""
        path = _path(self._raw, hour)
        texts = [name for name in names if pa.types.is_string(ACCEPTED.field(name).type)]
        try:
            with pq.ParquetFile(path, read_dictionary=texts) as file:
                for number in range(file.num_row_groups):
                    yield coded_texts(file.read_row_group(number, list(names)))
        except FileNotFoundError:
            raise _missing(hour) from None
        except (OSError, pa.ArrowException) as error:
            raise CorruptLog(str(path), "it can't be read; extract the hour again") from error

    def describe(self, hour: datetime) -> RawHour:
        """Return the hour's paths and numbers of records."""
        accepted, quarantined = _path(self._raw, hour), _path(self._quarantine, hour)
        if not accepted.exists():
            raise _missing(hour)
        beside = quarantined if quarantined.exists() else None
        found = _metadata(accepted)
        about = found.metadata or {}
        source, duplicates = about.get(_SOURCE, b"").decode(), int(about.get(_DUPLICATES, b"0"))
        bad = _metadata(beside).num_rows if beside else 0
        return RawHour(hour, accepted, beside, int(found.num_rows), int(bad), source, duplicates)

    def reasons(self, hour: datetime) -> dict[str, int]:
        """Return the numbers of quarantined records by reason."""
        path = _path(self._quarantine, hour)
        if not path.exists():
            return {}
        try:
            reasons = pq.read_table(path, columns=["reason"]).column(0).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise CorruptLog(str(path), "it can't be read; extract the hour again") from error
        return dict(Counter(reasons))


def _path(root: Path, hour: datetime) -> Path:
    return root / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}.parquet"


def _missing(hour: datetime) -> MissingStageResult:
    return MissingStageResult("raw hour", hour.isoformat(), "the extraction (foreshard observe hour)")


def _metadata(path: Path) -> Any:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise CorruptLog(str(path), "it can't be read; extract the hour again") from error


class ParquetHourWriter:
    """Writes an hour's records batch by batch to files beside the hour's. Nothing changes before :meth:`keep`."""

    def __init__(self, store: ParquetHourStore, hour: datetime, accepted: Path, quarantined: Path, replaced: Path) -> None:
        self._store, self._hour, self._replaced = store, hour, replaced
        self._accepted = _PartialFile(accepted, CODED)
        self._quarantined = _PartialFile(quarantined, _QUARANTINED)

    @property
    def records(self) -> int:
        """The number of records so far, accepted and quarantined."""
        return self._accepted.rows + self._quarantined.rows

    def add(self, accepted: pa.Table, quarantined: pd.DataFrame) -> None:
        """Write a batch. Raise :class:`RawUserId` if a user is not a pseudonym."""
        self._accepted.write(accepted)
        if len(quarantined):
            self._quarantined.write(_quarantine_table(quarantined))

    def keep(self, source: str = "", duplicates: int = 0) -> RawHour:
        """Replace the hour's files. The quarantine comes first, so a saved hour always has its quarantine."""
        about = {_SOURCE: source.encode(), _DUPLICATES: str(duplicates).encode()}
        if self._quarantined.rows:
            self._quarantined.keep(about, self._replaced.with_suffix(".quarantine.parquet"))
        else:
            _keep_copy(self._quarantined.path, self._replaced.with_suffix(".quarantine.parquet"))
            self._quarantined.path.unlink(missing_ok=True)
        self._accepted.write(coded_texts(ACCEPTED.empty_table()))
        self._accepted.keep(about, self._replaced)
        return self._store.describe(self._hour)

    def close(self) -> None:
        """Delete what was not kept."""
        self._accepted.close()
        self._quarantined.close()


class _PartialFile:
    """A Parquet file that appears whole or not at all."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self._schema, self.rows = path, schema, 0
        self._writer: pq.ParquetWriter | None = None
        self._partial: Path | None = None

    def write(self, table: pa.Table) -> None:
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

    def keep(self, about: dict[bytes, bytes] | None = None, replaced: Path | None = None) -> None:
        """Replace the file. A different file that it replaces is kept beside ``replaced``, with its time in its name."""
        if self._writer is None or self._partial is None:
            return
        self._writer.add_key_value_metadata(about or {})
        self._writer.close()
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.chmod(0o640)
        if replaced is not None and not (self.path.exists() and cmp(self.path, self._partial, shallow=False)):
            _keep_copy(self.path, replaced)
        self._partial.replace(self.path)
        self._writer = self._partial = None

    def close(self) -> None:
        if self._writer is not None and self._partial is not None:
            self._writer.close()
            self._partial.unlink(missing_ok=True)
            self._writer = self._partial = None


def _quarantine_table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame[_QUARANTINED.names], schema=_QUARANTINED, preserve_index=False, safe=False)


def _keep_copy(path: Path, replaced: Path) -> None:
    """Keep a file that is replaced, as a link, with the time of its last change in its name."""
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
