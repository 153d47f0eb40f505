"""Ports of the stages behind the access log. Every ``save`` replaces the same hour's result, so a stage can run again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pandas as pd

from foreshard.model import (
    Acceptance,
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


class TallyStore(Protocol):
    """Hourly key load and co-access (``key_load``, ``co_access``)."""

    def save(self, tallies: Sequence[HourTally]) -> None:
        """Replace the tallies of these hours. An hour without accesses is recorded as counted."""

    def hours(self, since: datetime, until: datetime) -> tuple[datetime, ...]:
        """Return the counted hours in [since, until), in order."""

    def key_load(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Return rows with ``KEY_LOAD_COLUMNS`` for the hours in [since, until), sorted by hour and key."""

    def hour_load(self, hour: datetime, slots: Collection[int] | None = None) -> pd.DataFrame:
        """Return the key load of one hour with categorical texts and the keys' fine slots (:mod:`foreshard.observe.units`).

        ``slots``: of the finest division; at least the rows of these slots are returned. An uncounted hour has no rows.
        """

    def co_access(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Return pairs summed over [since, until), heaviest first: ``key_a, key_b, weight, distinct_users``.

        Pairs with fewer than k distinct users over all these hours are left out.
        """

    def counts(self, hours: Sequence[datetime]) -> tuple[HourCounts, ...]:
        """Return the accesses and keys of each of ``hours``, in order. Uncounted hours are left out."""


class GateStore(Protocol):
    """Results of the quality gates (``gates``): the latest per gate and hour."""

    def save(self, result: GateResult) -> None: ...

    def load(self, gate: str, hour: datetime) -> GateResult:
        """Return a result. Raise :class:`foreshard.errors.MissingStageResult` if the gate has not checked ``hour``."""

    def recent(self, limit: int) -> tuple[GateResult, ...]:
        """Return the latest results, newest hour first."""

    def accept(self, gate: str, hour: datetime, acceptance: Acceptance) -> None:
        """Save a person's acceptance of an hour that the gate refused. It replaces an earlier one."""

    def acceptance(self, gate: str, hour: datetime) -> Acceptance | None:
        """Return the acceptance of an hour; None if no person has accepted it."""

    def refused(self, gate: str, since: datetime, until: datetime) -> tuple[datetime, ...]:
        """Return the hours from ``since`` to ``until``, both included, that the gate has refused."""

    def last_acceptance(self, gate: str) -> Acceptance | None:
        """Return what a person has accepted last, of any hour; None without any."""


@dataclass(frozen=True, slots=True)
class SeriesBasis:
    """What an hour's series were made from: the ``revisions`` of the tallies ("": not counted), and the number of slots."""

    revisions: tuple[str, ...]
    slots: int


class SeriesStore(Protocol):
    """The history that an hour's forecasts are made from: hourly series and totals, one file each per hour."""

    def save(self, series: SeriesMatrix, chunk_keys: int, basis: SeriesBasis) -> int:
        """Replace the hour's series atomically. Return the number of chunks, of ``chunk_keys`` keys each."""

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        """Return the newest hour in [since, until) whose series are saved."""

    def basis(self, hour: datetime) -> SeriesBasis | None:
        """Return what the hour's series were made from; None if they are not saved, or do not say it."""

    def load_chunk(self, hour: datetime, chunk: int) -> SeriesMatrix:
        """Return one chunk. Raise :class:`foreshard.errors.MissingStageResult` if it was not saved."""

    def load(self, hour: datetime) -> Iterator[SeriesMatrix]:
        """Yield the chunks of the hour's series, in order. Raise :class:`foreshard.errors.MissingStageResult` without any."""

    def save_totals(self, hour: datetime, totals: pd.DataFrame) -> None:
        """Replace the history's totals: ``count`` and ``cost`` per partitionable_key × location × request_type."""

    def load_totals(self, hour: datetime) -> pd.DataFrame:
        """Return the totals. Raise :class:`foreshard.errors.MissingStageResult` without any."""


class ForecastStore(Protocol):
    """Forecasts per key (``forecasts``), saved chunk by chunk."""

    def begin(self, hour: datetime, chunks: int) -> None:
        """Delete the forecasts of ``hour`` beyond ``chunks`` chunks."""

    def save_chunk(self, chunk: int, batch: ForecastBatch) -> None: ...

    def load(self, hour: datetime) -> ForecastBatch:
        """Return all chunks of ``hour`` as one. Raise :class:`foreshard.errors.MissingStageResult` if one is missing."""


class AccuracyStore(Protocol):
    """Accuracy of past forecasts, by model (``forecast_accuracy``)."""

    def save(self, hour: datetime, made_for: datetime, models: Mapping[str, Mapping[str, float | None]]) -> None:
        """Replace the figures of the forecast made for ``made_for``, whose horizon ended with ``hour``."""

    def latest(
        self, count: int = 1, until: datetime | None = None
    ) -> list[tuple[datetime, Mapping[str, Mapping[str, float | None]]]]:
        """Return the newest hours, up to and including ``until``, and their figures by model, newest first."""


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
        """Add or replace partitions and locations. A known partition keeps its loads and state. Raise if one is invalid."""

    def set_state(self, partition_id: str, state: PartitionState) -> None:
        """Drain or activate a partition. Raise :class:`foreshard.errors.UnknownPartition`."""

    def partitions(self) -> tuple[Partition, ...]: ...

    def partition(self, partition_id: str) -> Partition:
        """Return one partition. Raise :class:`foreshard.errors.UnknownPartition`."""

    def locations(self) -> tuple[Location, ...]: ...

    def save_round_trips(self, origin: str, milliseconds: Mapping[str, float], measured_at: datetime) -> None:
        """Save measured round trips to locations. Raise :class:`foreshard.errors.ConfigurationError` for an unknown one."""

    def set_predicted_load(self, predicted: dict[str, float]) -> None: ...


class LoadStore(Protocol):
    """The latest measured loads (``partition_load``). A report also updates the partition's CurrentLoad."""

    def report(self, loads: Sequence[PartitionLoad]) -> None: ...

    def current(self) -> tuple[PartitionLoad, ...]: ...


class Retention(Protocol):
    """Deletes old data."""

    def forget(
        self, files: datetime, tallies: datetime, forecasts: datetime, records: datetime, *, dry_run: bool = False
    ) -> dict[str, int]:
        """Delete files, tallies and forecasts of hours before these, and what was decided and done before ``records``.

        Open moves and shadows, and the table's current version, stay. Return the numbers of files and documents by kind.
        """
