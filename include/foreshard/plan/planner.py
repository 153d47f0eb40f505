"""Makes the hour's plan from a snapshot. Pure and deterministic: the same snapshot and policy give the same plan.

One objective (:mod:`foreshard.plan.objective`) says what is wanted, one search (:mod:`foreshard.plan._search`) finds how. The
result is never worse: the worst LPS, recomputed from scratch, stays below what it was before, or below the high-water mark.
Otherwise the plan is empty and says why.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np

from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import partition_load
from foreshard.model import FloatArray, Move, Plan, PlannedShadow, Refusal
from foreshard.plan._placement import TOLERANCE, PlannedPlacement
from foreshard.plan._reasons import move_id, moves_of, removal_of, shadow_of
from foreshard.plan._refusals import refusal_reason, unfinished
from foreshard.plan._search import Search
from foreshard.plan._steps import MoveStep, ShadowStep
from foreshard.plan._timing import schedule
from foreshard.plan.input.judged_hours import JudgedHours
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot

__all__ = ["make_plan", "may_act", "move_id"]


def make_plan(snapshot: Snapshot, policy: PlanPolicy) -> Plan:
    """Make the plan for ``snapshot.hour``."""
    hours = JudgedHours.of(snapshot, policy)
    placement = PlannedPlacement(snapshot, policy, hours)
    before = placement.lps().copy()
    search = Search(placement)
    search.run()
    after = _scores(placement) if search.taken else before
    if _worst(after) > max(_worst(before), policy.high_water) + TOLERANCE:
        search = Search(PlannedPlacement(snapshot, policy, hours))
        search.obstacles = dict.fromkeys(_overloaded(before, policy), "would_not_help")
        after = before
    return _finish(search, before, after)


def may_act(hour: datetime, newest_counted: datetime | None, *, dry_run: bool = False, act_on_old_hours: bool = False) -> bool:
    """Return whether the plan for ``hour`` may change live placement.

    It may for the newest counted hour, or with ``act_on_old_hours``.

    A backfill of last week therefore plans without effect. ``newest_counted`` is None if nothing has been counted. A
    ``dry_run`` never acts.
    """
    if dry_run:
        return False
    return act_on_old_hours or newest_counted is None or hour >= newest_counted


def _scores(placement: PlannedPlacement) -> FloatArray:
    """LPS per partition, computed from scratch."""
    snapshot, rule = placement.snapshot, placement.policy.serving
    shadows = sorted((key, partition) for key, held in placement.copies.items() for partition in held)
    load, _ = partition_load(snapshot.demand, placement.primary, shadows, snapshot.capacity, snapshot.distance_km, rule)
    return load_prediction_scores(load.upper(rule), snapshot.capacity)


def _worst(lps: FloatArray) -> float:
    return float(lps.max(initial=0.0))


def _overloaded(lps: FloatArray, policy: PlanPolicy) -> list[int]:
    return [int(p) for p in np.flatnonzero(lps > policy.high_water + TOLERANCE)]


def _finish(search: Search, before: FloatArray, after: FloatArray) -> Plan:
    """Order and time the moves, and give the reason for each partition that stays above its mark."""
    placement, snapshot, policy = search.placement, search.placement.snapshot, search.placement.policy
    moves, shadows, removals = list[Move](), list[PlannedShadow](), list[PlannedShadow]()
    for taken in search.taken:
        if isinstance(taken.step, MoveStep):
            moves += moves_of(snapshot, search.prices, taken, taken.step)
        elif taken.removed is not None:
            removals.append(removal_of(snapshot, taken, taken.step, taken.removed))
        elif isinstance(taken.step, ShadowStep):
            shadows.append(shadow_of(snapshot, taken, taken.step))
    names = [partition.partition_id for partition in snapshot.partitions]
    limits = {"moves_left": search.allowance.moves, "bytes_left": search.allowance.size_bytes}
    refusals = [
        Refusal(names[p], refusal_reason(placement, p, search.obstacles.get(p, "gain_too_small"), limits))
        for p in _overloaded(after, policy)
    ]
    ordered, warnings = schedule(snapshot, policy, moves)
    return Plan(
        hour=snapshot.hour,
        table_version=snapshot.table_version,
        moves=ordered,
        shadows=tuple(shadows),
        removals=tuple(removals),
        refusals=(*refusals, *unfinished(placement, search.leaving_obstacles, limits)),
        warnings=warnings,
        lps_before={name: float(lps) for name, lps in zip(names, before, strict=True)},
        lps_after={name: float(lps) for name, lps in zip(names, after, strict=True)},
        unsettled=snapshot.unsettled,
    )
