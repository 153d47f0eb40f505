"""The routing table: listed keys, slots, publications."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.slots import slot_map

from foreshard.errors import TableGap
from foreshard.model import Placement, PlacementChange, RoutingTable, SlotMap
from foreshard.model.key_space import slot_unit
from foreshard.routing.packed import PackedPlacements, pack
from foreshard.routing.table import apply_changes, locate

NOW = datetime(2025, 1, 1, tzinfo=UTC)
SLOTS = slot_map(("a", "b", "c", "d"), (1.0, 1.0, 2.0, 4.0))


def table(*placements: Placement, version: int = 1, slots: SlotMap = SLOTS) -> RoutingTable:
    return RoutingTable(version, {p.key: p for p in placements}, slots, NOW)


def test_a_listed_key_is_where_the_table_says():
    listed = Placement("k", "b", ("c",), 7)
    assert locate(table(listed), "k") is listed


def test_an_unlisted_key_is_where_its_slot_is_at_the_epoch_of_the_slot():
    home = SLOTS.of("new key")
    slots = SLOTS.laid_over({int(home.key[1:]): Placement(home.key, "b", (), 9)})
    assert locate(table(slots=slots), "new key") == Placement("new key", "b", (), 9)


def test_a_slot_is_located_by_its_unit():
    assert locate(table(), slot_unit(811)) is SLOTS.placements[811]


def test_a_publication_that_does_not_follow_is_refused():
    with pytest.raises(TableGap, match="publication 3 does not follow routing table version 1"):
        apply_changes(table(), (), 3, NOW)


def test_a_publication_moves_a_slot_and_its_unlisted_keys_only():
    slot = SLOTS.space.slot_of("k")
    change = PlacementChange(slot_unit(slot), "x", (), 1, 2)
    changed = apply_changes(table(Placement("listed", "a")), (change,), 2, NOW)
    assert locate(changed, "k") == Placement("k", "x", (), 2)
    assert locate(changed, "listed").primary == "a"
    assert [p for n, p in enumerate(changed.slots.placements) if n != slot] == [
        p for n, p in enumerate(SLOTS.placements) if n != slot
    ]


changes = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["a", "b", "c", "d", None])), max_size=8, unique_by=lambda c: c[0]
)


@given(st.integers(0, 30), st.lists(changes, max_size=12), st.booleans())
@settings(max_examples=100)
def test_publications_over_a_table_equal_a_plain_dictionary(listed, publications, packed):
    first = table(*(Placement(str(n), "a") for n in range(listed)))
    now, plain = first, dict(first.placements)
    if packed:
        now = replace(first, placements=PackedPlacements(pack(first.placements.values(), count(1))))
    for number, rows in enumerate(publications):
        made = []
        for key, primary in ((str(k), p) for k, p in rows):
            epoch = plain[key].epoch if key in plain else 0
            if primary is not None:
                made.append(PlacementChange(key, primary, (), epoch, epoch + 1))
            elif key in plain:
                made.append(PlacementChange(key, plain[key].primary, (), epoch, epoch, delist=True))
        now = apply_changes(now, made, 2 + number, NOW)
        plain |= {c.key: Placement(c.key, c.primary, c.shadows, c.new_epoch) for c in made}
        plain = {key: placement for key, placement in plain.items() if key not in {c.key for c in made if c.delist}}
    assert dict(now.placements) == plain
    assert len(now.placements) == len(plain)
    assert set(now.placements) == set(plain)
    assert all((key in now.placements) == (key in plain) for key in (*map(str, range(41)), "missing"))
    assert dict(first.placements) == {str(n): Placement(str(n), "a") for n in range(listed)}


KEYS = tuple(f"key {n}" for n in range(12))


class Ownership(RuleBasedStateMachine):
    """Slots move, keys are listed, moved and delisted, in any order; a model of owners says where each key must be."""

    def __init__(self) -> None:
        super().__init__()
        self.table = table(slots=slot_map(("a", "b"), (1.0, 1.0), slots=4))
        self.slot_owner = [placement.primary for placement in self.table.slots.placements]
        self.listed: dict[str, str] = {}
        self.epochs = dict.fromkeys(KEYS, 0)

    def publish(self, *made: PlacementChange) -> None:
        self.table = apply_changes(self.table, made, self.table.version + 1, NOW)

    @rule(slot=st.integers(0, 3), to=st.sampled_from("abc"))
    def move_a_slot(self, slot, to):
        epoch = self.table.slots.placements[slot].epoch
        self.publish(PlacementChange(slot_unit(slot), to, (), epoch, epoch + 1))
        self.slot_owner[slot] = to

    @rule(key=st.sampled_from(KEYS), to=st.sampled_from("abc"))
    def move_a_key(self, key, to):
        placement = locate(self.table, key)
        expected = placement.epoch if key in self.listed else 0
        self.publish(PlacementChange(key, to, (), expected, placement.epoch + 1))
        self.listed[key] = to

    @rule(key=st.sampled_from(KEYS))
    def delist_a_key_at_home(self, key):
        slot = self.table.slots.space.slot_of(key)
        home, placement = self.table.slots.placements[slot], self.table.placements.get(key)
        if placement is None or placement.primary != home.primary:
            return
        raised = PlacementChange(home.key, home.primary, (), home.epoch, max(home.epoch, placement.epoch))
        self.publish(PlacementChange(key, home.primary, (), placement.epoch, placement.epoch, delist=True), raised)
        del self.listed[key]

    @invariant()
    def every_key_has_one_owner_and_its_epoch_never_decreases(self):
        for key in KEYS:
            found = locate(self.table, key)
            assert found.primary == self.listed.get(key, self.slot_owner[self.table.slots.space.slot_of(key)])
            assert found.epoch >= self.epochs[key]
            self.epochs[key] = found.epoch


TestOwnership = Ownership.TestCase
TestOwnership.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
