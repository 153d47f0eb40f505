"""What a plan may do with each key: cool-downs, pending moves, and the shadows that exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from foreshard.model import BoolArray, IntArray
from foreshard.model.decided import shadow_id
from foreshard.model.key_space import KeySpace, slot_number
from foreshard.model.recent import CurrentShadow, RecentMove
from foreshard.plan.input.snapshot import CoAccessGraph, IndexedShadow
from foreshard.settings import PlanSettings


@dataclass(frozen=True)
class KeyStates:
    """The effect of recent moves, per key (K).

    ``primary``: partition index, with pending moves counted as done. ``movable``: neither cooling down nor being moved.
    ``under_way``: being moved. ``rested``: not moved within ``settle_rest``. ``last_source``: the partition that the key left
    within ``no_return``, −1 for none.
    """

    primary: IntArray
    movable: BoolArray
    under_way: BoolArray
    rested: BoolArray
    last_source: IntArray


def longest_rest(plan: PlanSettings) -> timedelta:
    """Return the longest time for which a move restricts what a plan may do with its key."""
    return max(plan.cooldown, plan.no_return, plan.settle_rest)


def key_states(
    moves: Iterable[RecentMove],
    rows: Mapping[str, int],
    primary: IntArray,
    partitions: Mapping[str, int],
    plan: PlanSettings,
    now: datetime,
) -> KeyStates:
    """Apply ``moves``, oldest first, to the published placement.

    ``rows`` maps keys and ``partitions`` partition ids to their indices; a move of any other key is ignored.
    """
    count = len(rows)
    states = KeyStates(
        primary.copy(), np.ones(count, bool), np.zeros(count, bool), np.ones(count, bool), np.full(count, -1, np.int64)
    )
    for move in moves:
        row = rows.get(move.key)
        if row is None:
            continue
        if move.pending:
            states.primary[row] = partitions.get(move.target, states.primary[row])
            states.movable[row], states.under_way[row] = False, True
            continue
        states.movable[row] &= move.at < now - plan.cooldown
        states.rested[row] &= move.at < now - plan.settle_rest
        if move.at >= now - plan.no_return:
            states.last_source[row] = partitions.get(move.source, -1)
    return states


def slot_rows(keys: Sequence[str], space: KeySpace) -> IntArray:
    """Return the row of each key's slot; a slot, and a key without a slot among the units, has its own row."""
    rows = np.arange(len(keys))
    numbers = [slot_number(key) for key in keys]
    row_of = np.full(space.slots, -1, np.int64)
    for row, number in enumerate(numbers):
        if number is not None:
            row_of[number] = row
    if (row_of < 0).all():
        return rows
    named = np.array([row for row, number in enumerate(numbers) if number is None], np.int64)
    found = row_of[space.slots_of(keys[row] for row in named.tolist())] if len(named) else named
    rows[named] = np.where(found >= 0, found, named)
    return rows


def with_slots(states: KeyStates, slot_row: IntArray) -> KeyStates:
    """Return the states, with keys whose slot is being moved not movable: that move excludes all others of the slot."""
    own = slot_row == np.arange(len(slot_row))
    return replace(states, movable=states.movable & ~(states.under_way[slot_row] & ~own))


def current_shadows(
    shadows: Sequence[CurrentShadow],
    published: Iterable[tuple[int, int]],
    keys: Sequence[str],
    partition_ids: Sequence[str],
    keep_since: datetime,
) -> tuple[IndexedShadow, ...]:
    """Return the shadows that are not being removed, with the ``published`` (key, partition) pairs that have no record.

    A shadow that a plan has requested after ``keep_since`` is not removable yet.
    """
    rows, partitions = _indices(keys), _indices(partition_ids)
    leaving = {(shadow.key, shadow.target) for shadow in shadows if shadow.leaving}
    found: dict[tuple[int, int], IndexedShadow] = {}
    for shadow in shadows:
        if not shadow.leaving and shadow.key in rows and shadow.target in partitions:
            removable = shadow.hour is None or shadow.hour <= keep_since
            pair = (rows[shadow.key], partitions[shadow.target])
            found[pair] = IndexedShadow(shadow.shadow_id, *pair, shadow.why, removable)
    for key, partition in published:
        name = (keys[key], partition_ids[partition])
        if name not in leaving:
            found.setdefault((key, partition), IndexedShadow(shadow_id(*name), key, partition))
    return tuple(found[pair] for pair in sorted(found))


def leaving_shadows(
    shadows: Collection[CurrentShadow], keys: Sequence[str], partition_ids: Sequence[str]
) -> frozenset[tuple[int, int]]:
    """Return the (key, partition) indices of the shadows that are being removed."""
    rows, partitions = _indices(keys), _indices(partition_ids)
    return frozenset(
        (rows[shadow.key], partitions[shadow.target])
        for shadow in shadows
        if shadow.leaving and shadow.key in rows and shadow.target in partitions
    )


def co_access_graph(pairs: pd.DataFrame, hours: int, keys: Sequence[str]) -> CoAccessGraph:
    """Build the graph over ``keys`` from ``pairs`` (key_a, key_b, weight) summed over ``hours``; weights are per hour."""
    order = pd.Index(list(keys))
    a, b = (order.get_indexer(pd.Index(pairs[name].tolist())) for name in ("key_a", "key_b"))
    known = (a >= 0) & (b >= 0)
    weight = pairs["weight"].to_numpy(np.float64)[known] / max(1, hours)
    return CoAccessGraph.build(a[known], b[known], weight, len(keys))


def _indices(names: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}
