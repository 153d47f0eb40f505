"""Shadows: where a copy of a hot or far-read key takes load or distance away, and which standing ones lost their reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray
from foreshard.plan._move_search import GIBIBYTE
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan.snapshot import IndexedShadow, PlanPolicy, Snapshot

KEYS_TRIED = 6
TARGETS_TRIED = 6
DIVERSITY_BONUS = 0.02
"""What a copy one whole span away from the others is worth: enough to decide between equals."""
STILL_NEEDED = 0.5
"""A shadow is kept while its reason stands at this part of the level at which it was made."""


@dataclass(frozen=True, slots=True)
class ShadowCandidate:
    """A shadow of ``key`` on ``target``, worth ``value`` overload hours (a far-read one: the km that it saves per read)."""

    key: int
    target: int
    code: str
    value: float
    saved_km: float = 0.0


def shadowable(snapshot: Snapshot, policy: PlanPolicy) -> BoolArray:
    """Which keys may have shadows: those not under way that are read, and not written too much (each shadow costs its writes).

    A key that rests after a move may: a copy doesn't move it.
    """
    read = snapshot.demand.read_share
    return np.asarray(~snapshot.under_way & (read > 0) & (1.0 - read <= policy.maximum_write_share))


def peak_share(view: PlacementModel, keys: IntArray) -> FloatArray:
    """The peak of each key's own mean load ÷ the capacity of its primary partition."""
    peak = view.snapshot.demand.mean[keys].max(axis=1, initial=0.0) / SECONDS_PER_HOUR
    return np.asarray(peak / view.capacity[view.primary[keys]])


def best_shadow(
    view: PlacementModel, source: int, candidates: IntArray, size_bytes: float, banned: set[tuple[int, int]]
) -> ShadowCandidate | None:
    """Find the shadow of one of ``candidates`` (keys on ``source``) that removes most overload risk, if any pays its price."""
    relief = (view.hours.mean(candidates) @ view.urgency(source)) * view.snapshot.demand.read_share[candidates]
    best: ShadowCandidate | None = None
    for key in candidates[np.lexsort((candidates, -relief))[:KEYS_TRIED]].tolist():
        if view.snapshot.key_bytes[key] > size_bytes:
            continue
        for target in _light_partitions(view, key)[:TARGETS_TRIED].tolist():
            option = None if (key, target) in banned else _try(view, key, target)
            if option is not None and (best is None or option.value > best.value):
                best = option
    return best if best is not None and best.value > 0 else None


def _light_partitions(view: PlacementModel, key: int) -> IntArray:
    """Active partitions below the low-water mark without a copy, the best first: light, and far from the copies there are."""
    lps = view.lps()
    chosen = np.flatnonzero(open_to(view, key) & (lps < view.policy.low_water))
    return chosen[np.argsort(lps[chosen] - diversity(view, key)[chosen], kind="stable")]


def roomiest(view: PlacementModel, key: int) -> IntArray:
    """Active partitions without a copy, whether or not one fits there now, the best first: empty, and far from the copies."""
    chosen = np.flatnonzero(open_to(view, key))
    return chosen[np.argsort(view.lps()[chosen] - diversity(view, key)[chosen] * DIVERSITY_BONUS, kind="stable")]


def open_to(view: PlacementModel, key: int) -> BoolArray:
    """Which partitions may get a copy of ``key`` (P): active and allowed ones that neither have one nor are giving one up.

    Nor one that the key has left lately: what it had there may still be being deleted.
    """
    snapshot, left = view.snapshot, int(view.snapshot.last_source[key])
    may: BoolArray = snapshot.active & snapshot.rules.copy[snapshot.rules.row[key]]
    may[[*view.copies(key), *snapshot.leaving_of.get(key, ()), *([left] if left >= 0 else [])]] = False
    return may


def diversity(view: PlacementModel, key: int) -> FloatArray:
    """How far each partition is from the nearest copy of ``key``, in spans (P, 0 to 1)."""
    return np.asarray(view.snapshot.partition_km[sorted(view.copies(key))].min(axis=0) / view.snapshot.span_km)


def _try(view: PlacementModel, key: int, target: int) -> ShadowCandidate | None:
    """Measure one shadow and take it back; None where it would push a partition over its mark."""
    risk, apart = view.total_risk(), float(diversity(view, key)[target])
    change = view.add_shadow(key, target)
    gain = None if view.pushed_over(change) else risk - view.total_risk()
    view.undo(change)
    if gain is None:
        return None
    price = view.policy.shadow_gain + view.policy.gigabyte_price * float(view.snapshot.key_bytes[key]) / GIBIBYTE
    return ShadowCandidate(key, target, "hot_key", gain - price + (DIVERSITY_BONUS * apart if gain > price else 0.0))


def far_reads(view: PlacementModel) -> tuple[FloatArray, FloatArray]:
    """Return, per key, the share of its reads from beyond ``far_km`` of its primary, and these reads' km (share × km)."""
    origins, distance = view.snapshot.demand.origins, view.snapshot.distance_km
    row = np.repeat(np.arange(len(view.primary)), np.diff(origins.indptr))
    km = distance[origins.location, view.primary[row]]
    far = km > view.policy.far_km
    share = np.bincount(row, weights=origins.share * far, minlength=len(view.primary))
    return share.astype(np.float64), np.bincount(row, weights=origins.share * far * km, minlength=len(view.primary)).astype(
        float
    )


def far_load(view: PlacementModel, share: FloatArray) -> FloatArray:
    """The mean far reads of each key over the horizon, as a share of its primary's capacity."""
    demand = view.snapshot.demand
    reads = demand.mean.mean(axis=1) * demand.read_share / SECONDS_PER_HOUR
    return np.asarray(reads * share / view.capacity[view.primary])


def far_shadows(view: PlacementModel, candidates: IntArray) -> Iterator[ShadowCandidate]:
    """Yield shadows near the far readers of ``candidates``, the most kilometres saved first; each at most once per key.

    The target is the lightly loaded partition that shortens the far reads most, by at least half.
    """
    policy, snapshot = view.policy, view.snapshot
    share, km = far_reads(view)
    load = far_load(view, share)
    chosen = candidates[(share[candidates] >= policy.far_share) & (load[candidates] >= policy.far_load)]
    for key in chosen[np.lexsort((chosen, -(load * km)[chosen]))].tolist():
        places, shares = snapshot.demand.origins.of(key)
        here = snapshot.distance_km[places, view.primary[key]]
        far = here > policy.far_km
        targets = np.sort(_light_partitions(view, key))
        if not len(targets):
            continue
        nearer = np.maximum(here[far, None] - snapshot.distance_km[places[far]][:, targets], 0.0)
        saved = shares[far] @ nearer
        best = int(saved.argmax())
        if saved[best] >= 0.5 * km[key]:
            yield ShadowCandidate(key, int(targets[best]), "far_reads", float(saved[best]), float(saved[best]))


def removal_code(view: PlacementModel, shadow: IndexedShadow, needed: bool) -> str | None:
    """Say why a standing shadow should go: a reason code, or None to keep it.

    Rules, draining and redundancy count at once. Otherwise a shadow stays for its minimum time, while a partition with a copy
    would pass the low-water mark without it, and while it is ``needed``: its key is still read from far away, or its primary's
    reserve rests on it.
    """
    snapshot, policy = view.snapshot, view.policy
    key, primary = shadow.key, int(view.primary[shadow.key])
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
    copies = sorted(view.copies(key))
    change = view.remove_shadow(key, shadow.partition)
    if change is None:
        return None
    without = view.lps()[copies].max()
    harmful = view.pushed_over(change) or (without > policy.low_water and not write_heavy)
    view.undo(change)
    if harmful:
        return None
    return "write_heavy" if write_heavy else "no_longer_needed"


def still_far(view: PlacementModel) -> BoolArray:
    """Which keys (K) are read from far away at half of the level that makes a shadow."""
    policy, (share, _) = view.policy, far_reads(view)
    return np.asarray((share >= STILL_NEEDED * policy.far_share) & (far_load(view, share) >= STILL_NEEDED * policy.far_load))
