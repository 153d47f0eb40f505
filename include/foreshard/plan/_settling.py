"""Settling: moves keys closer to their readers and co-accessed keys, while no overload risk results.

Placement by hash separates clumps and serves keys from far away. Each plan settles the few clumps with the largest gain. The
price of a move stops it once the rest is not worth moving. Room comes first: any overload risk that a move adds counts many
times, both in the coming hours scaled to the week's busiest hour and in hours of the last weeks. Past hours show whether there
is room on any day, so that keys do not move back and forth.
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
from foreshard.plan._plan_builder import PlanBuilder, apply_move
from foreshard.plan._reasons import SETTLING
from foreshard.plan.input.snapshot import IndexedShadow

BUSIEST = 512
"""Only this many keys with the most load are considered; they make up most of the possible gain."""
SEEDS = 12
"""The number of keys of a partition that are grown into clumps."""
QUIET = 0.8
"""The hours ahead are calm if their peak is below this share of the week's peak: every partition has room then."""
FAILURES = 30
"""After this many partitions without a move that pays, the plan settles no more."""
MARGIN = 1.05
"""There must be room for this multiple of the last week's busiest hour."""


def settle(builder: PlanBuilder) -> None:
    """Settle up to ``maximum_settled`` keys, those with the largest possible gain first."""
    model, policy = builder.model, builder.model.policy
    if policy.maximum_settled < 1 or (is_calm(model) and model.snapshot.past is None):
        return
    keys = _busiest(model)
    quiet = quiet_now(model)
    keys = keys[~np.isin(keys, model.moved) & quiet[model.primary[keys]]]
    gains = _possible_gains(model, keys)
    keys, gains = keys[gains > policy.settle_gain], gains[gains > policy.settle_gain]
    if len(keys):
        _settle_keys(builder, _busy_week(model), keys, gains, np.flatnonzero(~quiet).tolist())


def _settle_keys(
    builder: PlanBuilder, busy: PlacementModel, keys: IntArray, gains: FloatArray, busy_partitions: list[int]
) -> None:
    """Settle ``keys`` on partitions other than ``busy_partitions``, while the model ``busy`` has room."""
    banned: set[tuple[int, int]] = set()
    left, failures = builder.model.policy.maximum_settled, 0
    while left > 0 and len(keys) and failures < FAILURES:
        source = int(busy.primary[keys[int(gains.argmax())]])
        here = np.flatnonzero(busy.primary[keys] == source)
        seeds = keys[here[np.lexsort((keys[here], -gains[here]))[:SEEDS]]]
        allowance = Allowance(min(left, builder.allowance.moves), builder.allowance.size_bytes)
        closed = banned | {(seed, target) for seed in seeds.tolist() for target in busy_partitions}
        option = best_settlement(busy, source, seeds, allowance, closed)
        if option is not None and apply_move(builder, source, option, banned, SETTLING):
            busy.move(option.keys, option.target)
            left -= len(option.keys)
            tried = np.isin(keys, option.keys)
        else:
            failures += 1
            tried = np.isin(keys, seeds)
        keys, gains = keys[~tried], gains[~tried]


def quiet_now(model: PlacementModel) -> BoolArray:
    """Return which partitions are in the quieter half of their day (P). Copying costs load, and settling can wait."""
    utilisation = model.utilisation()
    return np.asarray(utilisation[:, 0] <= np.median(utilisation, axis=1))


def _busy_week(model: PlacementModel) -> PlacementModel:
    """Return the current placement under the load of the week's busiest hour × ``MARGIN``, and of past hours.

    Reads are not passed on to other copies: these are kept for bursts.
    """
    snapshot = model.snapshot
    factor = MARGIN * snapshot.busy_factor
    movable = snapshot.movable & snapshot.rested
    movable[model.moved] = False
    busy = replace(
        snapshot,
        access_cost=snapshot.access_cost * np.sqrt(factor),
        primary=model.primary.copy(),
        movable=movable,
        shadows=tuple(IndexedShadow("", key, partition) for key, partition in sorted(model.shadows)),
    )
    hours = scaled(model.hours, factor, past_days=1.0)
    policy = replace(model.policy, serving=replace(model.policy.serving, room_mark=np.inf))
    week = PlacementModel(busy, policy, hours, hours.scaled_load(model.unshadowed_load))
    week.freeze_copies()
    return week


def is_calm(model: PlacementModel) -> bool:
    """Return whether the hours ahead are too quiet to show where there is room."""
    return model.snapshot.coming_peak < QUIET * model.snapshot.week_peak


def _busiest(model: PlacementModel) -> IntArray:
    """Return the movable and rested keys with the most load."""
    snapshot, work = model.snapshot, model.snapshot.demand.mean.sum(axis=1)
    removable = snapshot.movable & snapshot.rested & ~snapshot.rules.fixed_keys
    free = np.flatnonzero(removable & snapshot.active[model.primary] & (work > 0))
    free = free[~model.has_shadow(free)]
    return np.sort(free[np.lexsort((free, -work[free]))[:BUSIEST]])


def _possible_gains(model: PlacementModel, keys: IntArray) -> FloatArray:
    """Return the most that moving each key alone to one partition could gain in distance and co-access, before its price."""
    snapshot, policy, partitions = model.snapshot, model.policy, len(model.capacity)
    sources, rows = model.primary[keys], np.arange(len(keys))
    row, at = row_entries(snapshot.demand.origins.indptr, keys)
    origins, shares = snapshot.demand.origins.location[at], snapshot.demand.origins.share[at]
    km = sparse.csr_array((shares, (row, origins)), shape=(len(keys), len(snapshot.distance_km))) @ snapshot.distance_km
    row, at = row_entries(snapshot.co_access.indptr, keys)
    where = row * partitions + model.primary[snapshot.co_access.neighbour[at]]
    co_accesses = np.bincount(where, weights=snapshot.co_access.weight[at], minlength=len(keys) * partitions)
    co_accesses = co_accesses.reshape(len(keys), partitions)
    work = policy.distance_weight * HOURS_PER_DAY * snapshot.demand.mean[keys].mean(axis=1) / snapshot.span_km
    nearer = work[:, None] * (km[rows, sources][:, None] - km)
    together = policy.crossing_cost * HOURS_PER_DAY * (co_accesses - co_accesses[rows, sources][:, None])
    best = (nearer + together)[:, snapshot.active].max(axis=1, initial=0.0)
    return np.asarray(policy.payback_days * best / SECONDS_PER_HOUR / model.capacity[sources])
