"""Settling: keys go to where they are read from and where the keys used with them are, while nothing needs relief there.

A placement made by hashing tears clumps apart and serves keys from far away. Each plan brings home the few keys of which that
is worth most, as clumps; the price of a move keeps the rest where they are, so that it comes to an end. Nearness comes after
room, in the coming hours scaled to the week's busiest one and in hours of the last weeks as they were: whatever risk of
overload a move brings counts many times over. Hours that lie weeks apart say where there is room whatever day it is, so that
keys don't go to and fro.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from foreshard.measure.demand import row_entries
from foreshard.model import HOURS_PER_DAY, SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray
from foreshard.plan._clump import Allowance
from foreshard.plan._evaluation_window import scaled
from foreshard.plan._move_search import best_settlement
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._plan_builder import PlanBuilder
from foreshard.plan._reasons import SETTLING
from foreshard.plan._steps import apply_move
from foreshard.plan.snapshot import IndexedShadow

BUSIEST = 512
"""How many of the keys with most load are looked at: few keys make most of what there is to gain."""
SEEDS = 12
"""How many keys of a partition are grown to clumps."""
QUIET = 0.8
"""Nothing settles while the hours ahead peak below this part of the week's peak: on calm days all have room."""
FAILURES = 30
"""Partitions without a move that pays before a plan settles no more."""
MARGIN = 1.05
"""How much more than the busiest hour of the last week there must be room for."""


def settle(draft: PlanBuilder) -> None:
    """Bring up to ``maximum_settled`` keys home, those with most to gain first."""
    view, policy = draft.view, draft.view.policy
    if policy.maximum_settled < 1 or (calm(view) and view.snapshot.past is None):
        return
    keys = _busiest(view)
    quiet = quiet_now(view)
    keys = keys[~np.isin(keys, view.moved) & quiet[view.primary[keys]]]
    gains = _possible_gains(view, keys)
    keys, gains = keys[gains > policy.settle_gain], gains[gains > policy.settle_gain]
    if len(keys):
        _bring_home(draft, _busy_week(view), keys, gains, np.flatnonzero(~quiet).tolist())


def _bring_home(draft: PlanBuilder, busy: PlacementModel, keys: IntArray, gains: FloatArray, loud: list[int]) -> None:
    """Bring ``keys`` to other partitions than ``loud`` ones, while ``busy`` says that there is room."""
    banned: set[tuple[int, int]] = set()
    left, failures = draft.view.policy.maximum_settled, 0
    while left > 0 and len(keys) and failures < FAILURES:
        source = int(busy.primary[keys[int(gains.argmax())]])
        here = np.flatnonzero(busy.primary[keys] == source)
        seeds = keys[here[np.lexsort((keys[here], -gains[here]))[:SEEDS]]]
        allowance = Allowance(min(left, draft.allowance.moves), draft.allowance.size_bytes)
        closed = banned | {(seed, target) for seed in seeds.tolist() for target in loud}
        option = best_settlement(busy, source, seeds, allowance, closed)
        if option is not None and apply_move(draft, source, option, banned, SETTLING):
            busy.move(option.keys, option.target)
            left -= len(option.keys)
            tried = np.isin(keys, option.keys)
        else:
            failures += 1
            tried = np.isin(keys, seeds)
        keys, gains = keys[~tried], gains[~tried]


def quiet_now(view: PlacementModel) -> BoolArray:
    """Which partitions are in the quieter half of their day (P): copying costs load, and settling can wait for it."""
    utilisation = view.utilisation()
    return np.asarray(utilisation[:, 0] <= np.median(utilisation, axis=1))


def _busy_week(view: PlacementModel) -> PlacementModel:
    """The placement so far under the load of the week's busiest hours, and some more, and of past ones: room must be there.

    And that without reads being passed on to other copies: these are for what isn't foreseen.
    """
    snapshot = view.snapshot
    factor = MARGIN * snapshot.busy_factor
    movable = snapshot.movable & snapshot.rested
    movable[view.moved] = False
    busy = replace(
        snapshot,
        access_cost=snapshot.access_cost * np.sqrt(factor),
        primary=view.primary.copy(),
        movable=movable,
        shadows=tuple(IndexedShadow("", key, partition) for key, partition in sorted(view.shadows)),
    )
    hours = scaled(view.hours, factor, past_days=1.0)
    policy = replace(view.policy, serving=replace(view.policy.serving, room_mark=np.inf))
    week = PlacementModel(busy, policy, hours, hours.grown(view.whole))
    week.fix_copies()
    return week


def calm(view: PlacementModel) -> bool:
    """Whether the hours ahead tell little about where there is room."""
    return view.snapshot.coming_peak < QUIET * view.snapshot.week_peak


def _busiest(view: PlacementModel) -> IntArray:
    """The movable and rested keys with most load."""
    snapshot, work = view.snapshot, view.snapshot.demand.mean.sum(axis=1)
    may_go = snapshot.movable & snapshot.rested & ~snapshot.rules.fixed_keys
    free = np.flatnonzero(may_go & snapshot.active[view.primary] & (work > 0))
    free = free[~view.has_shadow(free)]
    return np.sort(free[np.lexsort((free, -work[free]))[:BUSIEST]])


def _possible_gains(view: PlacementModel, keys: IntArray) -> FloatArray:
    """The most that bringing each key alone to one partition could save, in kilometres and crossing uses, without its price."""
    snapshot, policy, partitions = view.snapshot, view.policy, len(view.capacity)
    sources, rows = view.primary[keys], np.arange(len(keys))
    row, at = row_entries(snapshot.demand.origins.indptr, keys)
    origins, shares = snapshot.demand.origins.location[at], snapshot.demand.origins.share[at]
    km = sparse.csr_array((shares, (row, origins)), shape=(len(keys), len(snapshot.distance_km))) @ snapshot.distance_km
    row, at = row_entries(snapshot.co_access.indptr, keys)
    where = row * partitions + view.primary[snapshot.co_access.neighbour[at]]
    uses = np.bincount(where, weights=snapshot.co_access.weight[at], minlength=len(keys) * partitions)
    uses = uses.reshape(len(keys), partitions)
    work = policy.distance_weight * HOURS_PER_DAY * snapshot.demand.mean[keys].mean(axis=1) / snapshot.span_km
    nearer = work[:, None] * (km[rows, sources][:, None] - km)
    joined = policy.crossing_cost * HOURS_PER_DAY * (uses - uses[rows, sources][:, None])
    best = (nearer + joined)[:, snapshot.active].max(axis=1, initial=0.0)
    return np.asarray(policy.payback_days * best / SECONDS_PER_HOUR / view.capacity[sources])
