"""Ports in memory. A stage gets an object that has only the ports its signature names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from tests.slots import slot_map

from foreshard.errors import MissingStageResult, StaleEpoch, UnknownPartition, UnknownRule
from foreshard.model import (
    CO_ACCESS_COLUMNS,
    KEY_LOAD_COLUMNS,
    Acceptance,
    ForecastBatch,
    GateResult,
    HourCounts,
    Location,
    Partition,
    PartitionScore,
    PartitionState,
    Placement,
    PlacementChange,
    PlacementRule,
    Plan,
    RoutingTable,
    SeriesMatrix,
)
from foreshard.model.key_space import KeySpace
from foreshard.model.recent import CurrentShadow, RecentMove
from foreshard.observe.units import fine_slots
from foreshard.ports.planning import KeySizes
from foreshard.ports.stages import SeriesBasis
from foreshard.routing.table import apply_changes, locate
from foreshard.settings import Settings

HOUR = datetime(2024, 3, 10, 7, tzinfo=UTC)
WEST, EAST = Location("west", 37.8, -122.4), Location("east", 40.7, -74.0)


class Registry:
    def __init__(self, *partitions: Partition) -> None:
        self.all = {partition.partition_id: partition for partition in partitions}
        self.predicted: dict[str, float] = {}

    def partitions(self) -> tuple[Partition, ...]:
        return tuple(self.all.values())

    def partition(self, partition_id: str) -> Partition:
        if partition_id not in self.all:
            raise UnknownPartition(partition_id, sorted(self.all))
        return self.all[partition_id]

    def locations(self) -> tuple[Location, ...]:
        return (WEST, EAST)

    def set_predicted_load(self, predicted: dict[str, float]) -> None:
        self.predicted = predicted

    def set_state(self, partition_id: str, state: PartitionState) -> None:
        self.all[partition_id] = replace(self.partition(partition_id), state=state)


class Routing:
    """A table in memory. ``overtaken_by`` are publications that come first, one before each attempt."""

    def __init__(self, placements: Mapping[str, Placement], default: Sequence[str] = ("alpha",)) -> None:
        rule = slot_map(tuple(default), (1.0,) * len(default))
        self.table = RoutingTable(1, dict(placements), rule, HOUR)
        self.overtaken_by: list[PlacementChange] = []
        self.published: list[tuple[tuple[PlacementChange, ...], str]] = []

    def version(self) -> int:
        return self.table.version

    def current(self) -> RoutingTable:
        return self.table

    def placement(self, unit: str) -> Placement:
        return locate(self.table, unit)

    def placements(self, units: Collection[str]) -> dict[str, Placement]:
        return {unit: locate(self.table, unit) for unit in units}

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        slots = Counter(placement.primary for placement in self.table.slots.placements)
        return dict(slots), dict(Counter(placement.primary for placement in self.table.placements.values()))

    def space(self) -> KeySpace:
        return self.table.slots.space

    def listed_in(self, slots: Collection[int]) -> tuple[Placement, ...]:
        return tuple(p for key, p in self.table.placements.items() if self.space().slot_of(key) in slots)

    def publish(self, changes: Sequence[PlacementChange], cause: str, *, within: Any = None, move_id: str = "") -> int:
        if self.overtaken_by:
            self._apply([self.overtaken_by.pop(0)])
        for change in changes:
            standing = self.table.placements.get(change.key)
            if standing is not None and standing.epoch != change.expected_epoch:
                raise StaleEpoch(change.key, change.expected_epoch, standing.epoch)
        if within is not None:
            within("session", self.table.version + 1)
        self.published.append((tuple(changes), cause))
        return self._apply(changes)

    def _apply(self, changes: Sequence[PlacementChange]) -> int:
        self.table = apply_changes(self.table, changes, self.table.version + 1, HOUR)
        return self.table.version


class Saved(dict[datetime, Any]):
    """A store that keeps one value per hour."""

    def load(self, hour: datetime) -> Any:
        if hour not in self:
            raise MissingStageResult("result", hour.isoformat(), "the stage before")
        return self[hour]


class Forecasts(Saved):
    pass


class Scores(Saved):
    def save(self, hour: datetime, scores: Sequence[PartitionScore]) -> None:
        self[hour] = tuple(scores)


class Plans(Saved):
    def save(self, plan: Plan) -> None:
        self[plan.hour] = plan


class Gates:
    def __init__(self) -> None:
        self.results: list[GateResult] = []

        self.accepted: dict[tuple[str, datetime], Acceptance] = {}

    def save(self, result: GateResult) -> None:
        self.results.append(result)

    def load(self, gate: str, hour: datetime) -> GateResult:
        return next(found for found in reversed(self.results) if (found.gate, found.hour) == (gate, hour))

    def accept(self, gate: str, hour: datetime, acceptance: Acceptance) -> None:
        self.accepted[gate, hour] = acceptance

    def acceptance(self, gate: str, hour: datetime) -> Acceptance | None:
        return self.accepted.get((gate, hour))


class Tallies:
    """Key load and co-access as rows; notes which hours are read, and how often an hour is tallied again."""

    def __init__(self, load: Sequence[tuple[Any, ...]] = (), pairs: Sequence[tuple[Any, ...]] = ()) -> None:
        self.load, self.counted = pd.DataFrame(load, columns=list(KEY_LOAD_COLUMNS)), {row[0] for row in load}
        self.pairs = pd.DataFrame(pairs, columns=list(CO_ACCESS_COLUMNS))
        self.read: list[tuple[datetime, bool]] = []
        self.revisions: dict[datetime, int] = {}

    def hours(self, since: datetime, until: datetime) -> tuple[datetime, ...]:
        return tuple(sorted({hour for hour in self.counted if since <= hour < until}))

    def counts(self, hours: Sequence[datetime]) -> tuple[HourCounts, ...]:
        return tuple(
            HourCounts(
                hour, len(rows := self._rows(hour)), rows["partitionable_key"].nunique(), str(self.revisions.get(hour, 1))
            )
            for hour in sorted(self.counted & set(hours))
        )

    def key_load(self, since: datetime, until: datetime) -> pd.DataFrame:
        hours = pd.to_datetime(self.load["hour"], utc=True)
        return self.load[(hours >= since) & (hours < until)]

    def hour_load(self, hour: datetime, slots: Collection[int] | None = None) -> pd.DataFrame:
        self.read.append((hour, slots is None))
        rows = self._rows(hour)
        rows = rows.assign(fine_slot=fine_slots(rows["partitionable_key"], KeySpace()))
        return rows if slots is None else rows[rows["fine_slot"].isin(list(slots))]

    def co_access(self, _since: datetime, _until: datetime) -> pd.DataFrame:
        return self.pairs

    def _rows(self, hour: datetime) -> pd.DataFrame:
        return self.load[(self.load["hour"] == hour).to_numpy(bool)]


class Series:
    """Series and totals by hour."""

    def __init__(self) -> None:
        self.saved: dict[datetime, tuple[list[SeriesMatrix], SeriesBasis]] = {}
        self.totals: dict[datetime, pd.DataFrame] = {}

    def save(self, series: SeriesMatrix, chunk_keys: int, basis: SeriesBasis) -> int:
        starts = range(0, len(series.keys), chunk_keys)
        chunks = [series.rows(start, start + chunk_keys) for start in starts]
        self.saved[series.hour] = chunks, basis
        return len(chunks)

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        return max((hour for hour in self.saved if since <= hour < until), default=None)

    def basis(self, hour: datetime) -> SeriesBasis | None:
        return self.saved[hour][1] if hour in self.saved else None

    def load(self, hour: datetime) -> Any:
        if hour not in self.saved:
            raise MissingStageResult("series", hour.isoformat(), "foreshard forecast hour")
        yield from self.saved[hour][0]

    def save_totals(self, hour: datetime, totals: pd.DataFrame) -> None:
        self.totals[hour] = totals

    def load_totals(self, hour: datetime) -> pd.DataFrame:
        if hour not in self.totals:
            raise MissingStageResult("history totals", hour.isoformat(), "foreshard forecast hour")
        return self.totals[hour]


class Planning:
    def __init__(self, moves: Sequence[RecentMove] = (), shadows: Sequence[CurrentShadow] = ()) -> None:
        self.moves, self.shadows, self.begun = tuple(moves), tuple(shadows), False

    def recent_moves(self, since: datetime) -> tuple[RecentMove, ...]:
        return tuple(move for move in self.moves if move.pending or move.at >= since)

    def move_times(self, _since: datetime) -> tuple[tuple[float, float], ...]:
        return ()

    def current_shadows(self) -> tuple[CurrentShadow, ...]:
        return self.shadows

    def started(self, _hour: datetime) -> bool:
        return self.begun

    def key_sizes(self, *_: object) -> KeySizes:
        return KeySizes({}, 1024.0)


class Rules:
    def __init__(self, *rules: PlacementRule) -> None:
        self.saved = {rule.rule_id: rule for rule in rules}

    def rules(self) -> tuple[PlacementRule, ...]:
        return tuple(self.saved.values())

    def save(self, rule: PlacementRule) -> None:
        self.saved[rule.rule_id] = rule

    def remove(self, rule_id: str) -> None:
        if self.saved.pop(rule_id, None) is None:
            raise UnknownRule(rule_id)


class Ports(SimpleNamespace):
    """The given ports, and the sections of ``settings``."""

    def __init__(self, settings: Settings | None = None, **ports: Any) -> None:
        settings = settings or Settings()
        sections = {
            f"{name}_settings": getattr(settings, name) for name in ("observe", "forecast", "plan", "migrate", "shadow")
        }
        super().__init__(
            settings=settings,
            sidecar_settings=settings.sidecar,
            sharded_collections=settings.sharded_collections,
            data_docs=None,
            **sections,
            **{"placement_rules": SimpleNamespace(rules=tuple), **ports},
        )


def forecast(**loads: float) -> ForecastBatch:
    """A flat forecast of 24 hours: cost units per hour by key, with a tenth of it as sigma."""
    mean = np.array([[load] * 24 for load in loads.values()])
    return ForecastBatch(HOUR, 0.9, tuple(loads), mean, mean / 10, mean, ("m",) * len(loads))


def key_load(hours: int, **costs: float) -> list[tuple[Any, ...]]:
    """Rows of the last ``hours`` hours: each key read from the west at its cost."""
    return [
        (HOUR - timedelta(hours=age), key, "west", "read", 1, cost, 1) for age in range(hours) for key, cost in costs.items()
    ]
