"""From a snapshot to the hour's plan; pure and deterministic: the same snapshot and policy give the same plan.

1. **Rules.** Keys that stand against a placement rule are moved to where they may be.
2. **Relief.** Of the partitions whose LPS passes the high-water mark, the worst takes the option (a clump's move or a hot key's
   shadow) that removes most expected overload hours for its price; again, until each is below the low-water mark, nothing pays
   any more, or the hour's limits are used up: then those that are needed first are relieved first. Where a key fills a
   partition, others make room for its copy.
3. **Draining** partitions give up keys within what is left of the limits.
4. **Settling.** Keys go where they are read and where the keys used with them are, as far as it is worth the move.
5. **Reserve.** Partitions that an unforeseen burst would overload get shadows of keys whose reads can then make way.
6. **Far reads** get shadows near their readers; standing shadows whose reason has gone are removed, and those whose writes
   cost more than they save where all is full.
7. **Never worse.** Relief counts only where it lowers the worst LPS among the partitions that it touches, and nothing may
   raise the worst of all, recomputed from scratch (where that is below the low-water mark, nothing may pass this mark);
   otherwise the plan is empty and says why.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import partition_load
from foreshard.model import FloatArray, IntArray, Plan, Refusal
from foreshard.plan._departures import drain, obey_rules, unfinished
from foreshard.plan._evaluation_window import coming_and_past
from foreshard.plan._move_search import best_move
from foreshard.plan._placement_model import PAST_DAYS, TOLERANCE, PlacementModel
from foreshard.plan._plan_builder import PlanBuilder
from foreshard.plan._refusals import refusal_reason
from foreshard.plan._removals import remove_shadows, shed_writes
from foreshard.plan._reserve import keep_reserve
from foreshard.plan._room import make_room
from foreshard.plan._settling import calm, settle
from foreshard.plan._shadowing import best_shadow, far_shadows, peak_share
from foreshard.plan._steps import apply_if_harmless, apply_move, apply_shadow, move_id
from foreshard.plan._timing import timed
from foreshard.plan.snapshot import PlanPolicy, Snapshot

__all__ = ["make_plan", "move_id"]

MAXIMUM_ATTEMPTS = 8
"""Options of one partition that turn out to push others over their mark before it is given up."""

FAR_TRIED = 4
"""Far-read keys for which a shadow is tried in one plan, for each one allowed, those with the most kilometres first."""


def make_plan(snapshot: Snapshot, policy: PlanPolicy) -> Plan:
    """Make the plan for ``snapshot.hour``."""
    hours = coming_and_past(snapshot, PAST_DAYS)
    view = PlacementModel(snapshot, policy, hours)
    before = view.lps().copy()
    ceiling = max(_worst(before), policy.low_water) + TOLERANCE
    in_vain = dict.fromkeys(_overloaded(before, policy), "would_not_help")
    draft = PlanBuilder(view, ceiling)
    obey_rules(draft)
    _relieve(draft)
    if "limit_reached" in draft.obstacles.values():
        draft = PlanBuilder(PlacementModel(snapshot, policy, hours), ceiling)
        obey_rules(draft)
        _relieve(draft, urgent_first=True)
    if not _relief_helps(draft, before):
        draft = PlanBuilder(PlacementModel(snapshot, policy, hours), ceiling, obstacles=in_vain)
        obey_rules(draft)
    drain(draft)
    settle(draft)
    keep_reserve(draft)
    _shorten_far_reads(draft)
    shed_writes(draft)
    remove_shadows(draft, before)
    after = _scores(snapshot, policy, draft.view.primary, sorted(draft.view.shadows)) if draft.changed else before
    if _worst(after) > ceiling:
        draft, after = PlanBuilder(PlacementModel(snapshot, policy, hours), ceiling, obstacles=in_vain), before
    return _finish(draft, before, after)


def _scores(snapshot: Snapshot, policy: PlanPolicy, primary: IntArray, shadows: Sequence[tuple[int, int]]) -> FloatArray:
    """LPS per partition, computed from scratch."""
    profile, _ = partition_load(snapshot.demand, primary, shadows, snapshot.capacity, snapshot.distance_km, policy.serving)
    return load_prediction_scores(profile.upper(policy.serving), snapshot.capacity)


def _worst(lps: FloatArray) -> float:
    return float(lps.max(initial=0.0))


def _overloaded(lps: FloatArray, policy: PlanPolicy) -> list[int]:
    return np.flatnonzero(lps > policy.high_water + TOLERANCE).tolist()


def _relieve(draft: PlanBuilder, urgent_first: bool = False) -> None:
    """Relieve the overloaded partitions, always the worst next, each down to the low-water mark.

    ``urgent_first``: where the limits don't let all be relieved, those come first that are needed first, each to below the
    high-water mark at first: the next hour's plan can still help the others in time.
    """
    view = draft.view
    first_hour = (view.utilisation() > view.policy.high_water).argmax(axis=1) if urgent_first else np.zeros(len(view.lps()))
    open_cases = set(_overloaded(view.lps(), view.policy))
    banned: set[tuple[int, int]] = set()
    attempts = dict.fromkeys(open_cases, 0)
    while open_cases:
        lps = view.lps()
        done = lps <= view.policy.high_water if urgent_first else np.zeros(len(lps), bool)
        worst = min(open_cases, key=lambda partition: (done[partition], first_hour[partition], -lps[partition], partition))
        if lps[worst] <= view.policy.low_water:
            open_cases.discard(worst)
            continue
        obstacle = _relieve_once(draft, worst, banned)
        attempts[worst] += obstacle == "pushed_over"
        if obstacle and (obstacle != "pushed_over" or attempts[worst] > MAXIMUM_ATTEMPTS):
            draft.obstacles[worst] = "no_target_fits" if obstacle == "pushed_over" else obstacle
            open_cases.discard(worst)


def _relieve_once(draft: PlanBuilder, source: int, banned: set[tuple[int, int]]) -> str:
    """Apply the next option for ``source``; return what stood in the way, or nothing.

    While it is overloaded, a shadow of a hot key is made where that is worth more than the best move, and one of any other key
    where no move helps; where none fits, room is made for one. A key may have several. Where nothing helps and overload is
    certain, keys may go back to where they came from. A shadow takes load over only above the high-water mark, so below it keys
    are only moved.
    """
    view = draft.view
    on_source = view.movable_on(source)
    copyable = hot = on_source[:0]
    if view.lps()[source] > view.policy.high_water and len(draft.shadows) < view.policy.maximum_shadows:
        here = view.unmoved_on(source)
        copyable = here[draft.shadowable[here]]
        hot = copyable[peak_share(view, copyable) >= view.policy.hot_share]
    search = best_move(view, source, draft.allowance, on_source, banned)
    worth = search.best.worth if search.best is not None else 0.0
    if _shadow_once(draft, source, hot if search.best is not None else copyable, banned, worth):
        return ""
    came_lately = bool((view.snapshot.not_back_to[on_source] >= 0).any())
    if search.best is None and came_lately and view.overloaded_for_certain(source):
        view.returns_allowed = True
        search = best_move(view, source, draft.allowance, on_source, banned)
        view.returns_allowed = False
    if search.best is None:
        return "" if make_room(draft, source, copyable) else search.obstacle
    if not apply_move(draft, source, search.best, banned):
        return "pushed_over"
    draft.relieving |= {source, search.best.target}
    return ""


def _shadow_once(draft: PlanBuilder, source: int, keys: IntArray, banned: set[tuple[int, int]], least: float) -> bool:
    """Shadow the one of ``keys`` whose copy removes most risk, if that is worth more than ``least``."""
    shadow = best_shadow(draft.view, source, keys, draft.allowance.size_bytes, banned) if len(keys) else None
    if shadow is None or shadow.value <= least:
        return False
    apply_shadow(draft, shadow)
    draft.relieving |= {source, shadow.target}
    return True


def _relief_helps(draft: PlanBuilder, before: FloatArray) -> bool:
    """Whether the worst LPS among the touched partitions falls (true where nothing was touched)."""
    if not draft.relieving:
        return True
    after = draft.view.lps()
    touched = sorted(draft.relieving)
    return _worst(after[touched]) < _worst(before[touched]) - TOLERANCE and _worst(after) <= _worst(before) + TOLERANCE


def _shorten_far_reads(draft: PlanBuilder) -> None:
    """Copy keys that are read from far away to where they are read, while no partition gets too full by it."""
    view = draft.view
    if len(draft.shadows) >= view.policy.maximum_shadows or calm(view):
        return
    candidates = np.flatnonzero(draft.shadowable & view.snapshot.movable & view.snapshot.active[view.primary])
    candidates = candidates[~view.has_shadow(candidates)]
    moved = {move.key for move in draft.moves}
    tried = 0
    for option in far_shadows(view, candidates):
        size = float(view.snapshot.key_bytes[option.key])
        if size > draft.allowance.size_bytes or view.snapshot.keys[option.key] in moved:
            continue
        tried += 1
        apply_if_harmless(draft, option, view.policy.low_water)
        if len(draft.shadows) >= view.policy.maximum_shadows or tried >= FAR_TRIED * view.policy.maximum_shadows:
            return


def _finish(draft: PlanBuilder, before: FloatArray, after: FloatArray) -> Plan:
    """Order the moves by urgency, say when they are finished, refuse what stays over its mark, and name everything."""
    view, snapshot = draft.view, draft.view.snapshot
    limits = {"moves_left": draft.allowance.moves, "bytes_left": draft.allowance.size_bytes}
    names = [partition.partition_id for partition in snapshot.partitions]
    refusals = [
        Refusal(names[p], refusal_reason(view, p, draft.obstacles.get(p, "gain_too_small"), limits))
        for p in _overloaded(after, view.policy)
    ]
    moves, warnings = timed(snapshot, view.policy, draft.moves)
    return Plan(
        hour=snapshot.hour,
        table_version=snapshot.table_version,
        moves=moves,
        shadows=tuple(draft.shadows),
        removals=tuple(draft.removals),
        refusals=(*refusals, *unfinished(draft, limits)),
        warnings=warnings,
        lps_before={name: float(lps) for name, lps in zip(names, before, strict=True)},
        lps_after={name: float(lps) for name, lps in zip(names, after, strict=True)},
    )
