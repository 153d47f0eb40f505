"""Sizes of units: keys that are no units count for their slots."""

from __future__ import annotations

from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.ports.planning import KeySizes


def test_keys_that_are_no_units_are_summed_into_their_slots() -> None:
    space = KeySpace(slots=2)
    keys = [f"key {n}" for n in range(100)]
    sizes = KeySizes(dict.fromkeys(keys, 10.0), 7.0).by_unit({"key 1"}, space)
    assert sizes.of("key 1") == 10.0
    slots = [sizes.of(slot_unit(slot)) for slot in range(2)]
    assert slots == [10.0 * sum(space.slot_of(key) == slot for key in keys if key != "key 1") for slot in range(2)]
    assert sizes.of("unseen") == 7.0
