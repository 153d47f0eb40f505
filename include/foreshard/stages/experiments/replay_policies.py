"""Runs one policy on a replay's log: at the layout's capacity, and at others until the least one is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from foreshard.forecast.engine import hourly_forecaster
from foreshard.forecast.hourly.forecaster import Forecaster
from foreshard.lab.lab_forecaster import TrueFuture
from foreshard.lab.least_capacity import LeastCapacity, least_capacity
from foreshard.lab.measures import overflow_share
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import Past, Policy, ReplayRules
from foreshard.lab.planned import Planned, Timing
from foreshard.lab.policies import MongoBalance, Reactive, StaticGeo, StaticHash
from foreshard.lab.shared_forecasts import SharedForecasts
from foreshard.lab.simulate import Run, replay
from foreshard.measure.demand import ServingRule
from foreshard.plan.input.migration_rate import MOVE_TIME, MigrationRate
from foreshard.plan.input.snapshot import PlanPolicy
from foreshard.stages.experiments.replay_input import ReplayInput

SEARCHED = ("static_hash", "static_geo", "reactive", "mongodb_balance", "predictive")
"""The policies whose least capacity is found."""
SAME_AT_ANY_CAPACITY = ("static_hash", "static_geo", "mongodb_balance")
"""Policies that decide the same at any capacity, so that one replay gives their overflow at all of them."""
HoursDone = Callable[[int, int], None] | None


@dataclass(frozen=True)
class PolicyResult:
    """One policy's run at the layout's capacity, and its least capacity if that was looked for and found."""

    run: Run
    least: LeastCapacity | None


def run_policy(given: ReplayInput, name: str, search: bool, progress: HoursDone = None) -> PolicyResult:
    """Run the policy ``name``. With ``search``, find its least capacity too.

    Forecasts are shared by all its replays. ``progress`` (done, of) counts the hours of the replays so far.
    """
    if not (search and name in SEARCHED):
        return PolicyResult(_Runs(given, name, _forecaster(given, name), progress).at(1.0), None)
    with TemporaryFile() as scratch:
        forecasts = SharedForecasts(partial(_forecaster, given, name), cast("BinaryIO", scratch))
        runs = _Runs(given, name, forecasts, progress)
        run, capacity = runs.at(1.0), given.layout.capacity

        def share_at(factor: float) -> float:
            again = run if name in SAME_AT_ANY_CAPACITY else runs.at(factor, nearness=False)
            return overflow_share(again, capacity * factor)

        return PolicyResult(run, least_capacity(share_at, overflow_share(run, capacity)))


class _Runs:
    """The replays of one policy, at several capacities."""

    def __init__(self, given: ReplayInput, name: str, forecaster: Forecaster[Past], progress: HoursDone) -> None:
        self._given, self._name, self._forecaster, self._progress = given, name, forecaster, progress
        self._finished = 0

    def at(self, factor: float, nearness: bool = True) -> Run:
        """Replay at ``factor`` × the layout's capacity."""
        given, layout = self._given, self._given.layout.scaled(factor)
        policy = _policy(self._name, given, layout, self._forecaster)
        run = replay(given.log, layout, policy, given.start, _rules(given), self._report, nearness)
        self._finished += given.log.hours - given.start
        return run

    def _report(self, done: int, of: int) -> None:
        if self._progress:
            self._progress(self._finished + done, self._finished + of)


def _rules(given: ReplayInput) -> ReplayRules:
    settings = given.settings
    return ReplayRules.of(settings.plan, settings.migrate, settings.forecast, settings.sidecar)


def _policy(name: str, given: ReplayInput, layout: PartitionLayout, forecaster: Forecaster[Past]) -> Policy:
    if name == "static_hash":
        return StaticHash(layout)
    if name == "static_geo":
        return StaticGeo(layout, given.log.locations)
    if name == "reactive":
        return Reactive(layout)
    if name == "mongodb_balance":
        return MongoBalance(layout)
    return Planned(given.log, layout, forecaster, *_planning(given))


def _forecaster(given: ReplayInput, name: str) -> Forecaster[Past]:
    if name == "oracle":
        return TrueFuture(given.log, *given.known)
    forecast, epoch = given.settings.forecast, round(given.log.first.timestamp() / 3600)
    return hourly_forecaster(forecast.engine, forecast.history_days * 24, epoch)


def _planning(given: ReplayInput) -> tuple[PlanPolicy, Timing]:
    settings = given.settings
    plan, window = settings.plan, settings.forecast.history_days * 24
    rule = ServingRule(room_mark=settings.sidecar.room_mark, apply_cost=plan.shadow_apply_cost)
    rate = MigrationRate(MOVE_TIME.total_seconds(), settings.migrate.planned_rate)
    timing = Timing(settings.observe.minimum_distinct_users, window, rate)
    return PlanPolicy.of(plan, settings.migrate, rule), timing
