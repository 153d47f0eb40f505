"""A plan's steps: a move or a shadow is applied to the draft, with its reason, or taken back where it doesn't do."""

from __future__ import annotations

import hashlib
from datetime import datetime

import numpy as np

from foreshard.model import Move, PlannedShadow
from foreshard.model.decided import shadow_id
from foreshard.plan import _reasons as reasons
from foreshard.plan._move_search import MoveOption
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._plan_builder import PlanBuilder
from foreshard.plan._reasons import RELIEF
from foreshard.plan._shadowing import ShadowCandidate

LOWERED_PEAK = 0.01
"""How much LPS a move must take off a partition that is only being brought down to its low-water mark."""

COPY_RISK = 0.01
"""Expected overload hours that a copy which relieves nobody now may cost by the writes that it applies."""


def move_id(hour: datetime, key: str) -> str:
    """The move of ``key`` in the plan for ``hour``."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{hour:%Y%m%dT%H}-{digest}"


def apply_move(draft: PlanBuilder, source: int, option: MoveOption, banned: set[tuple[int, int]], cause: str = RELIEF) -> bool:
    """Move the clump, unless reads that flow back or on because of it undo its gain or push a partition over its mark."""
    view = draft.view
    risk, was = view.total_risk(), reasons.Before.of(view.utilisation()[source], view.policy.high_water)
    level = view.level(source) if cause == RELIEF else None
    change = view.move(option.keys, option.target)
    pays = cause != RELIEF or _pays(view, source, option, was, risk)
    if not pays or view.pushed_over(change, level) or float(view.lps().max()) > draft.ceiling:
        view.undo(change)
        banned.add((option.keys[0], option.target))
        return False
    record_move(draft, source, option, was, cause)
    return True


def record_move(
    draft: PlanBuilder, source: int, option: MoveOption, was: reasons.Before, cause: str, room_for: int | None = None
) -> None:
    """Add a move that has been applied to the plan; ``room_for``: the key for whose copy it makes room."""
    view, snapshot = draft.view, draft.view.snapshot
    draft.size_bytes += option.size_bytes
    draft.targets.add(option.target)
    draft.moves += [
        Move(
            move_id=move_id(snapshot.hour, snapshot.keys[key]),
            key=snapshot.keys[key],
            source=snapshot.partitions[source].partition_id,
            target=snapshot.partitions[option.target].partition_id,
            estimated_bytes=int(snapshot.key_bytes[key]),
            clump=snapshot.keys[option.keys[0]],
            reason=reasons.move_reason(view, source, option, key, was, cause, room_for),
        )
        for key in option.keys
    ]


def _pays(view: PlacementModel, source: int, option: MoveOption, was: reasons.Before, risk: float) -> bool:
    """Whether the move, once applied, removes more risk than it costs; below the high-water mark it must lower the peak."""
    lowers = was.lps > view.policy.high_water or float(view.lps()[source]) <= was.lps - LOWERED_PEAK
    return lowers and risk - view.total_risk() > option.price


def apply_if_harmless(draft: PlanBuilder, option: ShadowCandidate, fullest: float = np.inf) -> bool:
    """Give the key its shadow, unless that pushes a partition over its mark, fills the target beyond ``fullest`` or costs more
    than a little risk."""
    view, risk, was = draft.view, draft.view.total_risk(), _before(draft.view, option)
    change = view.add_shadow(option.key, option.target)
    refused = (
        view.pushed_over(change)
        or view.lps()[option.target] > fullest
        or float(view.lps().max(initial=0.0)) > draft.ceiling
        or view.total_risk() > risk + COPY_RISK
    )
    if refused:
        view.undo(change)
    else:
        _record_shadow(draft, option, was)
    return not refused


def apply_shadow(draft: PlanBuilder, option: ShadowCandidate) -> None:
    """Give the key its shadow."""
    was = _before(draft.view, option)
    draft.view.add_shadow(option.key, option.target)
    _record_shadow(draft, option, was)


def _before(view: PlacementModel, option: ShadowCandidate) -> reasons.Before:
    return reasons.Before.of(view.utilisation()[int(view.primary[option.key])], view.policy.high_water)


def _record_shadow(draft: PlanBuilder, option: ShadowCandidate, was: reasons.Before) -> None:
    """Add a shadow that has been made to the plan."""
    view, snapshot = draft.view, draft.view.snapshot
    source = int(view.primary[option.key])
    key, target = snapshot.keys[option.key], snapshot.partitions[option.target].partition_id
    draft.size_bytes += float(snapshot.key_bytes[option.key])
    draft.targets.add(option.target)
    draft.shadows.append(
        PlannedShadow(
            shadow_id=shadow_id(key, target),
            key=key,
            source=snapshot.partitions[source].partition_id,
            target=target,
            reason=reasons.shadow_reason(view, option, was),
        )
    )
