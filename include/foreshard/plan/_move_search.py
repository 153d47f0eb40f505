"""Moves: the most valuable clump of keys to take off a partition, and the target where it fits.

The value of moving a clump is the overload risk that it removes, less what it costs: the risk that it adds at its target, its
moves and bytes, co-access that it tears apart (or joins), and kilometres between the keys and their readers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import HOURS_PER_DAY, SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray
from foreshard.plan._clump import Allowance, Growth, Sizes, joined
from foreshard.plan._placement_model import TOLERANCE, PlacementModel

PATIENCE = 3
"""How many keys a clump may grow by without its value rising."""
GROWN_AT_ONCE = PATIENCE + 1
"""How many keys each clump grows by before its options are weighed."""
TARGETS = 32
"""At more partitions than this, only the roomiest, the nearest and the most co-accessed are considered."""
GIBIBYTE = float(2**30)
SETTLING_RISK = 1000.0
"""How many times the risk that a move for nearness and common uses brings counts against it."""
DRAIN_BONUS = 1_000.0
"""What taking a key off a draining partition is worth: more than any price."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How far is searched: how many of a partition's most relieving keys are ``seeds``, and how many of these are ``grown``."""

    seeds: int = 48
    grown: int = 6


@dataclass(frozen=True, slots=True)
class MoveOption:
    """Moving ``keys`` (the hot key first) to ``target``.

    ``worth`` is the risk removed less the ``price`` of moves and bytes; ``value`` also counts ``crossing``, the change in
    common uses per hour that cross partitions, and ``distance_km``, the change of the mean distance to the readers.
    """

    keys: tuple[int, ...]
    target: int
    price: float
    worth: float
    value: float
    crossing: float
    distance_km: float
    size_bytes: float


@dataclass(frozen=True, slots=True)
class MoveSearch:
    """The best option, or why there is none: ``limit_reached``, ``nothing_movable``, ``no_target_fits``, ``gain_too_small``."""

    best: MoveOption | None
    obstacle: str = ""


def best_move(
    view: PlacementModel,
    source: int,
    allowance: Allowance,
    candidates: IntArray,
    banned: set[tuple[int, int]],
    draining: bool = False,
    effort: Effort = Effort(),
    mark: float | None = None,
) -> MoveSearch:
    """Find the most valuable clump among ``candidates`` (keys on ``source``) and its target.

    Targets stay below ``mark`` (None: the high-water mark); only where no move that pays does, they may become as full as the
    source is.
    ``banned`` holds (hot key, target) pairs that were tried in vain. Ties go to the lower index, so that the result is
    determined by the snapshot. What a move is worth is the risk that it removes; co-access and distance only rank the options.
    """
    if allowance.moves < 1:
        return MoveSearch(None, "limit_reached")
    size = view.snapshot.key_bytes[candidates]
    if not (size <= view.policy.maximum_bytes).any():
        return MoveSearch(None, "nothing_movable")
    candidates = candidates[size <= allowance.size_bytes]
    if not len(candidates):
        return MoveSearch(None, "limit_reached")
    mark = view.policy.high_water if mark is None else mark
    aim = _Aim(mark, view.policy.minimum_gain, view.policy.relief_closeness, draining=draining, effort=effort)
    search = _search(view, source, allowance, candidates, banned, aim)
    if search.best is None and not draining and view.level(source) > mark:
        search = _search(view, source, allowance, candidates, banned, replace(aim, mark=view.level(source)))
    return search


def best_settlement(
    view: PlacementModel, source: int, seeds: IntArray, allowance: Allowance, banned: set[tuple[int, int]]
) -> MoveOption | None:
    """The most valuable clump around one of ``seeds`` to take to its readers and the keys used with it, if any pays.

    Kilometres and common uses must pay ``settle_gain`` a key, and for any risk that the move brings, many times over.
    """
    policy = view.policy
    aim = _Aim(view.level(source), policy.settle_gain, closeness=policy.payback_days, risk_added=SETTLING_RISK)
    targets = _targets(view, source, seeds)
    if not len(targets):
        return None
    allowed = view.scratch
    candidates = view.movable_on(source)
    allowed[candidates] = True
    growths = [
        Growth(
            view, source, seed, allowed, allowance, targets, np.array([(seed, t) not in banned for t in targets.tolist()], bool)
        )
        for seed in seeds.tolist()
    ]
    options = [option for sizes in _grown(view, source, growths, targets, aim) for option in sizes if option.value > 0]
    allowed[candidates] = False
    return max(options, key=lambda option: (option.value, -len(option.keys)), default=None)


@dataclass(frozen=True, slots=True)
class _Aim:
    """What a search is for: the mark under which targets must stay, the price of a key, and what counts how much.

    ``closeness`` is how many days' kilometres and common uses count. ``risk_added``: removing risk counts for nothing, and
    adding it so many times (None: both count once).
    """

    mark: float
    key_price: float
    closeness: float = 1.0
    risk_added: float | None = None
    draining: bool = False
    effort: Effort = Effort()


def _search(
    view: PlacementModel, source: int, allowance: Allowance, candidates: IntArray, banned: set[tuple[int, int]], aim: _Aim
) -> MoveSearch:
    seeds = _seeds(view, source, candidates, aim)
    targets = _targets(view, source, seeds)
    if not len(targets):
        return MoveSearch(None, "no_target_fits")
    loads = view.hours.load(seeds)
    fits = _fit(view, loads, targets, aim.mark) & _allowed(view, seeds)[:, targets]
    if not fits.any():
        return MoveSearch(None, "no_target_fits")
    allowed = view.scratch
    allowed[candidates] = True
    growths = []
    for seed in _most_valuable(view, source, seeds, loads, targets, fits, aim):
        open_ = np.array([(seed, target) not in banned for target in targets.tolist()], bool)
        growths.append(Growth(view, source, seed, allowed, allowance, targets, open_))
    options = [option for sizes in _grown(view, source, growths, targets, aim) for option in sizes]
    allowed[candidates] = False
    if not options:
        return MoveSearch(None, "no_target_fits")
    paying = [option for option in options if option.worth > 0]
    if not paying:
        return MoveSearch(None, "gain_too_small")
    return MoveSearch(max(paying, key=lambda option: (option.value, -len(option.keys))))


def _grown(view: PlacementModel, source: int, growths: list[Growth], targets: IntArray, aim: _Aim) -> list[list[MoveOption]]:
    """Each clump's options by its size, until it fits nowhere or its value has stopped to rise; all are grown side by side."""
    sizes: list[list[MoveOption]] = [[] for _ in growths]
    growing = list(range(len(growths)))
    while growing:
        grown = [(number, found) for number in growing if (found := growths[number].grow(GROWN_AT_ONCE))]
        growing = []
        if not grown:
            break
        options = iter(_best_targets(view, source, joined([found for _, found in grown]), targets, aim))
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
    """Whether the last ``PATIENCE`` keys have not raised the clump's value."""
    values = [option.value for option in sizes]
    return len(values) > PATIENCE and max(values[-PATIENCE:]) <= max(values[:-PATIENCE])


def _seeds(view: PlacementModel, source: int, candidates: IntArray, aim: _Aim) -> IntArray:
    """The candidates that relieve the source most in its urgent hours (that bring most load, where it's being drained)."""
    hours = view.hours
    weight = np.ones(len(hours.weight)) if aim.draining else view.urgency(source)
    relief = (hours.mean(candidates) + view.rule.z * hours.sigma(candidates)) @ weight
    return candidates[np.lexsort((candidates, -relief))[: aim.effort.seeds]]


def _targets(view: PlacementModel, source: int, seeds: IntArray) -> IntArray:
    """The partitions that may take keys: active, and under the high-water mark, or less full than the source, in every hour."""
    open_for_keys = view.snapshot.active & (view.lps() < view.level(source))
    open_for_keys[source] = False
    open_for_keys &= _allowed(view, seeds).any(axis=0)
    targets = np.flatnonzero(open_for_keys)
    if len(targets) <= TARGETS:
        return targets
    room = (view.policy.high_water - view.lps()[targets]) * view.capacity[targets]
    partners = np.zeros(len(view.capacity))
    for seed in seeds:
        neighbours, weights = view.snapshot.co_access.of(int(seed))
        np.add.at(partners, view.primary[neighbours], weights)
    quarter = TARGETS // 4
    chosen = {
        *targets[np.argsort(-room, kind="stable")[: 2 * quarter]].tolist(),
        *targets[np.argsort(view.snapshot.partition_km[source, targets], kind="stable")[:quarter]].tolist(),
        *targets[np.argsort(-partners[targets], kind="stable")[:quarter]].tolist(),
    }
    return np.array(sorted(chosen), np.int64)


def _allowed(view: PlacementModel, keys: IntArray) -> BoolArray:
    """Where placement rules let each of ``keys`` be, shape (keys, P)."""
    rules = view.snapshot.rules
    return np.asarray(rules.home[rules.row[keys]])


def _fit(view: PlacementModel, loads: LoadProfile, targets: IntArray, mark: float) -> BoolArray:
    """Whether each load (S, H) leaves each target under the mark in every hour, shape (S, T)."""
    after = loads.rows((slice(None), None)) + view.profile.rows(targets).rows((None,))
    limit = mark * view.capacity[targets][None, :, None]
    return np.asarray((after.upper(view.rule)[..., : view.marked] <= limit + TOLERANCE).all(axis=-1))


def _most_valuable(
    view: PlacementModel, source: int, seeds: IntArray, loads: LoadProfile, targets: IntArray, fits: BoolArray, aim: _Aim
) -> list[int]:
    """The hot keys to grow: by the risk that each alone would remove at its best target."""
    gain = _risk_removed(view, source, loads, 0.0) - _risk_added(view, loads, targets, 0.0)
    best = np.where(fits, gain + (DRAIN_BONUS if aim.draining else 0.0), -np.inf).max(axis=1)
    ranked = np.lexsort((seeds, -best))[: aim.effort.grown]
    return [int(seeds[rank]) for rank in ranked if np.isfinite(best[rank])]


def _risk_removed(view: PlacementModel, source: int, loads: LoadProfile, uses: FloatArray | float) -> FloatArray:
    """By each load (S, H) at the source, shape (S, 1); ``uses`` (S, 1): the common uses that are no longer together there."""
    row = np.array([source])
    here = view.profile.rows(row)
    left = here.rows((None,)) - loads.rows((slice(None), None))
    return np.asarray(view.risk_now()[row] - view.risk(left, row, view.uses[row] - uses))


def _risk_added(view: PlacementModel, loads: LoadProfile, targets: IntArray, uses: FloatArray | float) -> FloatArray:
    """By each load (S, H) at each target, shape (S, T); ``uses`` (S, T): the common uses that come together there."""
    there = view.profile.rows(targets)
    after = there.rows((None,)) + loads.rows((slice(None), None))
    return np.asarray(view.risk(after, targets, view.uses[targets] + uses) - view.risk_now()[targets])


def _best_targets(view: PlacementModel, source: int, sizes: Sizes, targets: IntArray, aim: _Aim) -> list[MoveOption | None]:
    """For each clump the target where it fits with the highest value, the lower index on a tie; None where it fits nowhere."""
    snapshot, policy = view.snapshot, view.policy
    fits = _fit(view, sizes.load, targets, aim.mark) & sizes.open_
    count, capacity = np.array([len(keys) for keys in sizes.keys]), view.capacity[source]
    inside = sizes.uses_inside[:, None]
    removed = _risk_removed(view, source, sizes.load, inside + sizes.uses_source[:, None])
    gain = removed - _risk_added(view, sizes.load, targets, inside + sizes.uses_targets)
    if aim.risk_added is not None:
        gain = aim.risk_added * np.minimum(gain, 0.0)
    crossing, days = sizes.uses_source[:, None] - sizes.uses_targets, len(view.hours.weight) / HOURS_PER_DAY
    torn = policy.crossing_cost * crossing * HOURS_PER_DAY / SECONDS_PER_HOUR / capacity
    away = sizes.distance_targets - sizes.distance_source[:, None]
    farther = away / days / SECONDS_PER_HOUR / capacity / snapshot.span_km
    price = aim.key_price * count + policy.gigabyte_price * sizes.size_bytes / GIBIBYTE
    worth = gain - price[:, None] + (DRAIN_BONUS * count[:, None] if aim.draining else 0.0)
    value = worth - aim.closeness * (torn + policy.distance_weight * farther)
    best = np.where(fits, value, -np.inf).argmax(axis=1)
    return [
        MoveOption(
            keys=keys,
            target=int(targets[at]),
            price=float(price[row]),
            worth=float(worth[row, at]),
            value=float(value[row, at]),
            crossing=float(crossing[row, at]),
            distance_km=float(away[row, at] / sizes.work[row]) if sizes.work[row] > 0 else 0.0,
            size_bytes=float(sizes.size_bytes[row]),
        )
        if fits[row].any()
        else None
        for row, (keys, at) in enumerate(zip(sizes.keys, best.tolist(), strict=True))
    ]
