"""Room for a shadow: moves other keys away if a key too large for its partition needs a shadow and no partition has room.

The shadow and the moves are tried together on the model. First the shadow is added, which overfills its target. Then the best
moves off the fuller of the two partitions follow, until both are below their mark or no move pays. All are kept if together
they remove more risk than they cost. Single moves would not pay: the partition stays overloaded until the shadow exists, and
the shadow does not fit before the moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.model import IntArray
from foreshard.plan._clump import GIBIBYTE, Allowance, Effort, MoveOption
from foreshard.plan._model_change import ModelChange
from foreshard.plan._move_search import best_move
from foreshard.plan._placement_model import TOLERANCE, PlacementModel
from foreshard.plan._plan_builder import PlanBuilder, apply_shadow, record_move
from foreshard.plan._reasons import ROOM, LoadBefore
from foreshard.plan._shadowing import ShadowCandidate, peak_share, roomiest

LARGE = 0.5
"""A key whose mean peak takes this share of its partition's capacity is too large to move: its reads must be shared."""
KEYS_TRIED = 2
TARGETS_TRIED = 3
EFFORT = Effort(seeds=12, grown=2)
"""A small search, because it runs for every target and fails in most hours."""
ATTEMPTS = 4
"""Moves that may overfill other partitions before a partition is not tried further."""


@dataclass(frozen=True, slots=True)
class RoomForShadow:
    """A shadow, and the (source, move) pairs that make room for it."""

    shadow: ShadowCandidate
    moves: tuple[tuple[int, MoveOption], ...]


def make_room(builder: PlanBuilder, source: int, candidates: IntArray) -> bool:
    """Shadow the large key of ``candidates`` (shadowable keys on ``source``) for which making room has the highest value.

    Return False if none pays. A key that already has a shadow gets no room for another.
    """
    model = builder.model
    if model.risk_now()[source] <= model.policy.shadow_gain:
        return False
    candidates = candidates[~model.has_shadow(candidates)]
    share = peak_share(model, candidates)
    large, share = candidates[share >= LARGE], share[share >= LARGE]
    best: RoomForShadow | None = None
    for key in large[np.lexsort((large, -share))][:KEYS_TRIED].tolist():
        for target in roomiest(model, key)[:TARGETS_TRIED].tolist():
            found = _try_shadow(builder, source, key, target)
            if found is not None and (best is None or found.shadow.value > best.shadow.value):
                best = found
    if best is None:
        return False
    _apply(builder, best)
    return True


def _try_shadow(builder: PlanBuilder, source: int, key: int, target: int) -> RoomForShadow | None:
    """Add the shadow, make room, measure the value, and undo everything. None if it does not pay."""
    model, size = builder.model, float(builder.model.snapshot.key_bytes[key])
    left = Allowance(builder.allowance.moves, builder.allowance.size_bytes - size)
    if left.size_bytes < 0:
        return None
    risk, worst = model.total_risk(), float(model.lps()[[source, target]].max())
    changes, moves = [model.add_shadow(key, target)], list[tuple[int, MoveOption]]()
    _empty(model, [source, target], left, changes, moves)
    touched = [source, target, *(option.target for _, option in moves)]
    gain, after = risk - model.total_risk(), float(model.lps()[touched].max())
    for change in reversed(changes):
        model.undo(change)
    policy = model.policy
    price = policy.shadow_gain + policy.gigabyte_price * size / GIBIBYTE + sum(option.price for _, option in moves)
    if gain <= price or after >= worst - TOLERANCE:
        return None
    return RoomForShadow(ShadowCandidate(key, target, "hot_key", gain - price), tuple(moves))


def _empty(
    model: PlacementModel,
    partitions: list[int],
    left: Allowance,
    changes: list[ModelChange],
    moves: list[tuple[int, MoveOption]],
) -> None:
    """Move the most valuable clumps off the fuller of ``partitions``, within the limits ``left``.

    Targets may become as full as it is, because room for a large key rarely exists otherwise.
    """
    banned: set[tuple[int, int]] = set()
    failures = dict.fromkeys(partitions, 0)
    while failures:
        full = max(failures, key=lambda partition: (model.lps()[partition], -partition))
        over, level = model.lps()[full] > model.policy.high_water, model.level(full)
        here = model.movable_on(full)
        option = best_move(model, full, left, here, banned, effort=EFFORT, mark=level).best if over else None
        if option is None:
            del failures[full]
            continue
        change = model.move(option.keys, option.target)
        if model.pushed_over(change, level):
            model.undo(change)
            banned.add((option.keys[0], option.target))
            failures[full] += 1
            if failures[full] > ATTEMPTS:
                del failures[full]
            continue
        changes.append(change)
        moves.append((full, option))
        left = Allowance(left.moves - len(option.keys), left.size_bytes - option.size_bytes)


def _apply(builder: PlanBuilder, room: RoomForShadow) -> None:
    model, shadow = builder.model, room.shadow
    apply_shadow(builder, shadow)
    builder.relieving |= {int(model.primary[shadow.key]), shadow.target}
    for source, option in room.moves:
        before = LoadBefore.of(model.utilisation()[source], model.policy.high_water)
        model.move(option.keys, option.target)
        record_move(builder, source, option, before, ROOM, shadow.key)
        builder.relieving.add(option.target)
