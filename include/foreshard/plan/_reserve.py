"""The reserve: capacity kept free for bursts that no forecast predicts, or used by reads that shadows can take over.

A partition's *fixed* load is the load that it must serve itself: its keys without shadows, and the writes to its copies of the
other keys. The peak of the fixed load is scaled to the week's busiest hour. If it leaves less than ``reserve`` of the capacity,
the keys with the most reads in that hour get shadows. A target's reserve must stay free, or its peak must rise by little
compared with the relief; partitions with different busy hours therefore keep each other's reserve. On a usual day this moves no
reads. In a burst, reads of other keys move to their shadows. Reserve that no partition has room for is left to relief, which
acts on forecasts.
"""

from __future__ import annotations

import numpy as np

from foreshard.measure.demand import summing
from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._plan_builder import PlanBuilder, apply_if_harmless
from foreshard.plan._settling import is_calm, quiet_now
from foreshard.plan._shadowing import ShadowCandidate, diversity, open_to

SLACK = 0.05
"""A shadow is still needed if, without it, the fixed load would be within this share of capacity of the limit."""
KEYS_TRIED = 2
FAILURES = 2
"""After this many partitions that no shadow helps, the plan tries no more."""
LITTLE = 0.25
"""On a target without reserve, a shadow may raise the peak by this share of the decrease at its primary."""
DIVERSITY_WORTH = 0.1
"""A target one span farther from the other copies may be fuller by this share of its capacity."""


def keep_reserve(builder: PlanBuilder) -> None:
    """Shadow keys of partitions without reserve, those with the highest fixed load first.

    Nothing is shadowed while this plan moves keys, because shadowed keys cannot move; in the busier half of a partition's day,
    because copying costs load; or while the hours ahead are calm (:func:`foreshard.plan._settling.is_calm`).
    """
    model, policy = builder.model, builder.model.policy
    if policy.reserve <= 0 or builder.moves or is_calm(model):
        return
    load, failures = fixed_load(model), 0
    first = np.argsort(-_peaks(model, load), kind="stable")
    for partition in first[quiet_now(model)[first]].tolist():
        while _peaks(model, load[partition], partition) > 1.0 - policy.reserve:
            if len(builder.shadows) >= policy.maximum_shadows or failures >= FAILURES:
                return
            if not _shadow_one(builder, partition, load):
                failures += 1
                break
            load = fixed_load(model)


def still_reserved(model: PlacementModel, keys: IntArray, load: FloatArray) -> BoolArray:
    """Return whether the reserve of each key's primary partition depends on the key's shadows (n).

    ``load``: the fixed load (P, H).
    """
    if model.policy.reserve <= 0:
        return np.zeros(len(keys), bool)
    partition, demand = model.primary[keys], model.snapshot.demand
    reads = demand.mean[keys] * demand.read_share[keys][:, None] / SECONDS_PER_HOUR
    return _peaks(model, load[partition] + reads, partition) > 1.0 - model.policy.reserve - SLACK


def fixed_load(model: PlacementModel) -> FloatArray:
    """Return the load that each partition must serve itself, in cost/s (P, hours ahead)."""
    ahead, copies = (
        slice(model.marked_hours),
        [(key, held) for key in sorted(model.shadowed) for held in sorted(model.copies(key))],
    )
    keys, held = np.array(copies, np.int64).reshape(-1, 2).T
    writes = model.snapshot.demand.mean[keys] * (1.0 - model.snapshot.demand.read_share[keys])[:, None] / SECONDS_PER_HOUR
    return np.asarray(model.unshadowed_load.mean[:, ahead] + summing(held, len(model.capacity)) @ writes)


def _peaks(model: PlacementModel, load: FloatArray, partition: int | IntArray | slice = slice(None)) -> FloatArray:
    """Return the peak of the load (…, H) scaled to the week's busiest hour, as a share of capacity."""
    return np.asarray(load.max(axis=-1, initial=0.0) * model.snapshot.busy_factor / model.capacity[partition])


def _shadow_one(builder: PlanBuilder, partition: int, load: FloatArray) -> bool:
    """Shadow the key of ``partition`` with the most reads at its peak; False if no target fits."""
    model = builder.model
    here = model.unmoved_on(partition)
    keys = here[builder.shadowable[here] & ~model.has_shadow(here)]
    reads = model.snapshot.demand.mean[keys, int(load[partition].argmax())] * model.snapshot.demand.read_share[keys]
    first = np.lexsort((keys, -reads))[:KEYS_TRIED]
    for key in keys[first[reads[first] > 0]].tolist():
        targets = _targets(model, key, load)
        if not len(targets) or model.snapshot.key_bytes[key] > builder.allowance.size_bytes:
            continue
        if apply_if_harmless(builder, ShadowCandidate(key, int(targets[0]), "reserve", 0.0)):
            return True
    return False


def _targets(model: PlacementModel, key: int, load: FloatArray) -> IntArray:
    """Return possible targets for a shadow of ``key``, the best first: little load, and far from the existing copies.

    The writes of the key must leave the target's reserve free. Otherwise they must raise its peak by much less than the peak of
    the primary decreases, and not above that peak: the target is busy at another time, or the key is rarely written.
    """
    mean, source = model.snapshot.demand.mean[key] / SECONDS_PER_HOUR, int(model.primary[key])
    before, peak = _peaks(model, load), _peaks(model, load + mean * (1.0 - model.snapshot.demand.read_share[key]))
    fall = before[source] - _peaks(model, load[source] - mean * model.snapshot.demand.read_share[key], source)
    fits = (peak <= 1.0 - model.policy.reserve) | ((peak - before <= LITTLE * fall) & (peak <= before[source]))
    chosen = np.flatnonzero(open_to(model, key) & fits)
    return chosen[np.argsort(peak[chosen] - DIVERSITY_WORTH * diversity(model, key)[chosen], kind="stable")]
