"""Which standing shadows a plan takes away, and which must stay."""

from __future__ import annotations

import numpy as np

from foreshard.model import FloatArray, ShadowCopy
from foreshard.plan import reasons
from foreshard.plan.draft import Draft
from foreshard.plan.reserve import fixed_load, still_reserved
from foreshard.plan.shadowing import removal_reason, still_far


def remove_shadows(draft: Draft, before: FloatArray) -> None:
    """Remove standing shadows whose reason has gone; one whose reads would push a target of this plan over its mark stays."""
    view, snapshot = draft.view, draft.view.snapshot
    fixed, far = fixed_load(view), still_far(view)
    for shadow in sorted(snapshot.shadows, key=lambda s: s.shadow_id):
        needed = shadow.removable and (bool(far[shadow.key]) or still_reserved(view, shadow.key, fixed))
        code = removal_reason(view, shadow, needed)
        if code is None:
            continue
        change = view.remove_shadow(shadow.key, shadow.partition)
        if float(view.lps().max(initial=0.0)) > draft.ceiling or _target_over_its_mark(draft, before):
            if change is not None:
                view.undo(change)
            continue
        fixed = fixed_load(view)
        draft.removals.append(
            ShadowCopy(
                shadow_id=shadow.shadow_id,
                key=snapshot.keys[shadow.key],
                source=snapshot.partitions[int(view.primary[shadow.key])].partition_id,
                target=snapshot.partitions[shadow.partition].partition_id,
                reason=reasons.removal_reason(view, code, shadow.key, shadow.partition),
            )
        )


def _target_over_its_mark(draft: Draft, before: FloatArray) -> bool:
    """Whether a partition that this plan gives something to is over the high-water mark, and farther than it was."""
    targets = sorted(draft.targets)
    lps = draft.view.lps()[targets]
    return bool((lps > np.maximum(draft.view.policy.high_water, before[targets])).any())
