"""The first slot map: rendezvous hashing by weight."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.slots import slot_map

from foreshard.errors import NoSlotOwner
from foreshard.model.key_space import slot_unit
from foreshard.routing.slots import rendezvous

WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 4.0}
ids = st.text(min_size=1, max_size=8)


def test_the_choice_is_the_documented_formula_and_does_not_change_between_versions():
    assert [rendezvous(key, WEIGHTS) for key in ("", "k", "Steuart at Market", "日本", "a/b%20c", "\ud800")] == [
        "d",
        "a",
        "d",
        "d",
        "a",
        "c",
    ]


def test_each_partition_gets_a_share_of_the_slots_by_its_weight():
    slots = slot_map(tuple(WEIGHTS), tuple(WEIGHTS.values()))
    owners = Counter(placement.primary for placement in slots.placements)
    for partition, weight in WEIGHTS.items():
        expected = 4_096 * weight / 8
        assert abs(owners[partition] - expected) < 4 * (expected * (1 - weight / 8)) ** 0.5


def test_slots_are_in_order_and_start_at_epoch_1():
    slots = slot_map(("a", "b"), (1.0, 1.0), slots=8)
    assert [(placement.key, placement.shadows, placement.epoch) for placement in slots.placements] == [
        (slot_unit(number), (), 1) for number in range(8)
    ]


@given(st.text(), st.dictionaries(ids, st.floats(0.01, 100), min_size=2, max_size=6), st.data())
@settings(max_examples=100)
def test_removing_a_partition_moves_only_its_own_names(name, weights, data):
    gone = data.draw(st.sampled_from(sorted(weights)))
    left = {partition: weight for partition, weight in weights.items() if partition != gone}
    before, after = rendezvous(name, weights), rendezvous(name, left)
    assert after == before or before == gone


@given(st.text(), st.dictionaries(ids, st.floats(0, 100), min_size=1, max_size=6))
@settings(max_examples=100)
def test_the_order_of_partitions_does_not_matter_and_weight_0_gets_nothing(name, weights):
    if not any(weights.values()):
        with pytest.raises(NoSlotOwner, match="name a partition that has one"):
            rendezvous(name, weights)
        return
    owner = rendezvous(name, weights)
    assert owner == rendezvous(name, dict(reversed(weights.items())))
    assert weights[owner] > 0
