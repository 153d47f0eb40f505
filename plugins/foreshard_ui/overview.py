"""The data of the page: partitions, the latest plan, open moves and shadows, and the gates' results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreshard.errors import MissingStageResult
from foreshard.model.move_state import OPEN
from foreshard.stages.accuracy import ALL, NAIVE
from foreshard.stages.moving.progress import progress_of

if TYPE_CHECKING:
    from foreshard.model import GateResult, Plan
    from foreshard.wiring import Wiring

SHOWN = 200
SHOWN_REPLAYS = 10

ACCURACY_HOURS = 7 * 24
"""The curve of forecast errors covers this many hours."""


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """One partition: its metadata, its load in cost/s (None without a report), its LPS, its slots and its listed keys."""

    partition_id: str
    geographic_location: str
    state: str
    capacity: float
    load: float | None
    reachable: bool
    reported_at: datetime | None
    lps: float | None
    lps_after: float | None
    peak_hour: datetime | None
    slots: int
    keys: int

    @property
    def utilisation(self) -> float | None:
        """Current load divided by capacity."""
        return None if self.load is None else self.load / self.capacity


@dataclass(frozen=True, slots=True)
class GateRow:
    """A gate's latest result and its Data Docs pages, as paths below ``docs/``."""

    gate: str
    hour: datetime
    passed: bool
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    expectations: int
    pages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccuracyView:
    """The figures of the newest scored forecast by model, and the errors (WAPE) of the last days, oldest first.

    ``naive`` is the error of last week's load as the forecast.
    """

    hour: datetime
    models: Mapping[str, Mapping[str, float | None]]
    ours: tuple[float | None, ...]
    naive: tuple[float | None, ...]


@dataclass(frozen=True)
class MoveRow:
    """An open move: what is moved, from where to where, its state, and what it does."""

    label: str
    source: str
    target: str
    state: str
    doing: str
    is_stuck: bool
    problem: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The content of the page, read at ``at``."""

    at: datetime
    version: int
    published_at: datetime | None
    cause: str
    listed_keys: int
    partitions: tuple[PartitionRow, ...]
    plan: Plan | None
    moves: tuple[MoveRow, ...]
    shadows: tuple[Mapping[str, Any], ...]
    gates: tuple[GateRow, ...]
    sidecars: int
    sidecars_behind: int
    open_conflicts: int
    high_water: float
    has_docs: bool = False
    accuracy: AccuracyView | None = None
    outcomes: tuple[Mapping[str, Any], ...] = field(default=())
    replays: tuple[tuple[str, datetime], ...] = ()


class OverviewReader:
    """Reads the overview."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def read(self) -> Overview:
        """Read the overview. Raise the driver's error if the control database does not answer."""
        page = self._wiring.page
        version = self._wiring.routing.version()
        published_at, cause = page.publication(version)
        sidecars, behind = page.sidecars(version)
        slots, listed = page.table_counts()
        plan = self._latest_plan()
        docs = self._wiring.settings.data_dir / "data_docs"
        return Overview(
            at=datetime.now(UTC),
            version=version,
            published_at=published_at,
            cause=cause,
            listed_keys=sum(listed.values()),
            partitions=self._partitions(plan, slots, listed),
            plan=plan,
            moves=self._moves(),
            shadows=page.open_shadows(SHOWN),
            gates=tuple(gate_row(result, docs) for result in self._wiring.gates.recent(12)),
            sidecars=sidecars,
            sidecars_behind=behind,
            open_conflicts=page.open_conflicts(),
            high_water=self._wiring.settings.plan.high_water,
            has_docs=(docs / "index.html").is_file(),
            replays=replays_in(self._wiring.settings.data_dir / "replays"),
            accuracy=self._accuracy(),
            outcomes=page.failed_tasks(5),
        )

    def _moves(self) -> tuple[MoveRow, ...]:
        """Return the newest moves that have not ended."""
        limits, now = self._wiring.settings.migrate, datetime.now(UTC)
        newest = self._wiring.move_journal.find(OPEN)[: -SHOWN - 1 : -1]
        found = [(record, record.move, progress_of(record, now, limits)) for record in newest]
        return tuple(
            MoveRow(move.label, move.source, move.target, str(record.state), at.sentence, at.is_stuck, record.error or "")
            for record, move, at in found
        )

    def _partitions(self, plan: Plan | None, slots: Mapping[str, int], listed: Mapping[str, int]) -> tuple[PartitionRow, ...]:
        loads = {load.partition_id: load for load in self._wiring.loads.current()}
        scores = {score.partition_id: score for score in self._latest_scores(plan)}
        rows = []
        for partition in self._wiring.registry.partitions():
            load, score = loads.get(partition.partition_id), scores.get(partition.partition_id)
            rows.append(
                PartitionRow(
                    partition.partition_id,
                    partition.geographic_location,
                    partition.state.value,
                    partition.capacity,
                    load.load if load else None,
                    load.reachable if load else True,
                    load.reported_at if load else None,
                    score.lps if score else None,
                    plan.lps_after.get(partition.partition_id) if plan else None,
                    score.peak_hour if score else None,
                    slots.get(partition.partition_id, 0),
                    listed.get(partition.partition_id, 0),
                )
            )
        return tuple(rows)

    def _accuracy(self) -> AccuracyView | None:
        found = self._wiring.accuracy.latest(ACCURACY_HOURS)
        if not found:
            return None
        errors = [[models.get(name, {}).get("wape") for _, models in reversed(found)] for name in (ALL, NAIVE)]
        return AccuracyView(*found[0], tuple(errors[0]), tuple(errors[1]))

    def _latest_plan(self) -> Plan | None:
        newest = self._wiring.page.latest_plan_hour()
        if newest is None:
            return None
        try:
            return self._wiring.plans.load(newest)
        except MissingStageResult:
            return None

    def _latest_scores(self, plan: Plan | None) -> Sequence[Any]:
        hours = [plan.hour] if plan else [result.hour for result in self._wiring.gates.recent(4)]
        for hour in sorted(set(hours), reverse=True):
            try:
                return self._wiring.scores.load(hour)
            except MissingStageResult:
                continue
        return ()


def replays_in(folder: Path) -> tuple[tuple[str, datetime], ...]:
    """Return the replays that have a page, with their times, the newest first."""
    pages = ((page.parent.name, page.stat().st_mtime) for page in folder.glob("*/replay.html"))
    newest = sorted(pages, key=lambda page: (-page[1], page[0]))[:SHOWN_REPLAYS]
    return tuple((name, datetime.fromtimestamp(at, UTC)) for name, at in newest)


def gate_row(result: GateResult, docs: Path) -> GateRow:
    """Return a gate's result with the Data Docs pages of its hour."""
    folder = docs / "validations" / result.gate
    found = sorted(folder.glob(f"*/{result.hour:%Y-%m-%d}/{result.hour:%H}/result.html"))
    pages = tuple(page.relative_to(docs).as_posix() for page in found)
    return GateRow(result.gate, result.hour, result.passed, result.failures, result.warnings, result.expectations, pages)
