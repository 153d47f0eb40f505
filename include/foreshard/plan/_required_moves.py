"""Moves that are required: keys that violate a placement rule, and keys on draining partitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from foreshard.model import IntArray, Refusal
from foreshard.plan import _reasons as reasons
from foreshard.plan._move_search import best_move
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._plan_builder import PlanBuilder, apply_move
from foreshard.plan._refusals import drain_reason, rule_violation_reason
from foreshard.plan._set_relief import drain_by_sets

ATTEMPTS = 8
"""Moves that may push a partition over its mark before the search ends for this hour."""


def enforce_rules(builder: PlanBuilder) -> None:
    """Move keys that violate a placement rule to an allowed partition, even while they cool down. Shadowed keys must wait."""
    model = builder.model
    for source, row in rule_violations(model):
        _depart(builder, source, lambda source=source, row=row: _leaving(model, source, row), row, reasons.RULE)  # type: ignore[misc]


def drain(builder: PlanBuilder) -> None:
    """Move units off draining partitions, the fullest partition first: small ones in sets, then the others."""
    model = builder.model
    draining = np.flatnonzero(~model.snapshot.active)
    for source in draining[np.argsort(-model.lps()[draining], kind="stable")].tolist():
        drain_by_sets(builder, source)
        _depart(builder, source, lambda source=source: model.movable_on(source), None, reasons.DRAINING)  # type: ignore[misc]


def rule_violations(model: PlacementModel) -> list[tuple[int, int]]:
    """Return (partition, rule row) of the primary copies that violate their rules and are not being moved."""
    rules = model.snapshot.rules
    if not rules.any_rules:
        return []
    keys = np.flatnonzero(~rules.at_home(model.primary) & ~model.snapshot.under_way)
    return sorted({(int(model.primary[key]), int(rules.row[key])) for key in keys})


def unfinished(builder: PlanBuilder, limits: Mapping[str, float]) -> list[Refusal]:
    """Return the keys that must leave their partition and could not, with the reasons."""
    model = builder.model
    names = [partition.partition_id for partition in model.snapshot.partitions]
    found = []
    for source, row in rule_violations(model):
        obstacle = _leaving_obstacle(
            model, _misplaced(model, source, row), builder.leaving_obstacles.get((source, row), "no_target_fits"), row
        )
        why = rule_violation_reason(model, source, row, _misplaced(model, source, row), obstacle, limits)
        found.append(Refusal(names[source], why))
    for source in np.flatnonzero(~model.snapshot.active).tolist():
        if len(model.keys_on(source)):
            obstacle = builder.leaving_obstacles.get((source, None), "nothing_movable")
            found.append(Refusal(names[source], drain_reason(model, source, obstacle, limits)))
    return found


def _depart(builder: PlanBuilder, source: int, leaving: Callable[[], IntArray], row: int | None, cause: str) -> None:
    banned: set[tuple[int, int]] = set()
    for _ in range(len(leaving()) + ATTEMPTS):
        keys = leaving()
        if not len(keys):
            return
        search = best_move(builder.model, source, builder.allowance, keys, banned, draining=True)
        if search.best is None:
            builder.leaving_obstacles[source, row] = search.obstacle
            return
        if not apply_move(builder, source, search.best, banned, cause):
            builder.leaving_obstacles[source, row] = "no_target_fits"


def _misplaced(model: PlacementModel, source: int, row: int) -> IntArray:
    keys = model.keys_on(source)
    return np.asarray(keys[(model.snapshot.rules.row[keys] == row) & ~model.snapshot.under_way[keys]])


def _leaving(model: PlacementModel, source: int, row: int) -> IntArray:
    keys = _misplaced(model, source, row)
    return keys[:0] if model.snapshot.rules.fixed[row] else keys[~model.has_shadow(keys)]


def _leaving_obstacle(model: PlacementModel, keys: IntArray, obstacle: str, row: int) -> str:
    """Return a more specific obstacle, if there is one: pinned, no allowed partition, or shadows to remove first."""
    if model.snapshot.rules.fixed[row]:
        return "pinned"
    if not (model.snapshot.rules.home[row] & model.snapshot.active).any():
        return "nowhere_allowed"
    current = {shadow.key for shadow in model.snapshot.shadows}
    return "shadowed" if current.issuperset(keys.tolist()) else obstacle
