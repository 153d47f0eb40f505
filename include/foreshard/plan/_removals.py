"""Which existing shadows a plan removes, and which must stay."""

from __future__ import annotations

import numpy as np

from foreshard.model import SECONDS_PER_HOUR, FloatArray, PlannedShadow
from foreshard.plan import _reasons as reasons
from foreshard.plan._placement_model import TOLERANCE
from foreshard.plan._plan_builder import PlanBuilder
from foreshard.plan._reserve import fixed_load, still_reserved
from foreshard.plan._shadowing import removal_code, still_far
from foreshard.plan.input.snapshot import IndexedShadow

SHED_GAIN = 0.01
"""The expected overload hours that removing a shadow for its writes must save."""
FAILURES = 4
"""After this many consecutive shadows whose removal saves nothing, the plan tries no more."""


def shed_writes(builder: PlanBuilder) -> None:
    """If overload is predicted, remove shadows whose writes cost more than the shadows save.

    When hardly any partition has room, passing on reads does not help, and every shadow adds writes. The shadows with the most
    writes are tried first. The reserve brings them back when there is room.
    """
    model = builder.model
    if float(model.lps().max(initial=0.0)) <= 1.0:
        return
    failures = 0
    for shadow in _most_written(builder):
        risk = model.total_risk()
        change = model.remove_shadow(shadow.key, shadow.partition)
        if change is None:
            continue
        if model.total_risk() > risk - SHED_GAIN or float(model.lps().max()) > builder.ceiling:
            model.undo(change)
            failures += 1
            if failures >= FAILURES:
                return
            continue
        failures = 0
        _record(builder, shadow, "writes_cost_more")


def remove_shadows(builder: PlanBuilder, before: FloatArray) -> None:
    """Remove shadows that nothing needs, unless their reads would push a target of this plan above its mark."""
    model, gone = builder.model, {removal.shadow_id for removal in builder.removals}
    current = sorted((s for s in model.snapshot.shadows if s.shadow_id not in gone), key=lambda s: s.shadow_id)
    keys = np.array([shadow.key for shadow in current], np.int64)
    far, reserved = still_far(model)[keys], still_reserved(model, keys, fixed_load(model))
    for number, shadow in enumerate(current):
        code = removal_code(model, shadow, bool(far[number] or reserved[number]))
        if code is None:
            continue
        change = model.remove_shadow(shadow.key, shadow.partition)
        if float(model.lps().max(initial=0.0)) > builder.ceiling or _target_over_its_mark(builder, before):
            if change is not None:
                model.undo(change)
            continue
        reserved = still_reserved(model, keys, fixed_load(model))
        _record(builder, shadow, code)


def _most_written(builder: PlanBuilder) -> list[IndexedShadow]:
    """Return the removable shadows, those with the highest peak of writes first."""
    demand = builder.model.snapshot.demand
    writes = demand.mean.max(axis=1, initial=0.0) * (1.0 - demand.read_share) / SECONDS_PER_HOUR
    removable = [shadow for shadow in builder.model.snapshot.shadows if shadow.removable and writes[shadow.key] > TOLERANCE]
    return sorted(removable, key=lambda shadow: (-writes[shadow.key], shadow.shadow_id))


def _record(builder: PlanBuilder, shadow: IndexedShadow, code: str) -> None:
    """Add to the plan the removal of a shadow that is already removed from the model."""
    model, snapshot = builder.model, builder.model.snapshot
    builder.removals.append(
        PlannedShadow(
            shadow_id=shadow.shadow_id,
            key=snapshot.keys[shadow.key],
            source=snapshot.partitions[int(model.primary[shadow.key])].partition_id,
            target=snapshot.partitions[shadow.partition].partition_id,
            reason=reasons.removal_reason(model, code, shadow.key, shadow.partition),
        )
    )


def _target_over_its_mark(builder: PlanBuilder, before: FloatArray) -> bool:
    """Return whether a target of this plan is above the high-water mark, and higher than before."""
    targets = sorted(builder.targets)
    lps = builder.model.lps()[targets]
    return bool((lps > np.maximum(builder.model.policy.high_water, before[targets])).any())
