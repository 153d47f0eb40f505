"""Raw hours as Parquet: ``raw/date=YYYY-MM-DD/hour=HH.parquet``, and quarantined records in ``quarantine/…`` beside it.

A file appears whole or not at all. Users are stored as pseudonyms; a raw id is refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foreshard.errors import CorruptLog, MissingStageResult, RawUserId
from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.observe.batches import ACCEPTED, accepted_table
from foreshard.observe.pseudonym import PATTERN as PSEUDONYM_PATTERN
from foreshard.ports.stages import RawHour
from foreshard.stores.files.raw_spool import ParquetSpool, record_spool

_QUARANTINED = pa.schema([(name, pa.string()) for name in (*ACCESS_LOG_COLUMNS, "source", "reason")])


class ParquetHourStore:
    """Stores raw hours under ``data_dir``. Saving an hour again replaces it."""

    def __init__(self, data_dir: Path) -> None:
        self._raw, self._quarantine = data_dir / "raw", data_dir / "quarantine"

    @contextmanager
    def writer(self, hour: datetime) -> Iterator[ParquetHourWriter]:
        """Yield a writer of the hour's files. They replace the hour's if :meth:`ParquetHourWriter.keep` is called."""
        writer = ParquetHourWriter(self, hour, _path(self._raw, hour), _path(self._quarantine, hour))
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def spool(self) -> Iterator[ParquetSpool]:
        """Yield a spool. It is deleted at the end."""
        with record_spool(self._raw) as made:
            yield made

    def save(self, hour: datetime, accepted: pd.DataFrame, quarantined: pd.DataFrame) -> RawHour:
        """Write the hour's files at once."""
        with self.writer(hour) as writer:
            writer.add(accepted_table(accepted), quarantined)
            return writer.keep()

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
        frame: pd.DataFrame = self.columns(hour, ACCEPTED.names).cast(ACCEPTED).to_pandas()
        return frame.astype({"timestamp": "datetime64[ns, UTC]", "cost": "float64"})

    def columns(self, hour: datetime, names: Sequence[str], every: int = 1) -> pa.Table:
        """Return some columns of every n-th accepted record, texts as dictionaries.

        A column is read and coded before the next. All chunks of a text share one dictionary.
        """
        path = _path(self._raw, hour)
        try:
            with pq.ParquetFile(path) as file:
                return pa.table({name: _column(file, name, every) for name in names})
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
        return RawHour(hour, accepted, beside, _rows(accepted), _rows(beside) if beside else 0)


def _column(file: pq.ParquetFile, name: str, every: int) -> pa.ChunkedArray:
    values = file.read(columns=[name]).column(0)
    values = values if every == 1 else values.take(pa.array(range(0, len(values), every), pa.int64()))
    return values.dictionary_encode() if pa.types.is_string(values.type) else values


def _path(root: Path, hour: datetime) -> Path:
    return root / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}.parquet"


def _missing(hour: datetime) -> MissingStageResult:
    return MissingStageResult("raw hour", hour.isoformat(), "the extraction (foreshard observe hour)")


def _rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise CorruptLog(str(path), "it can't be read; extract the hour again") from error


class ParquetHourWriter:
    """Writes an hour's records batch by batch to files beside the hour's. Nothing changes before :meth:`keep`."""

    def __init__(self, store: ParquetHourStore, hour: datetime, accepted: Path, quarantined: Path) -> None:
        self._store, self._hour = store, hour
        self._accepted = _PartialFile(accepted, ACCEPTED)
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

    def keep(self) -> RawHour:
        """Replace the hour's files. The quarantine comes first, so a saved hour always has its quarantine."""
        if self._quarantined.rows:
            self._quarantined.keep()
        else:
            self._quarantined.path.unlink(missing_ok=True)
        self._accepted.write(ACCEPTED.empty_table())
        self._accepted.keep()
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
        _refuse_raw_users(table.column("user_id"))
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".part")
            os.close(handle)
            self._partial = Path(name)
            self._writer = pq.ParquetWriter(self._partial, self._schema, compression="zstd")
        if len(table):
            self._writer.write_table(table)
            self.rows += len(table)

    def keep(self) -> None:
        if self._writer is None or self._partial is None:
            return
        self._writer.close()
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.chmod(0o640)
        self._partial.replace(self.path)
        self._writer = self._partial = None

    def close(self) -> None:
        if self._writer is not None and self._partial is not None:
            self._writer.close()
            self._partial.unlink(missing_ok=True)
            self._writer = self._partial = None


def _quarantine_table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame[_QUARANTINED.names], schema=_QUARANTINED, preserve_index=False, safe=False)


def _refuse_raw_users(users: pa.ChunkedArray) -> None:
    hidden = pc.match_substring_regex(users, f"^(?:{PSEUDONYM_PATTERN})$")
    raw = users.filter(pc.invert(pc.fill_null(hidden, True)))
    if len(raw):
        raise RawUserId(len(pc.unique(raw)))
