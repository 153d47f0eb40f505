"""The rows that a switch publishes, and which other publications make it start again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from foreshard.model import Placement, PlacementChange
from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.model.unit_set import UnitSet
from foreshard.move._owners import Owners
from foreshard.ports.routing import Publication

SPACE = KeySpace(slots=4)
KEYS = {slot: [k for k in (f"key {n}" for n in range(99)) if SPACE.slot_of(k) == slot] for slot in range(4)}
MOVED, MATE, OTHER = slot_unit(0), KEYS[0][0], KEYS[1][0]


def owners(
    units: tuple[str, ...], listed: dict[str, Placement], home: str = "a", exceptions: frozenset[str] = frozenset()
) -> Owners:
    slots = {slot_unit(slot): Placement(slot_unit(slot), home, (), 3) for slot in range(4)}
    places = {key: slots[slot_unit(SPACE.slot_of(key))] for keys in KEYS.values() for key in keys}
    found = {unit: Placement(unit, place.primary, (), place.epoch) for unit, place in places.items()}
    return Owners(5, UnitSet(SPACE, units, exceptions), {**found, **slots, **listed}, listed)


def change(key: str) -> tuple[Publication]:
    return (Publication(6, (PlacementChange(key, "a", (), 1, 1),), "someone", datetime.now(UTC)),)


def test_slots_get_a_new_epoch_and_their_unlisted_keys_no_row():
    assert owners((MOVED, MATE), {}).switch_to("b", "hot") == [PlacementChange(MOVED, "b", (), 3, 4)]


def test_a_key_that_leaves_its_slot_is_listed_above_the_epoch_of_its_slot():
    assert owners((OTHER,), {}).switch_to("b", "hot") == [PlacementChange(OTHER, "b", (), 0, 4, why="hot")]


def test_a_listed_key_keeps_its_other_shadows():
    listed = {OTHER: Placement(OTHER, "a", ("b", "c"), 7)}
    assert owners((OTHER,), listed).switch_to("b", "hot") == [PlacementChange(OTHER, "b", ("c",), 7, 8, why="hot")]


@pytest.mark.parametrize(("units", "home"), [((OTHER,), "b"), ((slot_unit(1), OTHER), "a")])
def test_a_listed_key_that_comes_home_is_delisted_unless_it_has_a_shadow(units, home):
    alone = owners(units, {OTHER: Placement(OTHER, "a", ("b",), 7)}, home).switch_to("b", "hot")
    assert alone[-1] == PlacementChange(OTHER, "b", (), 7, 8, delist=True, why="hot")
    shadowed = owners(units, {OTHER: Placement(OTHER, "a", ("c",), 7)}, home).switch_to("b", "hot")
    assert shadowed[-1] == PlacementChange(OTHER, "b", ("c",), 7, 8, why="hot")


@pytest.mark.parametrize(
    ("units", "key", "touched"),
    [
        ((OTHER,), OTHER, True),
        ((OTHER,), slot_unit(1), True),
        ((OTHER,), KEYS[1][1], False),
        ((OTHER,), MOVED, False),
        ((MOVED,), MATE, True),
        ((MOVED,), MOVED, True),
        ((MOVED,), OTHER, False),
    ],
)
def test_a_publication_touches_a_move_by_its_units_their_slots_and_keys_of_moved_slots(units, key, touched):
    assert owners(units, {}).are_touched_by(change(key)) is touched


def test_a_key_that_was_listed_or_delisted_since_the_move_began_is_noticed():
    listed = {MATE: Placement(MATE, "a", (), 4)}
    assert owners((MOVED,), listed).have_other_exceptions()
    assert not owners((MOVED,), listed, exceptions=frozenset({MATE})).have_other_exceptions()
    assert not owners((MOVED, MATE), listed).have_other_exceptions()
    assert owners((MOVED,), {}, exceptions=frozenset({MATE})).have_other_exceptions()
