"""What cleaners have removed from a partition: ``removed_units`` in its bookkeeping database, one document per move.

::

    {_id: move id, units: [key, …], unit_epochs: [n, …], slots: [n, …], slot_epochs: [n, …], exceptions: [key, …], of: 4096, at}

The entry is committed before the first document is removed, so a reader that misses a document finds the entry. An epoch is
that of the unit's owner when the removal began. It is higher than the epoch under which the partition owned the unit, and lower
than the one under which the partition may own it again. A reader therefore needs no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from foreshard.model.key_space import KeySpace, KeyType, slot_unit
from foreshard.model.unit_set import UnitSet

REMOVED_UNITS = "removed_units"
KEPT = timedelta(days=7)
"""A TTL index removes older entries. No cursor is older."""
MOST_KEYS_NAMED = 1_000
"""A reader of more keys reads all entries."""


def entry(move_id: str, units: UnitSet, epochs: Mapping[str, int]) -> dict[str, Any]:
    """Return a move's entry, without its time. ``epochs``: unit → epoch of its owner."""
    keys, slots = sorted(units.keys), sorted(units.slots)
    return {
        "_id": move_id,
        "units": keys,
        "unit_epochs": [epochs[key] for key in keys],
        "slots": slots,
        "slot_epochs": [epochs[slot_unit(slot)] for slot in slots],
        "exceptions": sorted(units.exceptions),
        "of": units.space.slots,
    }


def entries_about(keys: Iterable[str]) -> dict[str, Any]:
    """Return a filter for the entries that may name one of ``keys``."""
    named = list(keys)
    return {"$or": [{"units": {"$in": named}}, {"slots": {"$ne": []}}]} if len(named) <= MOST_KEYS_NAMED else {}


def removed_from(entries: Iterable[Mapping[str, Any]], epoch_of: Callable[[str], int | None]) -> dict[str, int]:
    """Return the units that were removed after they were read under ``epoch_of``, each with its owner's epoch.

    ``epoch_of``: unit → the epoch that a reader reads it by; None if it does not read the unit here.
    """
    removed: dict[str, int] = {}
    for found in entries:
        by_unit = [
            *zip(found["units"], found["unit_epochs"], strict=True),
            *((slot_unit(slot), epoch) for slot, epoch in zip(found["slots"], found["slot_epochs"], strict=True)),
        ]
        for unit, epoch in by_unit:
            read_by = epoch_of(unit)
            if read_by is not None and epoch > read_by:
                removed[unit] = epoch
    return removed


def removed_since(entries: Iterable[Mapping[str, Any]], epochs: Mapping[str, int], key_type: KeyType) -> dict[str, int]:
    """Return the keys that were removed after they were read under ``epochs``, each with its owner's epoch."""
    removed: dict[str, int] = {}
    for found in entries:
        by_key = dict(zip(found["units"], found["unit_epochs"], strict=True))
        by_slot = dict(zip(found["slots"], found["slot_epochs"], strict=True))
        exceptions, space = {*found["exceptions"]}, KeySpace(key_type, found["of"])
        named = by_key.keys() & epochs.keys()
        beside = (key for key in epochs if key not in by_key and key not in exceptions) if by_slot else ()
        now = {**{key: by_key[key] for key in named}, **{key: by_slot.get(space.slot_of(key), 0) for key in beside}}
        removed.update({key: epoch for key, epoch in now.items() if epoch > epochs[key]})
    return removed
