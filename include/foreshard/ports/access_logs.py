"""Ports of the access log: its sources, the raw hours that are read from them, and logs in files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa

from foreshard.model import ONE_HOUR


def _ignored(_line: str) -> None:
    """Takes a note and drops it."""


LogPlace = Path | str
"""Where a log is: a file, folder or pattern; or an address such as ``s3://bucket/logs`` or ``mongodb://host/db``."""


class AccessLogSource(Protocol):
    """The source of the access log: a Kafka topic, files, objects, or a profiler."""

    @property
    def name(self) -> str:
        """The name of the source in the hours that it gave."""

    def read_hour(self, hour: datetime, note: Callable[[str], None] = _ignored) -> Iterator[pd.DataFrame | pa.Table]:
        """Yield the records of ``hour`` in batches, with the standard columns and unchanged values.

        ``note`` is called with lines for people, such as a file that was left out.
        """

    def holds_whole(self, hour: datetime) -> bool:
        """Return whether the source still has the whole hour: a topic's retention deletes the oldest records."""


@dataclass(frozen=True, slots=True)
class RawHour:
    """The files of an hour's accepted and quarantined records, their numbers of records, and the source that gave them.

    ``duplicates`` of records are dropped. ``parts``: the files that ``accepted_path`` names, if it does not have the records
    itself. ``before``: the records of the hour that this one replaced. ``notes`` are for people.
    """

    hour: datetime
    accepted_path: Path
    quarantine_path: Path | None
    accepted: int
    quarantined: int
    source: str = ""
    duplicates: int = 0
    parts: tuple[Path, ...] = ()
    before: int | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def records(self) -> int:
        """All records that were read."""
        return self.accepted + self.quarantined + self.duplicates

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that have the accepted records, in order."""
        return self.parts or (self.accepted_path,)


class RawHourWriter(Protocol):
    """Writes an hour batch by batch. Nothing is saved before ``keep``."""

    @property
    def records(self) -> int:
        """The number of records so far, accepted and quarantined."""

    def add(self, accepted: pa.Table, quarantined: pd.DataFrame) -> None:
        """Write a batch: clean records with pseudonyms (:data:`foreshard.observe.batches.ACCEPTED`), and quarantined ones."""

    def folder(self) -> Path:
        """Return a folder where executors of a cluster write parts of the hour. It is deleted at the end."""

    def add_part(self, part: Any) -> None:
        """Take a part that waits in the folder. Parts are added in the order of the log."""

    def keep(self, source: str = "", duplicates: int = 0) -> RawHour:
        """Replace the hour by what was written. A different hour that is replaced is kept for the retention."""


class RecordSpool(Protocol):
    """Records of many hours, in any order, on disk until their hours are saved."""

    def add(self, accepted: pa.Table) -> None: ...

    def add_quarantined(self, quarantined: pd.DataFrame, hours: Iterable[datetime | None]) -> None:
        """Append quarantined records, with the hour of each; None: its time can't be read."""

    def hours(self, hours: Sequence[datetime]) -> Iterator[pa.Table]:
        """Yield the records of each of ``hours`` (ascending), by time. The records of these hours are in memory at once."""

    def batches(self, hour: datetime) -> Iterator[pa.Table]:
        """Yield the records of an hour, some at a time, in the order in which they were added."""

    def quarantined(self, hours: Sequence[datetime]) -> Iterator[tuple[datetime, pd.DataFrame]]:
        """Yield the quarantined records of ``hours``, some of one hour at a time."""

    def quarantined_besides(self, hours: Sequence[datetime]) -> Iterator[pd.DataFrame]:
        """Yield the quarantined records of no hour, and of other ``hours``, some at a time."""


class RawHourStore(Protocol):
    """Pseudonymised raw hours as Parquet. Quarantined records are saved separately, with a ``reason`` column."""

    def writer(self, hour: datetime) -> AbstractContextManager[RawHourWriter]:
        """Yield a writer of the hour. Records that it has not kept are dropped at the end."""

    def save(self, hour: datetime, accepted: pd.DataFrame, quarantined: pd.DataFrame) -> RawHour: ...

    def set_aside(self, label: str, quarantined: Iterable[pd.DataFrame]) -> Path:
        """Save quarantined records without an hour, given in parts, under ``label``. Replaces earlier ones."""

    def load(self, hour: datetime) -> pd.DataFrame:
        """Return the accepted records. Raise :class:`foreshard.errors.MissingStageResult` if the hour was not saved."""

    def spool(self) -> AbstractContextManager[RecordSpool]:
        """Yield a spool. It is deleted at the end."""

    def batches(self, hour: datetime, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of the accepted records, some at a time, texts as dictionaries."""

    def describe(self, hour: datetime) -> RawHour: ...

    def reasons(self, hour: datetime) -> Mapping[str, int]:
        """Return the numbers of the hour's quarantined records by reason."""


@dataclass(frozen=True)
class FieldSample:
    """The ``form`` of a log file (a format of a mapping), and some values of each of its fields."""

    form: str
    values: dict[str, list[Any]]


@dataclass(frozen=True)
class CountedLog:
    """A log file's load: one row per ``hour × partitionable_key × location`` with ``cost``.

    The log covers the hours ``first`` to ``last``. ``left_out`` counts the records that could not be counted, by reason.
    ``assumed`` counts the records that were assumed to cost 1, by request type, because the type has no weight.
    """

    load: pd.DataFrame
    first: datetime
    last: datetime
    left_out: Mapping[str, int]
    assumed: Mapping[str, int] = field(default_factory=dict)

    def hours(self) -> list[datetime]:
        """Return every hour from the first to the last. A log file is assumed to be complete between them."""
        return [self.first + i * ONE_HOUR for i in range(int((self.last - self.first) / ONE_HOUR) + 1)]


class LogCounter(Protocol):
    """Counts an access log in a file, without a database."""

    def count(self, path: Path) -> CountedLog:
        """Return the log's load. Raise :class:`foreshard.errors.CorruptLog` if it cannot be read."""
