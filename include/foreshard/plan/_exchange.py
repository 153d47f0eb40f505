"""Two units that change places: nearness alone fills the partitions that many want to be near, an exchange does not."""

from __future__ import annotations

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import FloatArray, IntArray
from foreshard.plan._placement import TOLERANCE, PlannedPlacement
from foreshard.plan._steps import Allowance, MoveStep, Terms, UnitPrices
from foreshard.plan.objective import believed

ALIKE, MOST = 3.0, 64
"""Units that change places have loads within this factor; so many of them are tried."""


def best_exchange(
    placement: PlannedPlacement, prices: UnitPrices, seed: int, target: int, allowance: Allowance
) -> tuple[MoveStep, MoveStep] | None:
    """Return ``seed``'s move to ``target``, and that of the unit that changes places with it; None if no exchange pays."""
    others = _others(placement, prices, seed, target)
    source = int(placement.primary[seed])
    if not len(others) or allowance.moves < 2 or not placement.snapshot.active[source]:
        return None
    units, rows = np.array([seed]), np.array([source, target])
    here, there = placement.nearness.ties(units, rows), placement.nearness.ties(others, rows)
    own, work = placement.nearness.work(units, rows, here)[0], placement.nearness.work(others, rows, there)
    tied = placement.nearness.between(seed, others)
    nearer = own[1] - own[0] + work[:, 0] - work[:, 1] + placement.nearness.joined(tied)
    inside = (
        placement.inside[source] - here[0, 0] + there[:, 0] - tied,
        placement.inside[target] + here[0, 1] - there[:, 1] - tied,
    )
    moved, back = placement.hours.load(units), placement.hours.load(others)
    fits = placement.snapshot.key_bytes[seed] + placement.snapshot.key_bytes[others] <= allowance.size_bytes
    change = -placement.overload[rows].sum()
    for partition, uses, away, come in ((source, inside[0], moved, back), (target, inside[1], back, moved)):
        load = _replaced(placement.load.rows(np.array([partition])), away, come)
        change = change + placement.overload_of(load, partition, uses)
        fits &= placement.upper_lps(load, partition) <= placement.ceiling[partition] + TOLERANCE
    overload = believed(change, prices.unresolved[seed] + prices.unresolved[others])
    churn: FloatArray = prices.churn[seed] + prices.churn[others]
    value = np.where(fits, overload + nearer + churn, np.inf)
    best = int(value.argmin())
    if not value[best] < -TOLERANCE:
        return None
    terms = Terms(float(overload[best]), float(nearer[best]), churn=float(churn[best]))
    return MoveStep(units, source, target, terms), MoveStep(others[[best]], target, source, Terms())


def _others(placement: PlannedPlacement, prices: UnitPrices, seed: int, target: int) -> IntArray:
    """Return units on ``target`` that may take the place of ``seed``, those of the most similar load first."""
    others, rules = placement.movable_on(target), placement.snapshot.rules
    share = prices.typical[others] / max(float(prices.typical[seed]), TOLERANCE)
    others, share = others[share > 0], share[share > 0]
    unlike = np.abs(np.log(share))
    may = rules.home[rules.row[others], int(placement.primary[seed])] & (unlike <= np.log(ALIKE))
    return np.asarray(others[may][np.argsort(unlike[may], kind="stable")][:MOST])


def _replaced(load: LoadProfile, away: LoadProfile, come: LoadProfile) -> LoadProfile:
    """Return the load (n, T) of a partition that gives ``away`` and takes ``come``."""
    parts = zip(load.parts(), away.parts(), come.parts(), strict=True)
    return LoadProfile(*(np.maximum(whole - gone + new, 0.0) for whole, gone, new in parts))
