"""What the stages read and save. Every ``save`` replaces what stood for the same hour, so that a stage may run twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pandas as pd

from foreshard.model import (
    ONE_HOUR,
    ForecastBatch,
    GateResult,
    HourCounts,
    HourTally,
    Location,
    Partition,
    PartitionLoad,
    PartitionScore,
    PartitionState,
    Plan,
    SeriesMatrix,
)


class AccessLogSource(Protocol):
    """Where raw access records come from: a Kafka topic, Parquet files."""

    def read_hour(self, hour: datetime) -> Iterator[pd.DataFrame]:
        """Yield the records that claim ``hour``, in batches with the standard columns and their values as they came."""


@dataclass(frozen=True, slots=True)
class RawHour:
    """Where an hour's accepted and quarantined records were saved, and how many there are."""

    hour: datetime
    accepted_path: Path
    quarantine_path: Path | None
    accepted: int
    quarantined: int


class RawHourStore(Protocol):
    """Raw hours as Parquet, pseudonymised; bad records beside them with a ``reason`` column."""

    def save(self, hour: datetime, accepted: pd.DataFrame, quarantined: pd.DataFrame) -> RawHour: ...

    def set_aside(self, label: str, quarantined: pd.DataFrame) -> Path:
        """Keep quarantined records that belong to no hour under ``label``, in place of what stood there."""

    def load(self, hour: datetime) -> pd.DataFrame:
        """Return the accepted records; raise :class:`foreshard.errors.MissingStageResult` where there are none."""

    def describe(self, hour: datetime) -> RawHour: ...


class TallyStore(Protocol):
    """Hourly key load and co-access (``key_load``, ``co_access``)."""

    def save(self, tallies: Sequence[HourTally]) -> None:
        """Replace each tally's hour, whole; an hour without accesses is remembered as counted."""

    def hours(self, since: datetime, until: datetime) -> tuple[datetime, ...]:
        """The counted hours in [since, until), in order."""

    def key_load(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Rows with ``KEY_LOAD_COLUMNS`` for the hours in [since, until)."""

    def co_access(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Pairs summed over [since, until), heaviest first: ``key_a, key_b, weight, distinct_users``.

        Pairs that fewer than k distinct users touched, over all these hours together, are left out.
        """

    def counts(self, hours: Sequence[datetime]) -> tuple[HourCounts, ...]:
        """How many accesses and keys each of ``hours`` had, in order; hours that were not counted are left out."""


class GateStore(Protocol):
    """What the quality gates found (``gates``): the latest result per gate and hour."""

    def save(self, result: GateResult) -> None: ...

    def load(self, gate: str, hour: datetime) -> GateResult:
        """Raise :class:`foreshard.errors.MissingStageResult` where the gate was not asked for ``hour``."""

    def recent(self, limit: int) -> tuple[GateResult, ...]:
        """The last results, newest hour first."""


@dataclass(frozen=True)
class CountedLog:
    """``load`` has one row per ``hour × partitionable_key × location`` with ``cost``; ``first`` to ``last`` are its hours.

    ``left_out`` says how many records could not be counted, by reason; ``assumed``, how many of each request type without a
    weight were taken to cost 1.
    """

    load: pd.DataFrame
    first: datetime
    last: datetime
    left_out: Mapping[str, int]
    assumed: Mapping[str, int] = field(default_factory=dict)

    def hours(self) -> list[datetime]:
        """Every hour from the first to the last; a log file is taken as complete between them."""
        return [self.first + i * ONE_HOUR for i in range(int((self.last - self.first) / ONE_HOUR) + 1)]


class LogCounter(Protocol):
    """Counts an access log that stands in one file, without a database."""

    def count(self, path: Path) -> CountedLog:
        """Raise :class:`foreshard.errors.CorruptLog` where it cannot be read."""


class SeriesStore(Protocol):
    """The series that an hour's forecasts are made from, one file per hour (``data_dir/series``)."""

    def save(self, series: SeriesMatrix, chunk_keys: int) -> int:
        """Replace the hour's file in one step; return its number of chunks of ``chunk_keys`` keys."""

    def load_chunk(self, hour: datetime, chunk: int) -> SeriesMatrix:
        """The keys of one chunk; raise :class:`foreshard.errors.MissingStageResult` where it was not prepared."""

    def load(self, hour: datetime) -> Iterator[SeriesMatrix]:
        """Yield every chunk of the hour's series, in order; raise :class:`foreshard.errors.MissingStageResult` without any."""

    def save_totals(self, hour: datetime, totals: pd.DataFrame) -> None:
        """Replace the totals of the history: ``count`` and ``cost`` per partitionable_key × location × request_type."""

    def load_totals(self, hour: datetime) -> pd.DataFrame:
        """Return the totals; raise :class:`foreshard.errors.MissingStageResult` without any."""


class ForecastStore(Protocol):
    """Forecasts per key (``forecasts``), saved chunk by chunk."""

    def begin(self, hour: datetime, chunks: int) -> None:
        """Forget what stood for ``hour`` beyond ``chunks`` chunks."""

    def save_chunk(self, chunk: int, batch: ForecastBatch) -> None: ...

    def load(self, hour: datetime) -> ForecastBatch:
        """All chunks of ``hour`` as one; raise :class:`foreshard.errors.MissingStageResult` while any is missing."""


class AccuracyStore(Protocol):
    """How good past forecasts were, by model (``forecast_accuracy``)."""

    def save(self, hour: datetime, made_for: datetime, models: Mapping[str, Mapping[str, float | None]]) -> None:
        """Replace the figures of the forecast made for ``made_for``, whose horizon ended with ``hour``."""

    def latest(self, count: int = 1) -> list[tuple[datetime, Mapping[str, Mapping[str, float | None]]]]:
        """The newest hours and their figures by model, newest first."""


class ScoreStore(Protocol):
    """Partition scores (``scores``)."""

    def save(self, hour: datetime, scores: Sequence[PartitionScore]) -> None: ...

    def load(self, hour: datetime) -> tuple[PartitionScore, ...]: ...


class PlanStore(Protocol):
    """The hour's plan (``plans``)."""

    def save(self, plan: Plan) -> None: ...

    def load(self, hour: datetime) -> Plan: ...


class PartitionRegistry(Protocol):
    """Partition Metadata and locations (``partitions``, ``locations``)."""

    def register(self, partitions: Sequence[Partition], locations: Sequence[Location]) -> None:
        """Add or replace; a partition known already keeps its loads and its state. Raise where one makes no sense."""

    def set_state(self, partition_id: str, state: PartitionState) -> None:
        """Drain or reactivate a partition; raise :class:`foreshard.errors.UnknownPartition`."""

    def partitions(self) -> tuple[Partition, ...]: ...

    def partition(self, partition_id: str) -> Partition:
        """Return one partition; raise :class:`foreshard.errors.UnknownPartition`."""

    def locations(self) -> tuple[Location, ...]: ...

    def save_round_trips(self, origin: str, milliseconds: Mapping[str, float], measured_at: datetime) -> None:
        """Save measured round trips to locations; raise :class:`foreshard.errors.ConfigurationError`."""

    def set_predicted_load(self, predicted: dict[str, float]) -> None: ...


class LoadStore(Protocol):
    """What the load reporters measured last (``partition_load``); a report also updates the partition's CurrentLoad."""

    def report(self, loads: Sequence[PartitionLoad]) -> None: ...

    def current(self) -> tuple[PartitionLoad, ...]: ...


class Retention(Protocol):
    """Forgets what is old."""

    def forget(self, files: datetime, tallies: datetime, forecasts: datetime, *, dry_run: bool = False) -> dict[str, int]:
        """Delete files, tallies and forecasts of hours before these; return how many files and documents of each kind."""
