"""Keys that must leave, whether or not that relieves anybody: against a placement rule, or on a draining partition."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from foreshard.model import IntArray, Refusal
from foreshard.plan import _reasons as reasons
from foreshard.plan._move_search import best_move
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._plan_builder import PlanBuilder
from foreshard.plan._refusals import against_rule, drain_unfinished
from foreshard.plan._steps import apply_move

ATTEMPTS = 8
"""Moves that turn out to push a partition over its mark before a departure is given up for this hour."""


def obey_rules(draft: PlanBuilder) -> None:
    """Move keys that stand against a placement rule to where they may be, cooling down or not; shadowed ones must wait."""
    view = draft.view
    for source, row in against_rules(view):
        _depart(draft, source, lambda source=source, row=row: _leaving(view, source, row), row, reasons.RULE)  # type: ignore[misc]


def drain(draft: PlanBuilder) -> None:
    """Move keys off draining partitions, the fullest first."""
    view = draft.view
    draining = np.flatnonzero(~view.snapshot.active)
    for source in draining[np.argsort(-view.lps()[draining], kind="stable")].tolist():
        _depart(draft, source, lambda source=source: view.movable_on(source), None, reasons.DRAINING)  # type: ignore[misc]


def against_rules(view: PlacementModel) -> list[tuple[int, int]]:
    """(partition, row of the rules) of the primary copies that stand against their rules and aren't being moved."""
    rules = view.snapshot.rules
    if not rules.any_rules:
        return []
    keys = np.flatnonzero(~rules.at_home(view.primary) & ~view.snapshot.under_way)
    return sorted({(int(view.primary[key]), int(rules.row[key])) for key in keys})


def unfinished(draft: PlanBuilder, limits: Mapping[str, float]) -> list[Refusal]:
    """What still stands where it must not be, and why."""
    view = draft.view
    names = [partition.partition_id for partition in view.snapshot.partitions]
    found = []
    for source, row in against_rules(view):
        obstacle = _obstacle(view, _misplaced(view, source, row), draft.held.get((source, row), "no_target_fits"), row)
        why = against_rule(view, source, row, _misplaced(view, source, row), obstacle, limits)
        found.append(Refusal(names[source], why))
    for source in np.flatnonzero(~view.snapshot.active).tolist():
        if len(view.keys_on(source)):
            obstacle = draft.held.get((source, None), "nothing_movable")
            found.append(Refusal(names[source], drain_unfinished(view, source, obstacle, limits)))
    return found


def _depart(draft: PlanBuilder, source: int, leaving: Callable[[], IntArray], row: int | None, cause: str) -> None:
    banned: set[tuple[int, int]] = set()
    for _ in range(len(leaving()) + ATTEMPTS):
        keys = leaving()
        if not len(keys):
            return
        search = best_move(draft.view, source, draft.allowance, keys, banned, draining=True)
        if search.best is None:
            draft.held[source, row] = search.obstacle
            return
        if not apply_move(draft, source, search.best, banned, cause):
            draft.held[source, row] = "no_target_fits"


def _misplaced(view: PlacementModel, source: int, row: int) -> IntArray:
    keys = view.keys_on(source)
    return np.asarray(keys[(view.snapshot.rules.row[keys] == row) & ~view.snapshot.under_way[keys]])


def _leaving(view: PlacementModel, source: int, row: int) -> IntArray:
    keys = _misplaced(view, source, row)
    return keys[:0] if view.snapshot.rules.fixed[row] else keys[~view.has_shadow(keys)]


def _obstacle(view: PlacementModel, keys: IntArray, obstacle: str, row: int) -> str:
    """The search's last word, sharpened: pinned, nowhere to go, or shadows that have to go first."""
    if view.snapshot.rules.fixed[row]:
        return "pinned"
    if not (view.snapshot.rules.home[row] & view.snapshot.active).any():
        return "nowhere_allowed"
    standing = {shadow.key for shadow in view.snapshot.shadows}
    return "shadowed" if standing.issuperset(keys.tolist()) else obstacle
