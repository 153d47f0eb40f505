"""The plan stage: forecasts, placement and co-access → the hour's plan, and its gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from foreshard.errors import MissingStageResult
from foreshard.measure.lps import require_capacities
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import GateResult, Plan
from foreshard.plan.planner import make_plan, may_act
from foreshard.ports.gating import record_gate
from foreshard.stages._ports import (
    WithGates,
    WithPlacementRules,
    WithPlanning,
    WithPlans,
    WithPlanSettings,
    WithRegistry,
    WithScores,
    WithTallies,
)
from foreshard.stages.snapshot import SnapshotPorts, load_snapshot

LOOK_AHEAD = timedelta(days=366)
"""Newer counted hours are searched for this long after an hour."""


class PlanPorts(SnapshotPorts, WithPlans, Protocol):
    """Reads forecasts, placement, co-access and recent moves. Writes the plan."""


class PlanGatePorts(WithPlans, WithScores, WithRegistry, WithPlacementRules, WithPlanSettings, WithGates, Protocol):
    """Reads the plan, scores, partitions and placement rules. Writes the gate's result."""


class StartedPlanPorts(WithPlans, WithPlanning, Protocol):
    """Reads the plan, and whether it has been started."""


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """The figures of the plan that is saved for ``hour``."""

    hour: datetime
    moves: int
    shadows: int
    removals: int
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    estimated_bytes: int
    worst_lps_before: float
    worst_lps_after: float
    dry_run: bool


def plan_hour(ports: PlanPorts, hour: datetime, dry_run: bool = False, act_on_old_hours: bool = False) -> PlanSummary:
    """Make and save the plan for ``hour``.

    It is a dry run if ``dry_run`` is set, or if a newer hour has been counted and ``act_on_old_hours`` is not set. A dry run
    has no effect and does not replace a live plan. Once a move or shadow of the live plan has started, a second call returns
    that plan unchanged.
    """
    acts = may_act(hour, _newest_counted(ports, hour), dry_run=dry_run, act_on_old_hours=act_on_old_hours)
    started = _started_plan(ports, hour) if acts else None
    if started is not None:
        return _summary(started)
    snapshot, policy = load_snapshot(ports, hour)
    require_capacities(snapshot.partitions)
    plan = replace(make_plan(snapshot, policy), dry_run=not acts)
    ports.plans.save(plan)
    return _summary(plan)


def gate_plan(ports: PlanGatePorts, hour: datetime) -> GateResult:
    """Check the hour's plan against placement rules, limits and scores, and return the result.

    Raise :class:`foreshard.errors.GateFailed` if it breaks a rule or a limit, or raises the worst LPS.
    """
    from foreshard.quality.gates import check_plan

    plan = ports.plans.load(hour)
    rules = PlacementRules(ports.placement_rules.rules())
    partitions, limits, scored = ports.registry.partitions(), ports.plan_settings, _scored(ports, hour)
    return record_gate(ports.gates, check_plan(plan, partitions, limits, rules, scored=scored, docs=ports.data_docs))


def _scored(ports: WithScores, hour: datetime) -> dict[str, float]:
    """Return the hour's LPS by partition; nothing if it was planned without being scored."""
    try:
        return {score.partition_id: score.lps for score in ports.scores.load(hour)}
    except MissingStageResult:
        return {}


def _newest_counted(ports: WithTallies, hour: datetime) -> datetime | None:
    return max(ports.tallies.hours(hour, hour + LOOK_AHEAD), default=None)


def _started_plan(ports: StartedPlanPorts, hour: datetime) -> Plan | None:
    """Return the hour's live plan if a move or shadow of it has started."""
    if not ports.planning.started(hour):
        return None
    try:
        plan = ports.plans.load(hour)
    except MissingStageResult:
        return None
    return None if plan.dry_run else plan


def _summary(plan: Plan) -> PlanSummary:
    return PlanSummary(
        hour=plan.hour,
        moves=len(plan.moves),
        shadows=len(plan.shadows),
        removals=len(plan.removals),
        refusals=tuple(refusal.reason.sentence for refusal in plan.refusals),
        warnings=tuple(warning.reason.sentence for warning in plan.warnings),
        estimated_bytes=sum(move.estimated_bytes for move in plan.moves),
        worst_lps_before=round(max(plan.lps_before.values(), default=0.0), 4),
        worst_lps_after=round(max(plan.lps_after.values(), default=0.0), 4),
        dry_run=plan.dry_run,
    )
