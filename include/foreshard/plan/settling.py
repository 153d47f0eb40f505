"""Settling: keys go to where they are read from and where the keys used with them are, while nothing needs relief there.

A placement made by hashing tears clumps apart and serves keys from far away. Each plan brings home the few keys of which that
is worth most, as clumps, to partitions that stay below their low-water mark in every hour; the price of a move keeps the rest
where they are, so that it comes to an end.
"""

from __future__ import annotations

import numpy as np

from foreshard.load import SECONDS_PER_HOUR, IntArray
from foreshard.model import FloatArray
from foreshard.plan.clump import Allowance
from foreshard.plan.draft import Draft
from foreshard.plan.move_search import best_settlement
from foreshard.plan.outlook import Outlook
from foreshard.plan.reasons import SETTLING
from foreshard.plan.steps import apply_move

BUSIEST = 512
"""How many of the keys with most load are looked at: few keys make most of what there is to gain."""
SEEDS = 6
"""How many keys of a partition are grown to clumps."""
FAILURES = 4
"""Partitions without a move that pays before a plan settles no more."""


def settle(draft: Draft) -> None:
    """Bring up to ``maximum_settled`` keys home, those with most to gain first."""
    view, policy = draft.view, draft.view.policy
    banned: set[tuple[int, int]] = set()
    left, failures = policy.maximum_settled, 0
    keys = _busiest(view)
    gains = _possible_gains(view, keys)
    keys, gains = keys[gains > policy.settle_gain], gains[gains > policy.settle_gain]
    while left > 0 and len(keys) and failures < FAILURES:
        source = int(view.primary[keys[int(gains.argmax())]])
        here = np.flatnonzero(view.primary[keys] == source)
        seeds = keys[here[np.lexsort((keys[here], -gains[here]))[:SEEDS]]]
        allowance = draft.allowance
        option = best_settlement(view, source, seeds, Allowance(min(left, allowance.moves), allowance.size_bytes), banned)
        if option is not None and apply_move(draft, source, option, banned, SETTLING):
            left -= len(option.keys)
            tried = np.isin(keys, option.keys)
        else:
            failures += 1
            tried = np.isin(keys, seeds)
        keys, gains = keys[~tried], gains[~tried]


def _busiest(view: Outlook) -> IntArray:
    """The movable keys with most load."""
    work = view.snapshot.demand.mean.sum(axis=1)
    free = np.flatnonzero(view.snapshot.movable & ~view.has_shadow & (work > 0))
    return np.sort(free[np.lexsort((free, -work[free]))[:BUSIEST]])


def _possible_gains(view: Outlook, keys: IntArray) -> FloatArray:
    """The most that bringing each key alone to one partition could save, in kilometres and crossing uses, without its price."""
    snapshot, policy = view.snapshot, view.policy
    gains = np.zeros(len(keys))
    for row, key in enumerate(keys.tolist()):
        source = int(view.primary[key])
        places, shares = snapshot.demand.origins.of(key)
        km = shares @ snapshot.distance_km[places] if len(places) else np.zeros(len(view.capacity))
        neighbours, weights = snapshot.co_access.of(key)
        uses = np.bincount(view.primary[neighbours], weights=weights, minlength=len(view.capacity))
        nearer = policy.distance_weight * float(snapshot.demand.mean[key].sum()) * (km[source] - km) / snapshot.span_km
        joined = policy.crossing_cost * (uses - uses[source]) * snapshot.demand.hours
        gains[row] = float((nearer + joined)[snapshot.active].max(initial=0.0)) / SECONDS_PER_HOUR / view.capacity[source]
    return gains
