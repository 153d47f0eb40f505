"""Shadows that might be added or removed, and what each would change in the objective. Each is tried and undone."""

from __future__ import annotations

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import BoolArray, FloatArray, IntArray
from foreshard.plan._placement import TOLERANCE, PlannedPlacement
from foreshard.plan._steps import ShadowStep, Terms, UnitPrices
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.objective import COPY, GIBIBYTE, believed, fading

KEYS_TRIED, TARGETS_TRIED, PAIRS_TRIED = 6, 6, 3
"""Keys and targets that are estimated, and pairs of them that are tried exactly."""
DIVERSITY = 0.002
"""What a copy one span away from the others is worth: enough only to decide between equal targets."""
KEPT = 5.0
"""A new copy is worth this many times its price, halving every two days, so that copies don't come and go."""


def shadowable(placement: PlannedPlacement, units: IntArray) -> BoolArray:
    """Return which of ``units`` may have shadows (n): keys that are read, not written too often, and neither being moved nor
    moved.
    """
    snapshot, primary = placement.snapshot, placement.primary[units]
    read = snapshot.demand.read_share[units]
    few_writes = 1.0 - read <= placement.policy.maximum_write_share
    in_place = snapshot.rules.home[snapshot.rules.row[units], primary] & snapshot.active[primary]
    stays = ~snapshot.slots[units] & ~snapshot.under_way[units] & ~placement.moved[units]
    return np.asarray(stays & (read > 0) & few_writes & in_place)


def open_to(placement: PlannedPlacement, key: int) -> BoolArray:
    """Return which partitions may get a shadow of ``key`` (P): active and allowed, without a copy, and not removing one.

    The partition that the key left recently is excluded, because its old copy may not be deleted yet.
    """
    snapshot, left = placement.snapshot, int(placement.snapshot.last_source[key])
    may: BoolArray = snapshot.active & snapshot.rules.copy[snapshot.rules.row[key]]
    held = [int(placement.primary[key]), *placement.copies.get(key, ())]
    may[[*held, *snapshot.leaving_of.get(key, ()), *([left] if left >= 0 else [])]] = False
    return may


def relieving_shadow(placement: PlannedPlacement, prices: UnitPrices, source: int, size_bytes: float) -> ShadowStep | None:
    """Return the shadow of a key on ``source`` that lowers the objective most; None if none does."""
    keys = placement.units_on(source)
    keys = keys[shadowable(placement, keys) & (placement.snapshot.key_bytes[keys] <= size_bytes)]
    reads = placement.hours.mean[keys] @ placement.urgency(source)
    hottest = keys[np.lexsort((keys, -reads * placement.snapshot.demand.read_share[keys]))][:KEYS_TRIED]
    pairs = [pair for key in hottest.tolist() for pair in _estimates(placement, key, source)]
    return _best_of(placement, prices, sorted(pairs)[:PAIRS_TRIED])


def nearer_shadow(placement: PlannedPlacement, prices: UnitPrices, key: int) -> ShadowStep | None:
    """Return the shadow of ``key`` near its readers that lowers the objective most; None if none does."""
    targets = np.flatnonzero(open_to(placement, key))
    if not len(targets):
        return None
    saved, _ = placement.nearness.saved_by_copy(key, targets)
    nearest = np.argsort(-saved, kind="stable")[:PAIRS_TRIED]
    return _best_of(placement, prices, [(-float(saved[n]), key, int(targets[n])) for n in nearest])


def try_shadow(placement: PlannedPlacement, prices: UnitPrices, key: int, target: int) -> ShadowStep | None:
    """Add the shadow and return what it changes, without undoing it; None, undone, if it overloads a partition."""
    primary = int(placement.primary[key])
    saved, km = placement.nearness.saved_by_copy(key, np.array([target]))
    steps, overload, lps = placement.steps, float(placement.overload.sum()), placement.lps()
    placement.add_shadow(key, target)
    change = np.array([placement.overload.sum() - overload])
    urgent = placement.urgent(primary, target)
    size = placement.snapshot.key_bytes[key] / 2**30
    terms = Terms(
        overload=float(believed(change, prices.again[[key]] if urgent else prices.unresolved[[key]])[0]),
        work=-float(saved[0]),
        copies=float(COPY * prices.whole[key] * (not urgent) + placement.policy.churn * GIBIBYTE * size),
        churn=float(prices.churn[key]),
    )
    relieves = terms.overload <= terms.work
    if placement.fills_too_much(lps, (primary, target) if relieves else None):
        placement.undo(steps)
        return None
    return ShadowStep(key, target, terms, float(km[0]))


def try_removal(placement: PlannedPlacement, prices: UnitPrices, shadow: IndexedShadow) -> ShadowStep | None:
    """Remove the shadow and return what that changes, without undoing it; None, undone, if it overloads a partition."""
    key, target = shadow.key, shadow.partition
    steps, overload, lps = placement.steps, float(placement.overload.sum()), placement.lps()
    placement.remove_shadow(key, target)
    if placement.fills_too_much(lps):
        placement.undo(steps)
        return None
    saved, km = placement.nearness.saved_by_copy(key, np.array([target]))
    kept = COPY * float(prices.whole[key]) * (KEPT * float(fading(np.array([shadow.idle_hours]))[0]) - 1.0)
    change = float(placement.overload.sum()) - overload
    return ShadowStep(key, target, Terms(overload=change, work=float(saved[0]), copies=kept), float(km[0]))


def required_removal(placement: PlannedPlacement, shadow: IndexedShadow) -> str:
    """Return the code of the reason why a shadow must go whatever it is worth; empty if it need not."""
    snapshot, rules = placement.snapshot, placement.snapshot.rules
    primary, row = int(placement.primary[shadow.key]), int(rules.row[shadow.key])
    if primary == shadow.partition:
        return "redundant"
    if not snapshot.active[shadow.partition]:
        return "target_draining"
    if not rules.copy[row, shadow.partition]:
        return "against_rule"
    if not rules.home[row, primary]:
        return "primary_against_rule"
    if not snapshot.active[primary]:
        return "primary_draining"
    return ""


def _estimates(placement: PlannedPlacement, key: int, source: int) -> list[tuple[float, int, int]]:
    """Return (change of overload if half of the reads went there, key, target) for the coolest targets."""
    targets = np.flatnonzero(open_to(placement, key))
    load = placement.hours.load(np.array([key]))
    reads = float(placement.snapshot.demand.read_share[key])
    away, applied = reads / 2.0, (1.0 - reads) * placement.policy.serving.apply_cost
    here = placement.load.rows(np.array([source])) - _scaled(load, away)
    relief = float((placement.overload_of(here, source, placement.inside[[source]]) - placement.overload[source])[0])
    targets = targets[np.argsort(placement.overload[targets], kind="stable")][:TARGETS_TRIED]
    there = placement.load.rows(targets) + _scaled(load, away + applied)
    cost = placement.overload_of(there, targets, placement.inside[targets]) - placement.overload[targets]
    apart = placement.snapshot.partition_km[source, targets] / placement.snapshot.span_km
    value = relief + cost - DIVERSITY * apart
    return [(float(gain), key, int(target)) for gain, target in zip(value, targets, strict=True) if gain < 0]


def _scaled(load: LoadProfile, share: float) -> LoadProfile:
    """Return this share of a load. Variances scale with the share, as for thinned counts."""
    return LoadProfile(*(part * share for part in load.parts()))


def _best_of(placement: PlannedPlacement, prices: UnitPrices, pairs: list[tuple[float, int, int]]) -> ShadowStep | None:
    """Try these (estimate, key, target) exactly, undo each, and return the best that lowers the objective.

    Of steps that are worth about the same, the one whose target is farther from the primary copy is best.
    """
    found: list[tuple[float, ShadowStep]] = []
    for _, key, target in pairs:
        steps = placement.steps
        step = try_shadow(placement, prices, key, target)
        placement.undo(steps)
        if step is not None and step.terms.total < -TOLERANCE:
            apart = float(placement.snapshot.partition_km[placement.primary[key], target] / placement.snapshot.span_km)
            found.append((step.terms.total - DIVERSITY * apart, step))
    return min(found, key=lambda one: one[0], default=(0.0, None))[1]


def far_read_keys(placement: PlannedPlacement, prices: UnitPrices) -> IntArray:
    """Return the keys whose reads come from so far away that a copy there might pay, the most first."""
    saved: FloatArray = placement.nearness.far_reads()
    price = COPY * prices.whole + prices.churn
    keys = np.flatnonzero(saved > price)
    keys = keys[shadowable(placement, keys)]
    return np.asarray(keys[np.argsort(-saved[keys], kind="stable")])
