"""Which standing shadows a plan takes away, and which must stay."""

from __future__ import annotations

import numpy as np

from foreshard.model import SECONDS_PER_HOUR, FloatArray, PlannedShadow
from foreshard.plan import _reasons as reasons
from foreshard.plan._placement_model import TOLERANCE
from foreshard.plan._plan_builder import PlanBuilder
from foreshard.plan._reserve import fixed_load, still_reserved
from foreshard.plan._shadowing import removal_code, still_far
from foreshard.plan.snapshot import IndexedShadow

SHED_GAIN = 0.01
"""Expected overload hours that giving up a shadow which is still needed must save."""
FAILURES = 4
"""Shadows in turn that nothing is saved by giving up, before a plan looks at no more."""


def shed_writes(draft: PlanBuilder) -> None:
    """Give up standing shadows where overload is foreseen and the writes that they cost weigh more than what they save.

    When there is hardly room anywhere, passing reads on helps nobody, and each copy's writes come on top. Those with most
    writes are tried first; they come back when there is room for a reserve again.
    """
    view = draft.view
    if float(view.lps().max(initial=0.0)) <= 1.0:
        return
    failures = 0
    for shadow in _most_written(draft):
        risk = view.total_risk()
        change = view.remove_shadow(shadow.key, shadow.partition)
        if change is None:
            continue
        if view.total_risk() > risk - SHED_GAIN or float(view.lps().max()) > draft.ceiling:
            view.undo(change)
            failures += 1
            if failures >= FAILURES:
                return
            continue
        failures = 0
        _record(draft, shadow, "writes_cost_more")


def remove_shadows(draft: PlanBuilder, before: FloatArray) -> None:
    """Remove standing shadows whose reason has gone; one whose reads would push a target of this plan over its mark stays."""
    view, gone = draft.view, {removal.shadow_id for removal in draft.removals}
    standing = sorted((s for s in view.snapshot.shadows if s.shadow_id not in gone), key=lambda s: s.shadow_id)
    keys = np.array([shadow.key for shadow in standing], np.int64)
    far, reserved = still_far(view)[keys], still_reserved(view, keys, fixed_load(view))
    for number, shadow in enumerate(standing):
        code = removal_code(view, shadow, bool(far[number] or reserved[number]))
        if code is None:
            continue
        change = view.remove_shadow(shadow.key, shadow.partition)
        if float(view.lps().max(initial=0.0)) > draft.ceiling or _target_over_its_mark(draft, before):
            if change is not None:
                view.undo(change)
            continue
        reserved = still_reserved(view, keys, fixed_load(view))
        _record(draft, shadow, code)


def _most_written(draft: PlanBuilder) -> list[IndexedShadow]:
    """The standing shadows that may go, those with the highest peak of writes first."""
    demand = draft.view.snapshot.demand
    writes = demand.mean.max(axis=1, initial=0.0) * (1.0 - demand.read_share) / SECONDS_PER_HOUR
    may_go = [shadow for shadow in draft.view.snapshot.shadows if shadow.removable and writes[shadow.key] > TOLERANCE]
    return sorted(may_go, key=lambda shadow: (-writes[shadow.key], shadow.shadow_id))


def _record(draft: PlanBuilder, shadow: IndexedShadow, code: str) -> None:
    """Add the removal of a shadow that the outlook has no more to the plan."""
    view, snapshot = draft.view, draft.view.snapshot
    draft.removals.append(
        PlannedShadow(
            shadow_id=shadow.shadow_id,
            key=snapshot.keys[shadow.key],
            source=snapshot.partitions[int(view.primary[shadow.key])].partition_id,
            target=snapshot.partitions[shadow.partition].partition_id,
            reason=reasons.removal_reason(view, code, shadow.key, shadow.partition),
        )
    )


def _target_over_its_mark(draft: PlanBuilder, before: FloatArray) -> bool:
    """Whether a partition that this plan gives something to is over the high-water mark, and farther than it was."""
    targets = sorted(draft.targets)
    lps = draft.view.lps()[targets]
    return bool((lps > np.maximum(draft.view.policy.high_water, before[targets])).any())
