"""A move's set of units: which keys it contains, and the ranges of hashes that hold them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.model.unit_set import unit_set

SPACE = KeySpace(slots=16)
KEYS = [f"key {number}" for number in range(200)]


@given(st.sets(st.integers(0, 15)), st.sets(st.sampled_from(KEYS), max_size=5), st.sets(st.sampled_from(KEYS), max_size=20))
def test_a_key_is_in_the_set_by_name_or_by_its_slot_unless_it_is_listed(slots, keys, listed):
    units = unit_set([*map(slot_unit, slots), *keys], SPACE, listed)
    for key in KEYS:
        assert (key in units) == (key in keys or (SPACE.slot_of(key) in slots and key not in listed))
    assert None not in units


@given(st.sets(st.integers(0, 15)))
def test_ranges_hold_the_hashes_of_the_slots_and_no_others(slots):
    ranges = list(unit_set(map(slot_unit, slots), SPACE).hash_ranges())
    for key in KEYS:
        value = SPACE.hash_of(key)
        assert any(first <= value and (end is None or value < end) for first, end in ranges) == (SPACE.slot_of(key) in slots)
    assert len(ranges) == len([slot for slot in slots if slot + 1 not in slots])
