"""Which keys a cleaner's announcements concern."""

from __future__ import annotations

from foreshard.model.key_space import KeySpace, KeyType, slot_unit
from foreshard.model.unit_set import UnitSet
from foreshard.stores.partition.units.removed_units import MOST_KEYS_NAMED, entries_about, entry, removed_since

SPACE = KeySpace(slots=16)
IN_SLOT = "k"
SLOT = SPACE.slot_of(IN_SLOT)


def removed(units: UnitSet, owner_epoch: int, epochs: dict[str, int]) -> dict[str, int]:
    written = entry("m", units, dict.fromkeys(units.units, owner_epoch))
    return removed_since([written], epochs, KeyType.STRING)


def test_a_key_read_under_an_earlier_epoch_has_been_removed():
    assert removed(UnitSet(SPACE, ("a", "b")), 3, {"a": 2, "c": 2}) == {"a": 3}


def test_a_key_read_under_the_same_or_a_later_epoch_has_come_back():
    assert removed(UnitSet(SPACE, ("a",)), 3, {"a": 3}) == {}
    assert removed(UnitSet(SPACE, ("a",)), 3, {"a": 4}) == {}


def test_a_key_of_a_removed_slot_has_been_removed_unless_it_was_listed():
    units = UnitSet(SPACE, (slot_unit(SLOT),))
    assert removed(units, 3, {IN_SLOT: 0}) == {IN_SLOT: 3}
    assert removed(UnitSet(SPACE, units.units, frozenset({IN_SLOT})), 3, {IN_SLOT: 0}) == {}
    assert removed(UnitSet(SPACE, (slot_unit((SLOT + 1) % 16),)), 3, {IN_SLOT: 0}) == {}


def test_few_keys_are_named_in_the_query_and_many_are_not():
    assert entries_about(["a"]) == {"$or": [{"units": {"$in": ["a"]}}, {"slots": {"$ne": []}}]}
    assert entries_about(map(str, range(MOST_KEYS_NAMED + 1))) == {}
