"""What a plan may do with each key: cool-downs, pending moves, and the shadows that exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from foreshard.model import ONE_HOUR, BoolArray, FloatArray, IntArray
from foreshard.model.decided import shadow_id
from foreshard.model.key_space import KeySpace, slot_number
from foreshard.model.recent import CurrentShadow, RecentMove
from foreshard.plan.input.snapshot import CoAccessGraph, IndexedShadow, certain_uses

MOVES_COUNT = timedelta(days=14)
"""After this time a move no longer makes another one dearer: its price has halved seven times."""
OLD_COPY = timedelta(hours=24)
"""For this long the partition that a key left may still hold its old copy."""


@dataclass(frozen=True)
class KeyStates:
    """The effect of recent moves, per key (K).

    ``primary``: partition index, with pending moves counted as done. ``movable``: not being moved. ``under_way``: being moved.
    ``idle_hours``: since the last move, infinity without one. ``last_source``: the partition that the key left within
    ``OLD_COPY``, −1 for none.
    """

    primary: IntArray
    movable: BoolArray
    under_way: BoolArray
    idle_hours: FloatArray
    last_source: IntArray


def key_states(
    moves: Iterable[RecentMove], rows: Mapping[str, int], primary: IntArray, partitions: Mapping[str, int], now: datetime
) -> KeyStates:
    """Apply ``moves``, oldest first, to the published placement.

    ``rows`` maps keys and ``partitions`` partition ids to their indices; a move of any other key is ignored.
    """
    count = len(rows)
    states = KeyStates(
        primary.copy(), np.ones(count, bool), np.zeros(count, bool), np.full(count, np.inf), np.full(count, -1, np.int64)
    )
    for move in moves:
        row = rows.get(move.key)
        if row is None:
            continue
        if move.pending:
            states.primary[row] = partitions.get(move.target, states.primary[row])
            states.movable[row], states.under_way[row] = False, True
            continue
        states.idle_hours[row] = max((now - move.at) / ONE_HOUR, 0.0)
        if move.at >= now - OLD_COPY:
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
    now: datetime,
) -> tuple[IndexedShadow, ...]:
    """Return the shadows that are not being removed, with the ``published`` (key, partition) pairs that have no record.

    ``now``: the end of the snapshot's hour, from which the age of a planned shadow counts.
    """
    rows, partitions = _indices(keys), _indices(partition_ids)
    leaving = {(shadow.key, shadow.target) for shadow in shadows if shadow.leaving}
    found: dict[tuple[int, int], IndexedShadow] = {}
    for shadow in shadows:
        if not shadow.leaving and shadow.key in rows and shadow.target in partitions:
            age = np.inf if shadow.hour is None else max((now - shadow.hour) / ONE_HOUR, 0.0)
            pair = (rows[shadow.key], partitions[shadow.target])
            found[pair] = IndexedShadow(shadow.shadow_id, *pair, shadow.why, age)
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
    """Build the graph over ``keys`` from ``pairs`` (key_a, key_b, weight) summed over ``hours``.

    Weights are per hour, as far as chance does not explain them (:func:`certain_uses`).
    """
    order = pd.Index(list(keys))
    a, b = (order.get_indexer(pd.Index(pairs[name].tolist())) for name in ("key_a", "key_b"))
    known = (a >= 0) & (b >= 0)
    weight = certain_uses(pairs["weight"].to_numpy(np.float64)[known]) / max(1, hours)
    return CoAccessGraph.build(a[known], b[known], weight, len(keys))


def _indices(names: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}


def unsettled_partitions(
    primary: IntArray, copies: Iterable[tuple[int, int]], published: IntArray, published_copies: Iterable[tuple[int, int]]
) -> list[int]:
    """Return the partitions that hold a key, or serve it, of which an owner or a copy is not the published one.

    ``primary`` (K): the owners, with moves under way counted as done. ``copies``: (key, partition) of the shadows, with those
    that are being made and without those that are being removed.
    """
    now, before = set(copies), set(published_copies)
    changed = {int(key) for key in np.flatnonzero(primary != published)} | {key for key, _ in now ^ before}
    owners = {int(owners[key]) for owners in (primary, published) for key in changed}
    return sorted(owners | {partition for key, partition in now | before if key in changed})
