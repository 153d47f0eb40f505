"""Relief by sets: slots and small keys leave a full partition together, one move per target.

No single small unit is worth a move, but together they are: 2,960 keys on one partition beside an empty one got no move at all.
The pass has one objective: bring every full partition down to the *fair level* with as few bytes and units as possible. The
fair level is the LPS that partitions would have if the load of the full ones, and of those below the level, were split in
proportion to their capacities. It is computed at the upper quantile, like every LPS. Partitions above the level receive
nothing, as in water-filling.

Only units that no one would place by name take part: slots, and small keys without strong co-access. Shadowed, pinned, resting
and moving units stay, as do units that the target's rules refuse or that left the target lately.
"""

from __future__ import annotations

import numpy as np

from foreshard.measure.demand import LoadProfile, row_entries
from foreshard.model import IntArray, Move
from foreshard.plan import _reasons as reasons
from foreshard.plan._bundles import Bundles, movable_slots
from foreshard.plan._placement_model import TOLERANCE, PlacementModel
from foreshard.plan._plan_builder import LOWERED_PEAK, PlanBuilder, move_id

SMALL = 0.02
"""A key is small if its peak at the upper quantile takes at most this share of its partition's capacity."""
STRONG = 0.05
"""A key whose co-accesses exceed this share of its accesses moves with its clump, not in a set."""
UNIT_BYTES = 65_536.0
"""A unit costs as much as copying this many bytes, and a key four times as much, because it becomes a row of the table."""
ROUNDS = 8
"""A set is chosen in this many steps. Each looks again at the hours that are above the level."""
CLOSE_ENOUGH = 1.01
"""Relief ends within this factor of the fair level."""
FAILURES = 3
"""Targets that may take nothing before the relief of a partition ends."""
MOST_UNITS = 10_000
"""Units of one move."""


def relieve_by_sets(builder: PlanBuilder) -> None:
    """Move sets of units off the partitions above the high-water mark, the fullest first."""
    model = builder.model
    full = np.flatnonzero(model.lps() > model.policy.high_water + TOLERANCE)
    if not len(full):
        return
    level = fair_level(model, full)
    for source in full[np.argsort(-model.lps()[full], kind="stable")].tolist():
        _spread(builder, source, level, level)


def drain_by_sets(builder: PlanBuilder, source: int) -> None:
    """Move sets of units off a draining partition. No target ends above the high-water mark or the plan's ceiling."""
    model = builder.model
    level = min(max(fair_level(model, np.array([source])), model.policy.low_water), model.policy.high_water, builder.ceiling)
    _spread(builder, source, 0.0, level)


def fair_level(model: PlacementModel, full: IntArray) -> float:
    """Return the LPS after the best possible split of the load of ``full`` over the active partitions."""
    draining = full[~model.snapshot.active[full]]
    group = np.union1d(full, np.flatnonzero(model.snapshot.active))
    while True:
        places = np.setdiff1d(group, draining)
        level = _split_level(model, group, places)
        above = places[(model.lps()[places] >= level) & ~np.isin(places, full)]
        if not len(above):
            return level
        group = np.setdiff1d(group, above)


def _split_level(model: PlacementModel, group: IntArray, places: IntArray) -> float:
    """Return the highest LPS if the load of ``group`` is split over ``places`` in proportion to their capacities."""
    if not len(places):
        return float("inf")
    mean, variance, spread = (part.sum(axis=0) for part in _ahead(model, model.profile.rows(group)).parts())
    capacity = model.capacity[places][:, None]
    share = capacity / capacity.sum()
    upper = LoadProfile(share * mean, share * variance, share * spread).upper(model.rule)
    return float((upper / capacity).max())


def _spread(builder: PlanBuilder, source: int, goal: float, level: float) -> None:
    """Fill the targets up to ``level`` until ``source`` is at ``goal``: the most room first, one move each.

    A goal of 0 drains the source: units without load leave as well.
    """
    model = builder.model
    bundles = set_units(model, source)
    room, failures = (level - model.lps()) * model.capacity, 0
    targets = np.flatnonzero(model.snapshot.active & (room > 0))
    for target in targets[np.argsort(-room[targets], kind="stable")].tolist():
        done = not len(bundles.units) or (goal > 0 and model.lps()[source] <= goal * CLOSE_ENOUGH)
        if done or builder.allowance.moves < 1 or failures >= FAILURES:
            return
        chosen = _fill(builder, source, target, bundles.rows(bundles.allowed(model, target)), goal, level)
        if len(chosen.units) and _apply(builder, source, target, chosen, is_drain=goal <= 0):
            bundles = bundles.rows(~np.isin(bundles.units, chosen.units))
        else:
            failures += 1


def set_units(model: PlacementModel, source: int) -> Bundles:
    """Return what may leave ``source`` in a set: slots, and small keys without strong co-access."""
    snapshot, keys = model.snapshot, model.movable_on(source)
    peak = _ahead(model, model.hours.load(keys)).upper(model.rule).max(axis=1, initial=0.0)
    row, at = row_entries(snapshot.co_access.indptr, keys)
    together = np.bincount(row, weights=snapshot.co_access.weight[at], minlength=len(keys))
    cost = snapshot.access_cost
    accesses = snapshot.demand.mean[keys].mean(axis=1) / cost if cost > 0 else np.zeros(len(keys))
    small = (peak <= SMALL * model.capacity[source]) & (together <= STRONG * accesses)
    slots = movable_slots(model, source)
    stays = (snapshot.rules.row[keys] != 0) & np.isin(snapshot.slot_row[keys], slots)
    return Bundles.of(model, slots, keys[small & ~stays])


def _fill(builder: PlanBuilder, source: int, target: int, bundles: Bundles, goal: float, level: float) -> Bundles:
    """Choose the units for one target that lower the source most per byte, in its hours above the goal."""
    model = builder.model
    here, there = (_ahead(model, model.profile.rows(np.array([place]))) for place in (source, target))
    loads, size = _ahead(model, bundles.load), bundles.size
    price = size + UNIT_BYTES * (np.where(model.snapshot.slots[bundles.units], 1.0, 4.0) + 4.0 * bundles.keys)
    open_, left = np.ones(len(bundles.units), bool), builder.allowance.size_bytes
    lowest, highest = goal * model.capacity[source], level * model.capacity[target]
    for step in range(ROUNDS):
        over = np.maximum(here.upper(model.rule)[0] - lowest, 0.0)
        if goal <= 0 and not over.any():
            over = np.ones_like(over)
        fits = (there + loads).upper(model.rule).max(axis=1) <= highest + TOLERANCE
        rows = np.flatnonzero(open_ & fits & (size <= left))
        if not over.any() or not len(rows):
            break
        relief = loads.mean[rows] @ over / over.sum()
        rows = rows[np.lexsort((rows, -relief / price[rows]))]
        rows = rows[: _prefix(model, here, there, loads.rows(rows), (lowest, highest), step)]
        rows = rows[np.cumsum(size[rows]) <= left][: MOST_UNITS - int((~open_).sum())]
        if not len(rows):
            break
        taken = LoadProfile(*(part[rows].sum(axis=0, keepdims=True) for part in loads.parts()))
        here, there, left = here - taken, there + taken, left - float(size[rows].sum())
        open_[rows] = False
    return bundles.rows(~open_)


def _prefix(
    model: PlacementModel, here: LoadProfile, there: LoadProfile, loads: LoadProfile, limits: tuple[float, float], step: int
) -> int:
    """Return how many of the ranked units to take now: until the source is low enough, at most half of its excess at once."""
    sums = LoadProfile(*(np.cumsum(part, axis=0) for part in loads.parts()))
    excess = float(here.upper(model.rule).max()) - limits[0]
    after = (here - sums).upper(model.rule).max(axis=1) - limits[0]
    enough = after <= (0.0 if step == ROUNDS - 1 else excess / 2)
    full = (there + sums).upper(model.rule).max(axis=1) > limits[1] + TOLERANCE
    wanted = int(enough.argmax()) + 1 if excess > 0 and enough.any() else len(after)
    return min(wanted, int(full.argmax()) if full.any() else len(after))


def _apply(builder: PlanBuilder, source: int, target: int, chosen: Bundles, is_drain: bool) -> bool:
    """Move the set, unless it hardly lowers the source's LPS, adds overload hours or pushes a partition over."""
    model = builder.model
    before = reasons.LoadBefore.of(model.utilisation()[source], model.policy.high_water)
    risk, level = model.total_risk(), model.level(source)
    change = model.move(tuple(chosen.members.tolist()), target)
    lowered = model.lps()[source] <= before.lps - LOWERED_PEAK and model.total_risk() <= risk + TOLERANCE
    if not (lowered or is_drain) or model.pushed_over(change, level) or float(model.lps().max()) > builder.ceiling:
        model.undo(change)
        return False
    _record(builder, source, target, chosen, before, is_drain)
    return True


def _record(
    builder: PlanBuilder, source: int, target: int, chosen: Bundles, before: reasons.LoadBefore, is_drain: bool
) -> None:
    snapshot, size = builder.model.snapshot, float(chosen.size.sum())
    names = tuple(snapshot.keys[unit] for unit in chosen.members.tolist())
    builder.size_bytes += size
    builder.targets.add(target)
    if not is_drain:
        builder.relieving |= {source, target}
    builder.moves.append(
        Move(
            move_id=move_id(snapshot.hour, "\0".join(names)),
            units=names,
            source=snapshot.partitions[source].partition_id,
            target=snapshot.partitions[target].partition_id,
            estimated_bytes=int(size),
            clump=names[0],
            reason=reasons.set_reason(builder.model, source, target, names, before, is_drain),
        )
    )


def _ahead(model: PlacementModel, profile: LoadProfile) -> LoadProfile:
    """Return the hours to which marks apply."""
    return profile.rows((..., slice(model.marked_hours)))  # type: ignore[arg-type]
