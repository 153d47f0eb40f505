"""The slots of keys, the texts that stand for typed keys, and the names of units."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.model.key_space import (
    DEFAULT_SLOTS,
    MOST_SLOTS,
    KeySpace,
    KeyType,
    UnusableKey,
    canonical_key,
    slot_number,
    slot_unit,
    unit_label,
    units_label,
)


def test_the_hash_of_a_known_key_is_the_one_that_mongodb_documents_its_hash_function_to_give() -> None:
    assert KeySpace().hash_of("station 4") == 434158391408597129


@given(key=st.text(max_size=300), power=st.integers(1, 16))
def test_a_key_is_in_the_slot_whose_bounds_contain_its_hash(key: str, power: int) -> None:
    space = KeySpace(slots=2**power)

    first, end = space.bounds(space.slot_of(key))

    assert first <= space.hash_of(key) < end


@pytest.mark.parametrize("slots", [2, DEFAULT_SLOTS, MOST_SLOTS])
def test_the_slots_cover_all_hashes_without_overlap(slots: int) -> None:
    space = KeySpace(slots=slots)
    bounds = [space.bounds(slot) for slot in range(slots)]

    assert bounds[0][0] == -(2**63)
    assert bounds[-1][1] == 2**63
    assert all(one[1] == other[0] for one, other in pairwise(bounds))


@pytest.mark.parametrize("slots", [0, 1, 3, 4_095, 2 * MOST_SLOTS])
def test_a_number_of_slots_that_is_no_power_of_two_is_refused(slots: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        KeySpace(slots=slots)


@pytest.mark.parametrize(
    ("key_type", "text", "canonical"),
    [
        (KeyType.STRING, "Österbro 4", "Österbro 4"),
        (KeyType.INT, "-42", "-42"),
        (KeyType.INT, "0", "0"),
        (KeyType.OBJECT_ID, "65F0C0FFEE65F0C0FFEE65F0", "65f0c0ffee65f0c0ffee65f0"),
        (KeyType.UUID, "12345678-ABCD-5678-1234-567812345678", "12345678-abcd-5678-1234-567812345678"),
    ],
)
def test_a_key_has_one_text(key_type: KeyType, text: str, canonical: str) -> None:
    assert canonical_key(text, key_type) == canonical


@pytest.mark.parametrize(
    ("key_type", "text"),
    [
        (KeyType.INT, "007"),
        (KeyType.INT, "-0"),
        (KeyType.INT, "4.0"),
        (KeyType.INT, " 4"),
        (KeyType.INT, "4\n"),
        (KeyType.INT, "४"),
        (KeyType.INT, str(2**63)),
        (KeyType.OBJECT_ID, "65f0"),
        (KeyType.UUID, "12345678abcd56781234567812345678"),
        (KeyType.UUID, "station 4"),
    ],
)
def test_a_text_that_does_not_denote_a_key_of_the_type_is_refused(key_type: KeyType, text: str) -> None:
    with pytest.raises(UnusableKey, match="is not"):
        canonical_key(text, key_type)


def test_units_are_named_for_people() -> None:
    assert slot_number(slot_unit(811)) == 811
    assert slot_number("811") is None
    assert unit_label(slot_unit(811)) == "slot 811"
    assert unit_label("station 4") == "'station 4'"
    assert units_label([slot_unit(1), slot_unit(2), "a"]) == "2 slots and 1 key"
    assert units_label(["a"]) == "'a'"
