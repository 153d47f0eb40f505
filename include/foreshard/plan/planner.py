"""Makes the hour's plan from a snapshot. Pure and deterministic: the same snapshot and policy give the same plan.

1. **Rules.** Keys that violate a placement rule move to an allowed partition.
2. **Relief by sets.** Partitions that are full of small units (slots, small keys) give sets of them to others, down to the
   level of the best possible split.
3. **Relief.** Partitions above the high-water mark are relieved, always the worst first. Each step takes the option (moving a
   clump or shadowing a hot key) that removes the most expected overload hours for its price. Relief of a partition ends
   below the low-water mark, when nothing pays, or when the hour's limits are used up. In the last case the plan is made again,
   and the partitions that need relief first come first. If a key fills a partition, other keys make room for its shadow.
4. **Draining** partitions move keys away within the remaining limits.
5. **Settling.** Keys move closer to their readers and co-accessed keys, if that is worth the move.
6. **Reserve.** Partitions that a burst would overload get shadows of keys, which can then take reads.
7. **Far reads** get shadows near their readers. Unneeded shadows are removed, as are shadows whose writes cost
   more than they save when everything is full.
8. **Never worse.** Relief must lower the worst LPS among the partitions that it changes. No step may raise the worst LPS of
   all, recomputed from scratch; if that is below the low-water mark, no partition may exceed that mark. Otherwise the plan is
   empty and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import partition_load
from foreshard.model import FloatArray, IntArray, Plan, Refusal
from foreshard.plan._evaluation_window import coming_and_past
from foreshard.plan._move_search import best_move
from foreshard.plan._placement_model import PAST_DAYS, TOLERANCE, PlacementModel
from foreshard.plan._plan_builder import PlanBuilder, apply_if_harmless, apply_move, apply_shadow, move_id
from foreshard.plan._refusals import refusal_reason
from foreshard.plan._removals import remove_shadows, shed_writes
from foreshard.plan._required_moves import drain, enforce_rules, unfinished
from foreshard.plan._reserve import keep_reserve
from foreshard.plan._room import make_room
from foreshard.plan._set_relief import relieve_by_sets
from foreshard.plan._settling import is_calm, settle
from foreshard.plan._shadowing import best_shadow, far_shadows, peak_share
from foreshard.plan._timing import schedule
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot

__all__ = ["make_plan", "may_act", "move_id"]

MAXIMUM_ATTEMPTS = 8
"""Options of one partition that may push others above their mark before its relief ends."""

FAR_TRIED = 4
"""Far-read keys that are tried for each shadow that one plan may make."""


def make_plan(snapshot: Snapshot, policy: PlanPolicy) -> Plan:
    """Make the plan for ``snapshot.hour``."""
    hours = coming_and_past(snapshot, PAST_DAYS)
    model = PlacementModel(snapshot, policy, hours)
    before = model.lps().copy()
    ceiling = max(_worst(before), policy.low_water) + TOLERANCE
    not_helpful = dict.fromkeys(_overloaded(before, policy), "would_not_help")
    builder = PlanBuilder(model, ceiling)
    enforce_rules(builder)
    _relieve(builder)
    if "limit_reached" in builder.obstacles.values():
        builder = PlanBuilder(PlacementModel(snapshot, policy, hours), ceiling)
        enforce_rules(builder)
        _relieve(builder, urgent_first=True)
    if not _relief_helps(builder, before):
        builder = PlanBuilder(PlacementModel(snapshot, policy, hours), ceiling, obstacles=not_helpful)
        enforce_rules(builder)
    drain(builder)
    settle(builder)
    keep_reserve(builder)
    _shorten_far_reads(builder)
    shed_writes(builder)
    remove_shadows(builder, before)
    after = _scores(snapshot, policy, builder.model.primary, sorted(builder.model.shadows)) if builder.changed else before
    if _worst(after) > ceiling:
        builder, after = PlanBuilder(PlacementModel(snapshot, policy, hours), ceiling, obstacles=not_helpful), before
    return _finish(builder, before, after)


def _scores(snapshot: Snapshot, policy: PlanPolicy, primary: IntArray, shadows: Sequence[tuple[int, int]]) -> FloatArray:
    """LPS per partition, computed from scratch."""
    profile, _ = partition_load(snapshot.demand, primary, shadows, snapshot.capacity, snapshot.distance_km, policy.serving)
    return load_prediction_scores(profile.upper(policy.serving), snapshot.capacity)


def _worst(lps: FloatArray) -> float:
    return float(lps.max(initial=0.0))


def _overloaded(lps: FloatArray, policy: PlanPolicy) -> list[int]:
    return np.flatnonzero(lps > policy.high_water + TOLERANCE).tolist()


def _relieve(builder: PlanBuilder, urgent_first: bool = False) -> None:
    """Relieve the overloaded partitions, always the worst next, each down to the low-water mark.

    ``urgent_first``: partitions that need relief first come first, and only to below the high-water mark at first. The next
    hour's plan can still relieve the others in time.
    """
    relieve_by_sets(builder)
    model = builder.model
    first_hour = (model.utilisation() > model.policy.high_water).argmax(axis=1) if urgent_first else np.zeros(len(model.lps()))
    open_cases = set(_overloaded(model.lps(), model.policy))
    banned: set[tuple[int, int]] = set()
    attempts = dict.fromkeys(open_cases, 0)
    while open_cases:
        lps = model.lps()
        done = lps <= model.policy.high_water if urgent_first else np.zeros(len(lps), bool)
        worst = min(open_cases, key=lambda partition: (done[partition], first_hour[partition], -lps[partition], partition))
        if lps[worst] <= model.policy.low_water:
            open_cases.discard(worst)
            continue
        obstacle = _relieve_once(builder, worst, banned)
        attempts[worst] += obstacle == "pushed_over"
        if obstacle and (obstacle != "pushed_over" or attempts[worst] > MAXIMUM_ATTEMPTS):
            builder.obstacles[worst] = "no_target_fits" if obstacle == "pushed_over" else obstacle
            open_cases.discard(worst)


def _relieve_once(builder: PlanBuilder, source: int, banned: set[tuple[int, int]]) -> str:
    """Apply the next option for ``source``. Return the obstacle, or an empty string.

    Above the high-water mark, a shadow of a hot key is made if it is worth more than the best move, and a shadow of any key if
    no move helps. If no shadow fits, room is made for one. A key may have several shadows. If nothing helps and overload is
    certain, keys may return to the partition that they left. Below the high-water mark keys are only moved, because shadows
    take over reads only above it.
    """
    model = builder.model
    on_source = model.movable_on(source)
    copyable = hot = on_source[:0]
    if model.lps()[source] > model.policy.high_water and len(builder.shadows) < model.policy.maximum_shadows:
        here = model.unmoved_on(source)
        copyable = here[builder.shadowable[here]]
        hot = copyable[peak_share(model, copyable) >= model.policy.hot_share]
    search = best_move(model, source, builder.allowance, on_source, banned)
    worth = search.best.worth if search.best is not None else 0.0
    if _shadow_once(builder, source, hot if search.best is not None else copyable, banned, worth):
        return ""
    moved_lately = bool((model.snapshot.not_back_to[on_source] >= 0).any())
    if search.best is None and moved_lately and model.certainly_overloaded(source):
        model.returns_allowed = True
        search = best_move(model, source, builder.allowance, on_source, banned)
        model.returns_allowed = False
    if search.best is None:
        return "" if make_room(builder, source, copyable) else search.obstacle
    if not apply_move(builder, source, search.best, banned):
        return "pushed_over"
    builder.relieving |= {source, search.best.target}
    return ""


def _shadow_once(builder: PlanBuilder, source: int, keys: IntArray, banned: set[tuple[int, int]], least: float) -> bool:
    """Shadow the key of ``keys`` whose shadow removes the most risk, if that is worth more than ``least``."""
    shadow = best_shadow(builder.model, source, keys, builder.allowance.size_bytes, banned) if len(keys) else None
    if shadow is None or shadow.value <= least:
        return False
    apply_shadow(builder, shadow)
    builder.relieving |= {source, shadow.target}
    return True


def _relief_helps(builder: PlanBuilder, before: FloatArray) -> bool:
    """Return whether relief lowers the worst LPS among the partitions that it changes; True if it changes none."""
    if not builder.relieving:
        return True
    after = builder.model.lps()
    touched = sorted(builder.relieving)
    return _worst(after[touched]) < _worst(before[touched]) - TOLERANCE and _worst(after) <= _worst(before) + TOLERANCE


def _shorten_far_reads(builder: PlanBuilder) -> None:
    """Shadow keys that are read from far away near their readers, while no partition becomes too full."""
    model = builder.model
    if len(builder.shadows) >= model.policy.maximum_shadows or is_calm(model):
        return
    candidates = np.flatnonzero(builder.shadowable & model.snapshot.movable & model.snapshot.active[model.primary])
    candidates = candidates[~model.has_shadow(candidates)]
    moved = {unit for move in builder.moves for unit in move.units}
    tried = 0
    for option in far_shadows(model, candidates):
        size = float(model.snapshot.key_bytes[option.key])
        if size > builder.allowance.size_bytes or model.snapshot.keys[option.key] in moved:
            continue
        tried += 1
        apply_if_harmless(builder, option, model.policy.low_water)
        if len(builder.shadows) >= model.policy.maximum_shadows or tried >= FAR_TRIED * model.policy.maximum_shadows:
            return


def _finish(builder: PlanBuilder, before: FloatArray, after: FloatArray) -> Plan:
    """Order and time the moves, and give the reason for each partition that stays above its mark."""
    model, snapshot = builder.model, builder.model.snapshot
    limits = {"moves_left": builder.allowance.moves, "bytes_left": builder.allowance.size_bytes}
    names = [partition.partition_id for partition in snapshot.partitions]
    refusals = [
        Refusal(names[p], refusal_reason(model, p, builder.obstacles.get(p, "gain_too_small"), limits))
        for p in _overloaded(after, model.policy)
    ]
    moves, warnings = schedule(snapshot, model.policy, builder.moves)
    return Plan(
        hour=snapshot.hour,
        table_version=snapshot.table_version,
        moves=moves,
        shadows=tuple(builder.shadows),
        removals=tuple(builder.removals),
        refusals=(*refusals, *unfinished(builder, limits)),
        warnings=warnings,
        lps_before={name: float(lps) for name, lps in zip(names, before, strict=True)},
        lps_after={name: float(lps) for name, lps in zip(names, after, strict=True)},
    )


def may_act(hour: datetime, newest_counted: datetime | None, *, dry_run: bool = False, act_on_old_hours: bool = False) -> bool:
    """Return whether the plan for ``hour`` may change live placement.

    It may for the newest counted hour, or with ``act_on_old_hours``.

    A backfill of last week therefore plans without effect. ``newest_counted`` is None if nothing has been counted. A
    ``dry_run`` never acts.
    """
    if dry_run:
        return False
    return act_on_old_hours or newest_counted is None or hour >= newest_counted
