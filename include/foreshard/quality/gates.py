"""The four gates. Each validates the result of a stage with Great Expectations and gives one line per failure.

The module of a gate's name has its expectations. Great Expectations is imported only when a gate runs. ``docs`` stores the Data
Docs pages; None makes none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import ForecastBatch, GateResult, HourCounts, Partition, Plan, RoutingTable
from foreshard.quality import _access_log as access_log
from foreshard.quality import _forecasts as forecasts
from foreshard.quality import _plans as plans
from foreshard.quality import _published as published
from foreshard.quality import _tables as tables
from foreshard.quality._one_row import of_one_row
from foreshard.quality._runner import run
from foreshard.quality.before import Before
from foreshard.quality.changes import PublishedChange
from foreshard.quality.data_docs import DataDocs
from foreshard.settings import ObserveSettings, PlanSettings


def check_access_log(
    frame: pd.DataFrame,
    hour: datetime,
    *,
    found: HourCounts | None = None,
    quarantined: int | Mapping[str, int],
    limits: ObserveSettings,
    usual: Sequence[HourCounts] | Before = (),
    docs: DataDocs | None = None,
) -> GateResult:
    """Gate ``access_log``: an hour's accepted records (``frame``, standard columns) and the quarantined ones.

    ``found``: the numbers of all records and keys, if ``frame`` is a sample of the hour, and its facts.
    ``quarantined``: their number, or their numbers by reason.
    ``usual``: the counts of the same hour of earlier weeks, or all hours to compare with. If they are low, an hour without
    records passes.
    """
    reasons = quarantined if isinstance(quarantined, Mapping) else {"": quarantined}
    before = usual if isinstance(usual, Before) else Before(weeks=usual)
    found = found or HourCounts(hour, len(frame), int(frame["partitionable_key"].nunique()))
    return run("access_log", hour, access_log.suites(frame, found, reasons, limits, before), docs)


def judge_hour(found: HourCounts, quarantined: Mapping[str, int], limits: ObserveSettings, before: Before) -> GateResult:
    """Gate ``access_log`` on the totals of an hour, without Great Expectations: an import judges thousands of hours."""
    return of_one_row("access_log", found.hour, access_log.totals(found, quarantined, limits, before))


def check_forecasts(
    batch: ForecastBatch,
    expected_keys: Collection[str],
    horizon: int,
    *,
    history_totals: ArrayLike = (),
    fallback_models: Collection[str] = (),
    minimum_history_hours: int,
    past: Sequence[tuple[float, float]] = (),
    docs: DataDocs | None = None,
) -> GateResult:
    """Gate ``forecasts``: the hour's forecasts of all keys (``mean``, ``sigma``, ``upper``: keys × ``horizon`` hours).

    ``expected_keys``: the keys of the history. ``history_totals``: its total cost in each counted hour, oldest first.
    ``fallback_models``: models that may not forecast most of the cost if the history has ``minimum_history_hours``.
    ``past``: the errors of forecasts whose horizon has ended, and of the seasonal naive for the same hours.
    """
    totals = np.asarray(history_totals, dtype=np.float64)
    suites = forecasts.suites(batch, expected_keys, horizon, totals, fallback_models, minimum_history_hours, past)
    return run("forecasts", batch.hour, suites, docs)


def check_plan(
    plan: Plan,
    partitions: Sequence[Partition],
    limits: PlanSettings,
    rules: PlacementRules | None = None,
    *,
    scored: Mapping[str, float] = MappingProxyType({}),
    docs: DataDocs | None = None,
) -> GateResult:
    """Gate ``plan``: moves, shadows and removals respect the ``rules`` and ``limits`` and do not raise the worst LPS.

    ``scored``: the hour's saved LPS by partition, with which the plan's LPS before is compared.
    """
    return run("plan", plan.hour, plans.suites(plan, partitions, limits, rules or PlacementRules(), scored), docs)


def check_table(
    table: RoutingTable,
    partitions: Sequence[Partition],
    hour: datetime,
    *,
    last_version: int,
    previous_keys: Collection[str] = (),
    changes: Sequence[PublishedChange] = (),
    docs: DataDocs | None = None,
) -> GateResult:
    """Gate ``table``: the table is complete, names known partitions, lost no key, and is what was published.

    ``last_version``: the newest of ``routing_versions``. ``previous_keys``: the keys of the previous version that were not
    delisted. ``changes``: those of the latest publications, oldest first.
    """
    suites = (*tables.suites(table, partitions, last_version, previous_keys), *published.suites(table, changes))
    return run("table", hour, suites, docs)
