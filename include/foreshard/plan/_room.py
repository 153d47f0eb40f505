"""Room for a copy: where a key too large for its partition needs a shadow and none has room for it, other keys make room.

The whole is tried on the outlook: first the shadow, which overfills its target, then the best moves off the fuller of the two
partitions until both are below their mark or nothing pays. It is kept where the whole removes more risk than it costs: each of
its moves alone would not, since the partition stays overloaded until the copy stands, and the copy fits nowhere before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.model import IntArray
from foreshard.plan._clump import Allowance
from foreshard.plan._model_change import ModelChange
from foreshard.plan._move_search import GIBIBYTE, Effort, MoveOption, best_move
from foreshard.plan._placement_model import TOLERANCE, PlacementModel
from foreshard.plan._plan_builder import PlanBuilder
from foreshard.plan._reasons import ROOM, Before
from foreshard.plan._shadowing import ShadowCandidate, peak_share, roomiest
from foreshard.plan._steps import apply_shadow, record_move

LARGE = 0.5
"""A key whose mean peak takes this share of its partition is too large to go anywhere: its load must be shared."""
KEYS_TRIED = 2
TARGETS_TRIED = 3
EFFORT = Effort(seeds=12, grown=2)
"""Which key goes matters less here than that many do, and every target is tried in vain in most hours."""
ATTEMPTS = 4
"""Moves that turn out to overfill others before a partition makes no more room."""


@dataclass(frozen=True, slots=True)
class Room:
    """A shadow, and the moves (with the partition that each is off) that make room for it on both sides."""

    shadow: ShadowCandidate
    moves: tuple[tuple[int, MoveOption], ...]


def make_room(draft: PlanBuilder, source: int, candidates: IntArray) -> bool:
    """Shadow the large one of ``candidates`` (shadowable keys on ``source``) for which making room is worth most, if any is.

    For a second copy of a key no room is made: it stands where it fits.
    """
    view = draft.view
    if view.risk_now()[source] <= view.policy.shadow_gain:
        return False
    candidates = candidates[~view.has_shadow(candidates)]
    share = peak_share(view, candidates)
    large, share = candidates[share >= LARGE], share[share >= LARGE]
    best: Room | None = None
    for key in large[np.lexsort((large, -share))][:KEYS_TRIED].tolist():
        for target in roomiest(view, key)[:TARGETS_TRIED].tolist():
            found = _try(draft, source, key, target)
            if found is not None and (best is None or found.shadow.value > best.shadow.value):
                best = found
    if best is None:
        return False
    _apply(draft, best)
    return True


def _try(draft: PlanBuilder, source: int, key: int, target: int) -> Room | None:
    """Put the shadow there, make room, see what it is worth, and take everything back; None where it doesn't pay."""
    view, size = draft.view, float(draft.view.snapshot.key_bytes[key])
    left = Allowance(draft.allowance.moves, draft.allowance.size_bytes - size)
    if left.size_bytes < 0:
        return None
    risk, worst = view.total_risk(), float(view.lps()[[source, target]].max())
    changes, moves = [view.add_shadow(key, target)], list[tuple[int, MoveOption]]()
    _empty(view, [source, target], left, changes, moves)
    touched = [source, target, *(option.target for _, option in moves)]
    gain, after = risk - view.total_risk(), float(view.lps()[touched].max())
    for change in reversed(changes):
        view.undo(change)
    policy = view.policy
    price = policy.shadow_gain + policy.gigabyte_price * size / GIBIBYTE + sum(option.price for _, option in moves)
    if gain <= price or after >= worst - TOLERANCE:
        return None
    return Room(ShadowCandidate(key, target, "hot_key", gain - price), tuple(moves))


def _empty(
    view: PlacementModel,
    partitions: list[int],
    left: Allowance,
    changes: list[ModelChange],
    moves: list[tuple[int, MoveOption]],
) -> None:
    """Move the most valuable clumps off the fuller of ``partitions``, within what is ``left`` of the limits.

    Others may become as full as it is: a large key's room is rarely there without levelling.
    """
    banned: set[tuple[int, int]] = set()
    failures = dict.fromkeys(partitions, 0)
    while failures:
        full = max(failures, key=lambda partition: (view.lps()[partition], -partition))
        over, level = view.lps()[full] > view.policy.high_water, view.level(full)
        here = view.movable_on(full)
        option = best_move(view, full, left, here, banned, effort=EFFORT, mark=level).best if over else None
        if option is None:
            del failures[full]
            continue
        change = view.move(option.keys, option.target)
        if view.pushed_over(change, level):
            view.undo(change)
            banned.add((option.keys[0], option.target))
            failures[full] += 1
            if failures[full] > ATTEMPTS:
                del failures[full]
            continue
        changes.append(change)
        moves.append((full, option))
        left = Allowance(left.moves - len(option.keys), left.size_bytes - option.size_bytes)


def _apply(draft: PlanBuilder, room: Room) -> None:
    view, shadow = draft.view, room.shadow
    apply_shadow(draft, shadow)
    draft.relieving |= {int(view.primary[shadow.key]), shadow.target}
    for source, option in room.moves:
        was = Before.of(view.utilisation()[source], view.policy.high_water)
        view.move(option.keys, option.target)
        record_move(draft, source, option, was, ROOM, shadow.key)
        draft.relieving.add(option.target)
