"""Reserve: each partition keeps room for a burst that no forecast sees, or reads that sidecars can pass on to other copies.

A partition's *fixed* load is what it must serve itself: its keys without shadows, and the writes to its copies of the others.
Where the peak of that, at the level of the week's busiest hour, leaves less than ``reserve`` of the capacity, the keys that are
read most at that hour get shadows, where the writes that come with them leave the reserve untouched, or weigh little beside
what can make way then: partitions that are busy at different times keep each other's reserve. Nothing is served elsewhere by
that on a usual day; when keys burst, reads of the others make way. Where no partition has room for more, the rest is for
relief, which acts on forecasts.
"""

from __future__ import annotations

import numpy as np

from foreshard.measure.demand import summing
from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._plan_builder import PlanBuilder
from foreshard.plan._settling import calm, quiet_now
from foreshard.plan._shadowing import ShadowCandidate, diversity, open_to
from foreshard.plan._steps import apply_if_harmless

SLACK = 0.05
"""A shadow is still needed while, without it, the fixed load would come so near to the limit; of the capacity."""
KEYS_TRIED = 2
FAILURES = 2
"""Partitions that no shadow can help before a plan looks for no more."""
LITTLE = 0.25
"""How much of what its primary's peak falls by a copy may raise the peak of a partition without reserve."""
DIVERSITY_WORTH = 0.1
"""How much more of its capacity a target one whole span farther from the other copies may have in use."""


def keep_reserve(draft: PlanBuilder) -> None:
    """Shadow keys of partitions without reserve, those with the highest fixed load first.

    Not while keys still settle, since a key with a shadow stays where it is; nor in the busier half of a partition's day, since
    copying costs load; nor while the hours ahead say little (:func:`foreshard.plan._settling.calm`).
    """
    view, policy = draft.view, draft.view.policy
    if policy.reserve <= 0 or draft.moves or calm(view):
        return
    load, failures = fixed_load(view), 0
    first = np.argsort(-_peaks(view, load), kind="stable")
    for partition in first[quiet_now(view)[first]].tolist():
        while _peaks(view, load[partition], partition) > 1.0 - policy.reserve:
            if len(draft.shadows) >= policy.maximum_shadows or failures >= FAILURES:
                return
            if not _shadow_one(draft, partition, load):
                failures += 1
                break
            load = fixed_load(view)


def still_reserved(view: PlacementModel, keys: IntArray, load: FloatArray) -> BoolArray:
    """Whether the reserve of its primary's partition rests on the shadows of each key (n); ``load``: the fixed load (P, H)."""
    if view.policy.reserve <= 0:
        return np.zeros(len(keys), bool)
    partition, demand = view.primary[keys], view.snapshot.demand
    reads = demand.mean[keys] * demand.read_share[keys][:, None] / SECONDS_PER_HOUR
    return _peaks(view, load[partition] + reads, partition) > 1.0 - view.policy.reserve - SLACK


def fixed_load(view: PlacementModel) -> FloatArray:
    """What each partition can't pass on, in cost/s (P, hours ahead)."""
    ahead, copies = slice(view.marked), [(key, held) for key in sorted(view.shadowed) for held in sorted(view.copies(key))]
    keys, held = np.array(copies, np.int64).reshape(-1, 2).T
    writes = view.snapshot.demand.mean[keys] * (1.0 - view.snapshot.demand.read_share[keys])[:, None] / SECONDS_PER_HOUR
    return np.asarray(view.whole.mean[:, ahead] + summing(held, len(view.capacity)) @ writes)


def _peaks(view: PlacementModel, load: FloatArray, partition: int | IntArray | slice = slice(None)) -> FloatArray:
    """The peak of the load (…, H) of all partitions or one, at the level of the week's busiest hour, as a share of capacity."""
    return np.asarray(load.max(axis=-1, initial=0.0) * view.snapshot.busy_factor / view.capacity[partition])


def _shadow_one(draft: PlanBuilder, partition: int, load: FloatArray) -> bool:
    """Shadow the key of ``partition`` whose reads weigh most at its peak, where one may be; whether there was one."""
    view = draft.view
    here = view.unmoved_on(partition)
    keys = here[draft.shadowable[here] & ~view.has_shadow(here)]
    reads = view.snapshot.demand.mean[keys, int(load[partition].argmax())] * view.snapshot.demand.read_share[keys]
    first = np.lexsort((keys, -reads))[:KEYS_TRIED]
    for key in keys[first[reads[first] > 0]].tolist():
        targets = _targets(view, key, load)
        if not len(targets) or view.snapshot.key_bytes[key] > draft.allowance.size_bytes:
            continue
        if apply_if_harmless(draft, ShadowCandidate(key, int(targets[0]), "reserve", 0.0)):
            return True
    return False


def _targets(view: PlacementModel, key: int, load: FloatArray) -> IntArray:
    """Where the writes of ``key`` leave the reserve untouched, the best first: light, and far from the copies there are.

    Or where they raise the peak by much less than its primary's falls, to no more than that was: it is high at another time, or
    the key is hardly written.
    """
    mean, source = view.snapshot.demand.mean[key] / SECONDS_PER_HOUR, int(view.primary[key])
    before, peak = _peaks(view, load), _peaks(view, load + mean * (1.0 - view.snapshot.demand.read_share[key]))
    fall = before[source] - _peaks(view, load[source] - mean * view.snapshot.demand.read_share[key], source)
    fits = (peak <= 1.0 - view.policy.reserve) | ((peak - before <= LITTLE * fall) & (peak <= before[source]))
    chosen = np.flatnonzero(open_to(view, key) & fits)
    return chosen[np.argsort(peak[chosen] - DIVERSITY_WORTH * diversity(view, key)[chosen], kind="stable")]
