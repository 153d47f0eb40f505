"""Moves: the most valuable clump of keys to move off a partition, and its target.

The value of a move is the overload risk that it removes at the source, less the risk that it adds at the target, the price of
its moves and bytes, the co-access that it separates, and the distance that it adds between the keys and their readers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import HOURS_PER_DAY, SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray
from foreshard.plan._clump import (
    FULL_EFFORT,
    GIBIBYTE,
    Allowance,
    ClumpGrowth,
    ClumpSizes,
    Effort,
    MoveOption,
    MoveSearch,
    concatenate,
)
from foreshard.plan._placement_model import TOLERANCE, PlacementModel

PATIENCE = 3
"""The number of keys by which a clump may grow without a higher value."""
GROWN_AT_ONCE = PATIENCE + 1
"""The number of keys by which each clump grows before its options are compared."""
TARGETS = 32
"""With more partitions than this, only those with the most room, the nearest, and the most co-accessed are considered."""
SETTLING_RISK = 1000.0
"""The weight of the risk that a move for closeness adds."""
DRAIN_BONUS = 1_000.0
"""The value of moving a key off a draining partition. It exceeds any price."""


def best_move(
    model: PlacementModel,
    source: int,
    allowance: Allowance,
    candidates: IntArray,
    banned: set[tuple[int, int]],
    draining: bool = False,
    effort: Effort = FULL_EFFORT,
    mark: float | None = None,
) -> MoveSearch:
    """Find the most valuable clump among ``candidates`` (keys on ``source``) and its target.

    Targets stay below ``mark`` (None: the high-water mark). If no such move pays, they may become as full as the source.
    ``banned`` are (hot key, target) pairs that were rejected before. Only the risk removed decides whether a move pays;
    co-access and distance only rank the options. Of equal options the one with the lower index wins, so the result depends on
    nothing but the snapshot.
    """
    if allowance.moves < 1:
        return MoveSearch(None, "limit_reached")
    size = model.snapshot.key_bytes[candidates]
    if not (size <= model.policy.maximum_bytes).any():
        return MoveSearch(None, "nothing_movable")
    candidates = candidates[size <= allowance.size_bytes]
    if not len(candidates):
        return MoveSearch(None, "limit_reached")
    mark = model.policy.high_water if mark is None else mark
    goal = _SearchGoal(mark, model.policy.minimum_gain, model.policy.relief_closeness, draining=draining, effort=effort)
    search = _search(model, source, allowance, candidates, banned, goal)
    if search.best is None and not draining and model.level(source) > mark:
        search = _search(model, source, allowance, candidates, banned, replace(goal, mark=model.level(source)))
    return search


def best_settlement(
    model: PlacementModel, source: int, seeds: IntArray, allowance: Allowance, banned: set[tuple[int, int]]
) -> MoveOption | None:
    """Return the most valuable clump around one of ``seeds`` to move closer to its readers and co-accessed keys, if any pays.

    The gain in distance and co-access must exceed ``settle_gain`` per key and ``SETTLING_RISK`` times the added risk.
    """
    policy = model.policy
    goal = _SearchGoal(model.level(source), policy.settle_gain, closeness_days=policy.payback_days, risk_weight=SETTLING_RISK)
    targets = _targets(model, source, seeds)
    if not len(targets):
        return None
    allowed = model.key_mask
    candidates = model.movable_on(source)
    allowed[candidates] = True
    clumps = [
        ClumpGrowth(
            model,
            source,
            seed,
            allowed,
            allowance,
            targets,
            np.array([(seed, t) not in banned for t in targets.tolist()], bool),
        )
        for seed in seeds.tolist()
    ]
    options = [option for sizes in _grow_options(model, source, clumps, targets, goal) for option in sizes if option.value > 0]
    allowed[candidates] = False
    return max(options, key=lambda option: (option.value, -len(option.keys)), default=None)


@dataclass(frozen=True, slots=True)
class _SearchGoal:
    """The criteria of a search: the mark that targets stay below, the price per key, and weights.

    ``closeness_days``: the number of days of distance and co-access that count. ``risk_weight``: if given, removed risk has no
    value and added risk has this weight; if None, both have weight 1.
    """

    mark: float
    key_price: float
    closeness_days: float = 1.0
    risk_weight: float | None = None
    draining: bool = False
    effort: Effort = FULL_EFFORT


def _search(
    model: PlacementModel,
    source: int,
    allowance: Allowance,
    candidates: IntArray,
    banned: set[tuple[int, int]],
    goal: _SearchGoal,
) -> MoveSearch:
    seeds = _seeds(model, source, candidates, goal)
    targets = _targets(model, source, seeds)
    if not len(targets):
        return MoveSearch(None, "no_target_fits")
    loads = model.hours.load(seeds)
    fits = _fit(model, loads, targets, goal.mark) & _allowed(model, seeds)[:, targets]
    if not fits.any():
        return MoveSearch(None, "no_target_fits")
    allowed = model.key_mask
    allowed[candidates] = True
    clumps = []
    for seed in _most_valuable(model, source, seeds, loads, targets, fits, goal):
        allowed_targets = np.array([(seed, target) not in banned for target in targets.tolist()], bool)
        clumps.append(ClumpGrowth(model, source, seed, allowed, allowance, targets, allowed_targets))
    options = [option for sizes in _grow_options(model, source, clumps, targets, goal) for option in sizes]
    allowed[candidates] = False
    if not options:
        return MoveSearch(None, "no_target_fits")
    paying = [option for option in options if option.worth > 0]
    if not paying:
        return MoveSearch(None, "gain_too_small")
    return MoveSearch(max(paying, key=lambda option: (option.value, -len(option.keys))))


def _grow_options(
    model: PlacementModel, source: int, clumps: list[ClumpGrowth], targets: IntArray, goal: _SearchGoal
) -> list[list[MoveOption]]:
    """Grow all clumps together; return each one's options by size, until it fits nowhere or its value stops rising."""
    sizes: list[list[MoveOption]] = [[] for _ in clumps]
    growing = list(range(len(clumps)))
    while growing:
        grown = [(number, found) for number in growing if (found := clumps[number].grow(GROWN_AT_ONCE))]
        growing = []
        if not grown:
            break
        options = iter(_best_targets(model, source, concatenate([found for _, found in grown]), targets, goal))
        for number, found in grown:
            ended = False
            for option in [next(options) for _ in found.keys]:
                ended = ended or option is None or _stagnant([*sizes[number], option])
                if not ended and option is not None:
                    sizes[number].append(option)
            if not ended:
                growing.append(number)
    return sizes


def _stagnant(sizes: list[MoveOption]) -> bool:
    """Return whether the last ``PATIENCE`` keys did not raise the clump's value."""
    values = [option.value for option in sizes]
    return len(values) > PATIENCE and max(values[-PATIENCE:]) <= max(values[:-PATIENCE])


def _seeds(model: PlacementModel, source: int, candidates: IntArray, goal: _SearchGoal) -> IntArray:
    """Return the candidates that relieve the source most in its urgent hours, or with the most load if it is draining."""
    hours = model.hours
    weight = np.ones(len(hours.weight)) if goal.draining else model.urgency(source)
    relief = (hours.mean(candidates) + model.rule.z * hours.sigma(candidates)) @ weight
    return candidates[np.lexsort((candidates, -relief))[: goal.effort.seeds]]


def _targets(model: PlacementModel, source: int, seeds: IntArray) -> IntArray:
    """Return the partitions that may receive keys: active, and below the high-water mark or less full than the source."""
    open_for_keys = model.snapshot.active & (model.lps() < model.level(source))
    open_for_keys[source] = False
    open_for_keys &= _allowed(model, seeds).any(axis=0)
    targets = np.flatnonzero(open_for_keys)
    if len(targets) <= TARGETS:
        return targets
    room = (model.policy.high_water - model.lps()[targets]) * model.capacity[targets]
    partners = np.zeros(len(model.capacity))
    for seed in seeds:
        neighbours, weights = model.snapshot.co_access.of(int(seed))
        np.add.at(partners, model.primary[neighbours], weights)
    quarter = TARGETS // 4
    chosen = {
        *targets[np.argsort(-room, kind="stable")[: 2 * quarter]].tolist(),
        *targets[np.argsort(model.snapshot.partition_km[source, targets], kind="stable")[:quarter]].tolist(),
        *targets[np.argsort(-partners[targets], kind="stable")[:quarter]].tolist(),
    }
    return np.array(sorted(chosen), np.int64)


def _allowed(model: PlacementModel, keys: IntArray) -> BoolArray:
    """Return where placement rules allow each of ``keys``, shape (keys, P)."""
    rules = model.snapshot.rules
    return np.asarray(rules.home[rules.row[keys]])


def _fit(model: PlacementModel, loads: LoadProfile, targets: IntArray, mark: float) -> BoolArray:
    """Return whether each target stays below the mark in every hour with each load (S, H) added, shape (S, T)."""
    after = loads.rows((slice(None), None)) + model.profile.rows(targets).rows((None,))
    limit = mark * model.capacity[targets][None, :, None]
    return np.asarray((after.upper(model.rule)[..., : model.marked_hours] <= limit + TOLERANCE).all(axis=-1))


def _most_valuable(
    model: PlacementModel,
    source: int,
    seeds: IntArray,
    loads: LoadProfile,
    targets: IntArray,
    fits: BoolArray,
    goal: _SearchGoal,
) -> list[int]:
    """Return the seeds to grow: the keys that alone would remove the most risk at their best target."""
    gain = _risk_removed(model, source, loads, 0.0) - _risk_added(model, loads, targets, 0.0)
    best = np.where(fits, gain + (DRAIN_BONUS if goal.draining else 0.0), -np.inf).max(axis=1)
    ranked = np.lexsort((seeds, -best))[: goal.effort.grown]
    return [int(seeds[rank]) for rank in ranked if np.isfinite(best[rank])]


def _risk_removed(model: PlacementModel, source: int, loads: LoadProfile, co_accesses: FloatArray | float) -> FloatArray:
    """Return the risk that each load (S, H) removes at the source, with its ``co_accesses`` (S, 1); (S, 1)."""
    row = np.array([source])
    here = model.profile.rows(row)
    left = here.rows((None,)) - loads.rows((slice(None), None))
    return np.asarray(model.risk_now()[row] - model.risk(left, row, model.co_accesses[row] - co_accesses))


def _risk_added(model: PlacementModel, loads: LoadProfile, targets: IntArray, co_accesses: FloatArray | float) -> FloatArray:
    """Return the risk that each load (S, H) adds at each target, with its ``co_accesses`` (S, T); (S, T)."""
    there = model.profile.rows(targets)
    after = there.rows((None,)) + loads.rows((slice(None), None))
    return np.asarray(model.risk(after, targets, model.co_accesses[targets] + co_accesses) - model.risk_now()[targets])


def _best_targets(
    model: PlacementModel, source: int, sizes: ClumpSizes, targets: IntArray, goal: _SearchGoal
) -> list[MoveOption | None]:
    """For each clump the target with the highest value (the lower index if equal); None if it fits nowhere."""
    snapshot, policy = model.snapshot, model.policy
    fits = _fit(model, sizes.load, targets, goal.mark) & sizes.allowed_targets
    count, capacity = np.array([len(keys) for keys in sizes.keys]), model.capacity[source]
    inside = sizes.co_accesses_inside[:, None]
    removed = _risk_removed(model, source, sizes.load, inside + sizes.co_accesses_source[:, None])
    gain = removed - _risk_added(model, sizes.load, targets, inside + sizes.co_accesses_targets)
    if goal.risk_weight is not None:
        gain = goal.risk_weight * np.minimum(gain, 0.0)
    crossing, days = sizes.co_accesses_source[:, None] - sizes.co_accesses_targets, len(model.hours.weight) / HOURS_PER_DAY
    crossing_price = policy.crossing_cost * crossing * HOURS_PER_DAY / SECONDS_PER_HOUR / capacity
    distance_change = sizes.distance_targets - sizes.distance_source[:, None]
    distance_price = distance_change / days / SECONDS_PER_HOUR / capacity / snapshot.span_km
    price = goal.key_price * count + policy.gigabyte_price * sizes.size_bytes / GIBIBYTE
    worth = gain - price[:, None] + (DRAIN_BONUS * count[:, None] if goal.draining else 0.0)
    value = worth - goal.closeness_days * (crossing_price + policy.distance_weight * distance_price)
    best = np.where(fits, value, -np.inf).argmax(axis=1)
    return [
        MoveOption(
            keys=keys,
            target=int(targets[at]),
            price=float(price[row]),
            worth=float(worth[row, at]),
            value=float(value[row, at]),
            crossing=float(crossing[row, at]),
            distance_km=float(distance_change[row, at] / sizes.work[row]) if sizes.work[row] > 0 else 0.0,
            size_bytes=float(sizes.size_bytes[row]),
        )
        if fits[row].any()
        else None
        for row, (keys, at) in enumerate(zip(sizes.keys, best.tolist(), strict=True))
    ]
