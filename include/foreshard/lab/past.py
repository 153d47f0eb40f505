"""The interface of policies: the past, the cluster's state, the actions that they return, and the cost of moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foreshard.lab.log import ReplayLog
from foreshard.measure.demand import ServingRule
from foreshard.model import HOURS_PER_DAY, FloatArray, IntArray
from foreshard.plan.input.migration_rate import MOVE_TIME

if TYPE_CHECKING:
    from foreshard.settings import ForecastSettings, MigrateSettings, PlanSettings, SidecarSettings

NOT_YET = -(10**6)
MINUTES_PER_HOUR = 60


@dataclass(frozen=True, slots=True)
class ReplayRules:
    """The cost of moves.

    ``lanes`` moves run at once from one partition, and to one partition. Each takes ``move_seconds`` + bytes ÷
    ``bytes_per_second`` and adds ``copy_load`` × the key's mean load of the last day to source and target for an hour. A key
    has ``documents`` plus one per write so far, of ``document_bytes`` each. Policies learn from ``training_hours`` hours.
    ``serving``: how reads are shared among copies.
    """

    lanes: int
    move_seconds: float
    bytes_per_second: float
    training_hours: int
    serving: ServingRule
    copy_load: float = 0.5
    documents: int = 100
    document_bytes: float = 1024.0

    @classmethod
    def of(
        cls, plan: PlanSettings, migrate: MigrateSettings, forecast: ForecastSettings, sidecar: SidecarSettings
    ) -> ReplayRules:
        """Return the rules of the settings: the planner's rates, the forecasts' history, and the sidecar's room mark."""
        hours = forecast.history_days * HOURS_PER_DAY
        serving = ServingRule(sidecar.room_mark, plan.shadow_apply_cost, z=0.0)
        return cls(migrate.parallel_moves, MOVE_TIME.total_seconds(), migrate.planned_rate, hours, serving)


@dataclass(frozen=True, slots=True)
class LabAction:
    """One action: ``key`` moves to ``partition`` (``move``), gets a shadow there (``shadow``), or loses it (``remove``).

    ``joins``: it is part of the same move as the action before it, and takes no fixed time of its own.
    """

    key: int
    partition: int
    kind: str = "move"
    joins: bool = False


@dataclass
class Cluster:
    """The placement at the start of an hour. ``pending``: keys that are being moved or copied → their target."""

    primary: IntArray
    shadows: set[tuple[int, int]]
    pending: dict[int, int]
    moved_at: IntArray
    last_source: IntArray


class Past:
    """The log before hour ``now``, or before a step within it. Policies see nothing else of the log."""

    def __init__(self, log: ReplayLog, now: int, rules: ReplayRules, step: int = 0) -> None:
        """``step``: the number of steps of the hour ``now`` that are over, for :meth:`rate`."""
        self._log, self.now, self._rules, self._step = log, now, rules, step

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys of the log. Keys that have not appeared yet have no costs."""
        return self._log.keys

    def costs(self, hours: int) -> FloatArray:
        """Return the cost per key of at most the last ``hours`` hours (K, ≤ hours)."""
        return self._log.costs[:, max(0, self.now - hours) : self.now].astype(np.float64)

    def before(self, hour: int, hours: int) -> FloatArray:
        """Return the cost per key of at most ``hours`` hours before ``hour`` or ``now``, whichever is earlier (K, ≤ hours)."""
        return self.at(hour).costs(hours)

    def at(self, hour: int) -> Past:
        """Return what was known at the start of ``hour``, or of ``now`` if that is earlier."""
        return Past(self._log, min(hour, self.now), self._rules)

    def latest(self) -> FloatArray:
        """Return the cost per key (K) of the last hour; zero before the first."""
        return self._log.costs[:, self.now - 1].astype(np.float64) if self.now else np.zeros(len(self._log.keys))

    def rate(self, minutes: int) -> FloatArray:
        """Return the cost per key and hour (K) of the last ``minutes`` (at most 60), or of the last hour in an hourly log."""
        per_hour = self._log.steps_per_hour
        until = self.now * per_hour + self._step
        first = max(0, until - max(1, minutes * per_hour // MINUTES_PER_HOUR))
        if first == until:
            return np.zeros(len(self._log.keys))
        key, _, cost = self._log.step_rows(first, until)
        return np.bincount(key, cost, len(self._log.keys)).astype(np.float64) * (per_hour / (until - first))

    def visits(self, hours: int) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        """Return rows (key, place, cost, reads' cost) of the last ``hours`` hours; place −1 is unknown."""
        log, rows = self._log, self._log.visits.of(self.now - hours, self.now)
        return log.visit_key[rows], log.visit_place[rows], log.visit_cost[rows], log.visit_reads[rows]

    def pairs(self, hours: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Return rows (key, key, co-accesses) of the last ``hours`` hours."""
        log, rows = self._log, self._log.pairs.of(self.now - hours, self.now)
        return log.pair_a[rows], log.pair_b[rows], log.pair_weight[rows]

    def sizes(self) -> FloatArray:
        """Return the bytes per key (K), 0 for keys that have not appeared."""
        return key_sizes(self._log, self.now, self._rules)


class Policy(Protocol):
    """Decides placement: ``start`` once, ``decide`` at the start of each hour, or of each step if ``within_hour``."""

    within_hour: bool

    def start(self, past: Past) -> IntArray:
        """Return each key's first partition (K)."""

    def decide(self, past: Past, cluster: Cluster) -> list[LabAction]:
        """Return the actions to begin now, the most urgent first."""


def key_sizes(log: ReplayLog, now: int, rules: ReplayRules) -> FloatArray:
    """Return the bytes of each key's data (K) at the start of the hour ``now``."""
    day = now // HOURS_PER_DAY
    writes, seen = (np.array(total[day]) for total in log.by_day)
    rows = log.visits.of(day * HOURS_PER_DAY, now)
    np.add.at(writes, log.visit_key[rows], log.visit_writes[rows])
    seen[log.visit_key[rows]] = True
    return np.asarray(np.where(seen, rules.documents + writes, 0.0) * rules.document_bytes)
