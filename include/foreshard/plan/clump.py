"""Moves: a hot key and the keys used with it, grown by co-access as in Clay (Serafini et al., VLDB 2016), and where they fit.

The value of moving a clump is the overload risk that it removes, less what it costs: the risk that it adds at its target, its
moves and bytes, co-access that it tears apart (or joins), and kilometres between the keys and their readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foreshard.load import SECONDS_PER_HOUR, BoolArray, IntArray, LoadProfile, key_profile
from foreshard.model import FloatArray
from foreshard.plan.outlook import TOLERANCE, Outlook

SEEDS = 48
"""How many of a partition's most relieving keys are considered as hot keys."""
GROWN = 6
"""How many of these are grown to clumps."""
PATIENCE = 3
"""How many keys a clump may grow by without its value rising."""
TARGETS = 32
"""At more partitions than this, only the roomiest, the nearest and the most co-accessed are considered."""
GIBIBYTE = float(2**30)
DRAIN_BONUS = 1_000.0
"""What taking a key off a draining partition is worth: more than any price."""


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


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of the hour's limits."""

    moves: int
    size_bytes: float


@dataclass
class _Clump:
    """A growing clump: its load and its common uses per hour with each partition's other keys."""

    keys: list[int]
    load: LoadProfile
    size_bytes: float
    uses: FloatArray
    neighbours: dict[int, float]
    distance: FloatArray
    work: float


def best_move(
    view: Outlook,
    source: int,
    allowance: Allowance,
    candidates: IntArray,
    banned: set[tuple[int, int]],
    draining: bool = False,
) -> MoveSearch:
    """Find the most valuable clump among ``candidates`` (keys on ``source``) and its target.

    ``banned`` holds (hot key, target) pairs that were tried in vain. Ties go to the lower index, so that the result is
    determined by the snapshot. While the source is over its high-water mark, co-access and distance rank the options but reject
    none; below it, an option must pay for these as well.
    """
    if allowance.moves < 1:
        return MoveSearch(None, "limit_reached")
    size = view.snapshot.key_bytes[candidates]
    if not (size <= view.policy.maximum_bytes).any():
        return MoveSearch(None, "nothing_movable")
    candidates = candidates[size <= allowance.size_bytes]
    if not len(candidates):
        return MoveSearch(None, "limit_reached")
    overloaded = draining or view.lps()[source] > view.policy.high_water
    search = MoveSearch(None, "no_target_fits")
    for mark in _marks(view, overloaded):
        search = _search(view, source, allowance, candidates, banned, _Aim(mark, overloaded, draining))
        if search.best is not None:
            break
    return search


@dataclass(frozen=True, slots=True)
class _Aim:
    """What a search is for: the mark under which targets must stay, and whether relief is urgent or a partition is drained."""

    mark: float
    overloaded: bool
    draining: bool


def _marks(view: Outlook, overloaded: bool) -> tuple[float, ...]:
    """The marks under which targets must stay, the best first.

    A partition that is only being brought down to its low-water mark lifts no other above it. An overloaded one fills targets
    half-way up to the high-water mark, and up to it where nothing else helps: a target at its brink is the next to be relieved.
    """
    high, low = view.policy.high_water, view.policy.low_water
    return ((high + low) / 2, high) if overloaded else (low,)


def _search(
    view: Outlook, source: int, allowance: Allowance, candidates: IntArray, banned: set[tuple[int, int]], aim: _Aim
) -> MoveSearch:
    seeds = _seeds(view, source, candidates, aim.draining)
    targets = _targets(view, source, seeds)
    if not len(targets):
        return MoveSearch(None, "no_target_fits")
    fits = _fit(view, key_profile(view.snapshot.demand, seeds), targets, aim.mark)
    if not fits.any():
        return MoveSearch(None, "no_target_fits")
    allowed = view.scratch
    allowed[candidates] = True
    options: list[MoveOption] = []
    for seed in _most_valuable(view, source, seeds, targets, fits, aim.draining):
        sizes: list[MoveOption] = []
        for clump in _grow(view, source, seed, allowed, allowance):
            option = _best_target(view, source, clump, targets, banned, aim)
            if option is None or _stagnant([*sizes, option]):
                break
            sizes.append(option)
        options += sizes
    allowed[candidates] = False
    if not options:
        return MoveSearch(None, "no_target_fits")
    paying = [option for option in options if (option.worth if aim.overloaded else min(option.worth, option.value)) > 0]
    if not paying:
        return MoveSearch(None, "gain_too_small")
    return MoveSearch(max(paying, key=lambda option: (option.value, -len(option.keys))))


def _stagnant(sizes: list[MoveOption]) -> bool:
    """Whether the last ``PATIENCE`` keys have not raised the clump's value."""
    values = [option.value for option in sizes]
    return len(values) > PATIENCE and max(values[-PATIENCE:]) <= max(values[:-PATIENCE])


def _seeds(view: Outlook, source: int, candidates: IntArray, draining: bool) -> IntArray:
    """The candidates that relieve the source most in its urgent hours (that bring most load, where it's being drained)."""
    demand = view.snapshot.demand
    weight = np.ones(demand.hours) if draining else view.urgency(source)
    relief = (demand.mean[candidates] + view.rule.z * demand.sigma[candidates]) @ weight
    return candidates[np.lexsort((candidates, -relief))[:SEEDS]]


def _targets(view: Outlook, source: int, seeds: IntArray) -> IntArray:
    """The partitions that may take keys: active, and under the high-water mark in every hour."""
    open_for_keys = view.snapshot.active & (view.lps() < view.policy.high_water)
    open_for_keys[source] = False
    targets = np.flatnonzero(open_for_keys)
    if len(targets) <= TARGETS:
        return targets
    room = ((view.policy.high_water - view.utilisation()[targets]) * view.capacity[targets, None]).min(axis=1)
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


def _fit(view: Outlook, loads: LoadProfile, targets: IntArray, mark: float) -> BoolArray:
    """Whether each load (S, H) leaves each target under the mark in every hour, shape (S, T)."""
    after = loads.rows((slice(None), None)) + view.profile.rows(targets).rows((None,))
    limit = mark * view.capacity[targets][None, :, None]
    return np.asarray((after.upper(view.rule) <= limit + TOLERANCE).all(axis=-1))


def _most_valuable(
    view: Outlook, source: int, seeds: IntArray, targets: IntArray, fits: BoolArray, draining: bool
) -> list[int]:
    """The hot keys to grow: by the risk that each alone would remove at its best target."""
    loads = key_profile(view.snapshot.demand, seeds)
    gain = _risk_removed(view, source, loads) - _risk_added(view, loads, targets)
    best = np.where(fits, gain + (DRAIN_BONUS if draining else 0.0), -np.inf).max(axis=1)
    ranked = np.lexsort((seeds, -best))[:GROWN]
    return [int(seeds[rank]) for rank in ranked if np.isfinite(best[rank])]


def _risk_removed(view: Outlook, source: int, loads: LoadProfile) -> FloatArray:
    """By each load (S, H) at the source, shape (S, 1)."""
    row = np.array([source])
    here = view.profile.rows(row)
    left = here.rows((None,)) - loads.rows((slice(None), None))
    return np.asarray(view.risk_now()[row] - view.risk(left, row))


def _risk_added(view: Outlook, loads: LoadProfile, targets: IntArray) -> FloatArray:
    """By each load (S, H) at each target, shape (S, T)."""
    there = view.profile.rows(targets)
    return np.asarray(view.risk(there.rows((None,)) + loads.rows((slice(None), None)), targets) - view.risk_now()[targets])


def _grow(view: Outlook, source: int, seed: int, allowed: BoolArray, allowance: Allowance) -> Iterator[_Clump]:
    """Yield the clump of ``seed`` at each size, always adding the key that is used most with it."""
    clump = _Clump(
        [],
        LoadProfile.zeros(1, view.snapshot.demand.hours),
        0.0,
        np.zeros(len(view.capacity)),
        {},
        np.zeros(len(view.capacity)),
        0.0,
    )
    key: int | None = seed
    while key is not None and len(clump.keys) < min(allowance.moves, view.policy.maximum_clump):
        if clump.size_bytes + view.snapshot.key_bytes[key] <= allowance.size_bytes:
            _add(view, source, clump, key, allowed)
            yield clump
        else:
            clump.neighbours.pop(key, None)
        key = min(clump.neighbours, key=lambda k: (-clump.neighbours[k], k), default=None)


def _add(view: Outlook, source: int, clump: _Clump, key: int, allowed: BoolArray) -> None:
    snapshot = view.snapshot
    neighbours, weights = snapshot.co_access.of(key)
    inside = np.isin(neighbours, np.array(clump.keys, np.int64))
    clump.uses[source] -= weights[inside].sum()
    np.add.at(clump.uses, view.primary[neighbours[~inside]], weights[~inside])
    clump.keys.append(key)
    clump.neighbours.pop(key, None)
    open_ = allowed[neighbours] & ~inside
    for other, weight in zip(neighbours[open_].tolist(), weights[open_].tolist(), strict=True):
        clump.neighbours[other] = clump.neighbours.get(other, 0.0) + weight
    clump.load = clump.load + key_profile(snapshot.demand, np.array([key]))
    clump.size_bytes += float(snapshot.key_bytes[key])
    work = float(snapshot.demand.mean[key].sum())
    places, shares = snapshot.demand.origins.of(key)
    clump.distance += work * (shares @ snapshot.distance_km[places])
    clump.work += work


def _best_target(
    view: Outlook, source: int, clump: _Clump, targets: IntArray, banned: set[tuple[int, int]], aim: _Aim
) -> MoveOption | None:
    """The target where the clump fits with the highest value, the lower index on a tie."""
    snapshot, policy = view.snapshot, view.policy
    fits = _fit(view, clump.load, targets, aim.mark)[0]
    fits &= ~np.isin(targets, snapshot.last_source[clump.keys])
    fits &= np.array([(clump.keys[0], int(target)) not in banned for target in targets], bool)
    if not fits.any():
        return None
    gain = (_risk_removed(view, source, clump.load) - _risk_added(view, clump.load, targets))[0]
    crossing = clump.uses[source] - clump.uses[targets]
    torn = policy.crossing_cost * crossing * snapshot.demand.hours / SECONDS_PER_HOUR / view.capacity[source]
    farther = (clump.distance[targets] - clump.distance[source]) / SECONDS_PER_HOUR / view.capacity[source] / snapshot.span_km
    price = policy.minimum_gain * len(clump.keys) + policy.gigabyte_price * clump.size_bytes / GIBIBYTE
    worth = gain - price + (DRAIN_BONUS * len(clump.keys) if aim.draining else 0.0)
    value = worth - torn - policy.distance_weight * farther
    best = int(np.where(fits, value, -np.inf).argmax())
    kilometres = (clump.distance[targets[best]] - clump.distance[source]) / clump.work if clump.work > 0 else 0.0
    return MoveOption(
        keys=tuple(clump.keys),
        target=int(targets[best]),
        price=price,
        worth=float(worth[best]),
        value=float(value[best]),
        crossing=float(crossing[best]),
        distance_km=float(kilometres),
        size_bytes=clump.size_bytes,
    )
