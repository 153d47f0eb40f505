"""Raw hours as Parquet: ``raw/date=YYYY-MM-DD/hour=HH.parquet``, and quarantined records in ``quarantine/…`` beside it.

A file appears whole or not at all, and says which source gave its records. If a cluster has read the hour, the file names the
parts in ``hour=HH.parts/`` that have the records. Users and sessions are stored as pseudonyms; a raw
id is refused. An hour that is replaced by a different one is kept in ``replaced/…`` until the retention of raw hours.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.errors import MissingStageResult
from foreshard.observe.batches import ACCEPTED, CODED, accepted_table, coded_texts
from foreshard.ports.access_logs import RawHour
from foreshard.stores.files.hour_files import (
    QUARANTINED,
    HourFile,
    HourHead,
    WrittenPart,
    keep_copy,
    quarantine_table,
    unreadable,
)
from foreshard.stores.files.quarantined import reasons_in
from foreshard.stores.files.raw_spool import ParquetSpool, record_spool


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

    def set_aside(self, label: str, quarantined: Iterable[pd.DataFrame]) -> Path:
        """Write quarantined records without an hour to ``quarantine/LABEL.parquet``."""
        file = HourFile(self._quarantine / f"{label}.parquet", QUARANTINED)
        try:
            for some in quarantined:
                file.write(quarantine_table(some))
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
        texts = [name for name in names if pa.types.is_string(ACCEPTED.field(name).type)]
        for path in self.describe(hour).files:
            try:
                with pq.ParquetFile(path, read_dictionary=texts) as file:
                    for number in range(file.num_row_groups):
                        yield coded_texts(file.read_row_group(number, list(names)), distinct=True)
            except FileNotFoundError:
                raise _missing(hour) from None
            except (OSError, pa.ArrowException) as error:
                raise unreadable(path) from error

    def describe(self, hour: datetime) -> RawHour:
        """Return the hour's paths and numbers of records."""
        accepted, quarantined = _path(self._raw, hour), _path(self._quarantine, hour)
        if not accepted.exists():
            raise _missing(hour)
        head = HourHead.read(accepted)
        beside = quarantined if quarantined.exists() else None
        bad = HourHead.read(beside).rows if beside else 0
        parts = () if head.files == (accepted,) else head.files
        return RawHour(hour, accepted, beside, head.rows, bad, head.source, head.duplicates, parts)

    def reasons(self, hour: datetime) -> dict[str, int]:
        """Return the numbers of quarantined records by reason."""
        head, counts = _path(self._quarantine, hour), Counter[str]()
        for path in HourHead.read(head).files if head.exists() else ():
            try:
                counts.update(reasons_in(path))
            except (OSError, pa.ArrowException) as error:
                raise unreadable(path) from error
        return dict(counts)


def _path(root: Path, hour: datetime) -> Path:
    return root / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}.parquet"


def _missing(hour: datetime) -> MissingStageResult:
    return MissingStageResult("raw hour", hour.isoformat(), "the extraction (foreshard observe hour)")


class _HourFiles:
    """The file of an hour's accepted records, and that of its quarantined ones."""

    def __init__(self, accepted: Path, quarantined: Path) -> None:
        self._accepted, self._quarantined = HourFile(accepted, CODED), HourFile(quarantined, QUARANTINED)

    def add(self, accepted: pa.Table, quarantined: pd.DataFrame) -> None:
        """Write a batch. Raise :class:`RawUserId` if a user is not a pseudonym."""
        self._accepted.write(accepted)
        if len(quarantined):
            self._quarantined.write(quarantine_table(quarantined))

    def close(self) -> None:
        """Delete what was not kept."""
        self._accepted.close()
        self._quarantined.close()


class ParquetHourWriter(_HourFiles):
    """Writes an hour's records batch by batch to files beside the hour's. Nothing changes before :meth:`keep`."""

    def __init__(self, store: ParquetHourStore, hour: datetime, accepted: Path, quarantined: Path, replaced: Path) -> None:
        super().__init__(accepted, quarantined)
        self._store, self._hour, self._replaced = store, hour, replaced
        self._parts: list[HourPart] = []
        self._folder: Path | None = None

    @property
    def records(self) -> int:
        """The number of records so far, accepted and quarantined."""
        return self._accepted.rows + self._quarantined.rows + sum(part.records for part in self._parts)

    def folder(self) -> Path:
        """Return a folder where executors write parts of the hour. It is deleted at the end."""
        if self._folder is None:
            day = self._accepted.path.parent
            day.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f"{self._accepted.path.stem}.reading-", dir=day))
        return self._folder

    def add_part(self, part: HourPart) -> None:
        """Take a part that waits in the folder. Parts are added in the order of the log."""
        self._parts.append(part)

    def keep(self, source: str = "", duplicates: int = 0) -> RawHour:
        """Replace the hour's files. The quarantine comes first, so a saved hour always has its quarantine."""
        bad = [part.quarantined for part in self._parts if part.quarantined]
        good = [part.accepted for part in self._parts if part.accepted]
        if bad:
            self._quarantined.name_parts(bad)
        if bad or self._quarantined.rows:
            self._quarantined.keep(source, duplicates, self._replaced.with_suffix(".quarantine.parquet"))
        else:
            keep_copy(self._quarantined.path, self._replaced.with_suffix(".quarantine.parquet"))
            self._quarantined.path.unlink(missing_ok=True)
        self._accepted.name_parts(good)
        self._accepted.keep(source, duplicates, self._replaced)
        return self._store.describe(self._hour)

    def close(self) -> None:
        """Delete what was not kept."""
        super().close()
        if self._folder is not None:
            rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True)
class HourPart:
    """A part of an hour that waits: its accepted and its quarantined records (None: no record)."""

    accepted: WrittenPart | None
    quarantined: WrittenPart | None

    @property
    def records(self) -> int:
        """All its records."""
        return sum(part.rows for part in (self.accepted, self.quarantined) if part)


class HourPartWriter(_HourFiles):
    """Writes a part of an hour into a folder, under a name that nothing else has."""

    def __init__(self, folder: Path) -> None:
        name = uuid4().hex
        super().__init__(folder / f"{name}.parquet", folder / f"{name}.quarantine.parquet")

    def done(self) -> HourPart:
        """Finish the part."""
        return HourPart(self._accepted.as_part(), self._quarantined.as_part())
