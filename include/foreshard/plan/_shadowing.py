"""Shadows: where a shadow of a hot key reduces load or a shadow of a far-read key distance, and which are not needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray
from foreshard.plan._clump import GIBIBYTE
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan.input.snapshot import IndexedShadow, PlanPolicy, Snapshot

KEYS_TRIED = 6
TARGETS_TRIED = 6
DIVERSITY_BONUS = 0.02
"""The value of a shadow one span away from the other copies, large enough only to decide between equal targets."""
STILL_NEEDED = 0.5
"""A shadow is kept while its reason is at this share of the level at which it is made."""


@dataclass(frozen=True, slots=True)
class ShadowCandidate:
    """A shadow of ``key`` on ``target``. ``value`` is in overload hours, for far reads in km saved per read."""

    key: int
    target: int
    code: str
    value: float
    saved_km: float = 0.0


def shadowable(snapshot: Snapshot, policy: PlanPolicy) -> BoolArray:
    """Return which keys may have shadows: keys, not slots, that are read, not written too often, and not being moved.

    A key that rests after a move may have one, because a shadow does not move it.
    """
    read = snapshot.demand.read_share
    return np.asarray(~snapshot.slots & ~snapshot.under_way & (read > 0) & (1.0 - read <= policy.maximum_write_share))


def peak_share(model: PlacementModel, keys: IntArray) -> FloatArray:
    """Return the peak of each key's own mean load ÷ the capacity of its primary partition."""
    peak = model.snapshot.demand.mean[keys].max(axis=1, initial=0.0) / SECONDS_PER_HOUR
    return np.asarray(peak / model.capacity[model.primary[keys]])


def best_shadow(
    model: PlacementModel, source: int, candidates: IntArray, size_bytes: float, banned: set[tuple[int, int]]
) -> ShadowCandidate | None:
    """Find the shadow of one of ``candidates`` (keys on ``source``) that removes the most overload risk; None if none pays."""
    relief = (model.hours.mean(candidates) @ model.urgency(source)) * model.snapshot.demand.read_share[candidates]
    best: ShadowCandidate | None = None
    for key in candidates[np.lexsort((candidates, -relief))[:KEYS_TRIED]].tolist():
        if model.snapshot.key_bytes[key] > size_bytes:
            continue
        for target in _light_partitions(model, key)[:TARGETS_TRIED].tolist():
            option = None if (key, target) in banned else _try_shadow(model, key, target)
            if option is not None and (best is None or option.value > best.value):
                best = option
    return best if best is not None and best.value > 0 else None


def _light_partitions(model: PlacementModel, key: int) -> IntArray:
    """Return active partitions below the low-water mark without a copy, best first: little load, far from copies."""
    lps = model.lps()
    chosen = np.flatnonzero(open_to(model, key) & (lps < model.policy.low_water))
    return chosen[np.argsort(lps[chosen] - diversity(model, key)[chosen], kind="stable")]


def roomiest(model: PlacementModel, key: int) -> IntArray:
    """Return active partitions without a copy, even if none fits now, the best first: little load, and far from the copies."""
    chosen = np.flatnonzero(open_to(model, key))
    return chosen[np.argsort(model.lps()[chosen] - diversity(model, key)[chosen] * DIVERSITY_BONUS, kind="stable")]


def open_to(model: PlacementModel, key: int) -> BoolArray:
    """Return which partitions may get a shadow of ``key`` (P): active and allowed, without a copy, and not removing one.

    The partition that the key left recently is excluded, because its old copy may not be deleted yet.
    """
    snapshot, left = model.snapshot, int(model.snapshot.last_source[key])
    may: BoolArray = snapshot.active & snapshot.rules.copy[snapshot.rules.row[key]]
    may[[*model.copies(key), *snapshot.leaving_of.get(key, ()), *([left] if left >= 0 else [])]] = False
    return may


def diversity(model: PlacementModel, key: int) -> FloatArray:
    """Return the distance of each partition from the nearest copy of ``key``, in spans (P, 0 to 1)."""
    return np.asarray(model.snapshot.partition_km[sorted(model.copies(key))].min(axis=0) / model.snapshot.span_km)


def _try_shadow(model: PlacementModel, key: int, target: int) -> ShadowCandidate | None:
    """Measure one shadow and undo it. None if it would push a partition above its mark."""
    risk, apart = model.total_risk(), float(diversity(model, key)[target])
    change = model.add_shadow(key, target)
    gain = None if model.pushed_over(change) else risk - model.total_risk()
    model.undo(change)
    if gain is None:
        return None
    price = model.policy.shadow_gain + model.policy.gigabyte_price * float(model.snapshot.key_bytes[key]) / GIBIBYTE
    return ShadowCandidate(key, target, "hot_key", gain - price + (DIVERSITY_BONUS * apart if gain > price else 0.0))


def far_reads(model: PlacementModel) -> tuple[FloatArray, FloatArray]:
    """For each key, the share of its reads from farther than ``far_km``, and the sum of share × km of these reads."""
    origins, distance = model.snapshot.demand.origins, model.snapshot.distance_km
    row = np.repeat(np.arange(len(model.primary)), np.diff(origins.indptr))
    km = distance[origins.location, model.primary[row]]
    far = km > model.policy.far_km
    share = np.bincount(row, weights=origins.share * far, minlength=len(model.primary))
    return share.astype(np.float64), np.bincount(row, weights=origins.share * far * km, minlength=len(model.primary)).astype(
        float
    )


def far_load(model: PlacementModel, share: FloatArray) -> FloatArray:
    """Return each key's mean far reads over the horizon, as a share of its primary partition's capacity."""
    demand = model.snapshot.demand
    reads = demand.mean.mean(axis=1) * demand.read_share / SECONDS_PER_HOUR
    return np.asarray(reads * share / model.capacity[model.primary])


def far_shadows(model: PlacementModel, candidates: IntArray) -> Iterator[ShadowCandidate]:
    """Yield at most one shadow per key near the far readers of ``candidates``, those with the most load × km first.

    The target is the lightly loaded partition that shortens the far reads most, by at least half.
    """
    policy, snapshot = model.policy, model.snapshot
    share, km = far_reads(model)
    load = far_load(model, share)
    chosen = candidates[(share[candidates] >= policy.far_share) & (load[candidates] >= policy.far_load)]
    for key in chosen[np.lexsort((chosen, -(load * km)[chosen]))].tolist():
        places, shares = snapshot.demand.origins.of(key)
        here = snapshot.distance_km[places, model.primary[key]]
        far = here > policy.far_km
        targets = np.sort(_light_partitions(model, key))
        if not len(targets):
            continue
        nearer = np.maximum(here[far, None] - snapshot.distance_km[places[far]][:, targets], 0.0)
        saved = shares[far] @ nearer
        best = int(saved.argmax())
        if saved[best] >= 0.5 * km[key]:
            yield ShadowCandidate(key, int(targets[best]), "far_reads", float(saved[best]), float(saved[best]))


def removal_code(model: PlacementModel, shadow: IndexedShadow, needed: bool) -> str | None:
    """Return the reason code for removing a shadow; None to keep it.

    Redundancy, draining and rules apply at once. Otherwise a shadow stays during its minimum time, while a partition would pass
    the low-water mark without it, and while it is ``needed``: its key is still read from far away, or the reserve of its
    primary partition depends on it.
    """
    snapshot, policy = model.snapshot, model.policy
    key, primary = shadow.key, int(model.primary[shadow.key])
    if primary == shadow.partition:
        return "redundant"
    if not snapshot.active[shadow.partition]:
        return "target_draining"
    rules = snapshot.rules
    if not rules.copy[rules.row[key], shadow.partition]:
        return "against_rule"
    if not rules.home[rules.row[key], primary]:
        return "primary_against_rule"
    if not snapshot.active[primary]:
        return "primary_draining"
    if not shadow.removable:
        return None
    write_heavy = 1.0 - snapshot.demand.read_share[key] > policy.maximum_write_share
    if not write_heavy and needed:
        return None
    copies = sorted(model.copies(key))
    change = model.remove_shadow(key, shadow.partition)
    if change is None:
        return None
    without = model.lps()[copies].max()
    harmful = model.pushed_over(change) or (without > policy.low_water and not write_heavy)
    model.undo(change)
    if harmful:
        return None
    return "write_heavy" if write_heavy else "no_longer_needed"


def still_far(model: PlacementModel) -> BoolArray:
    """Return which keys (K) are still read from far away, at ``STILL_NEEDED`` of the level at which a shadow is made."""
    policy, (share, _) = model.policy, far_reads(model)
    return np.asarray((share >= STILL_NEEDED * policy.far_share) & (far_load(model, share) >= STILL_NEEDED * policy.far_load))
