"""Which texts can be keys."""

from __future__ import annotations

import pytest

from foreshard.model.key_space import KeyType, slot_unit
from foreshard.routing.keys import key_problem


@pytest.mark.parametrize(
    ("key", "key_type", "phrase"),
    [
        (slot_unit(5), KeyType.STRING, "begins with the control character U+001F"),
        ("\x1f", KeyType.STRING, "begins with the control character U+001F"),
        ("05", KeyType.INT, "is not a 64-bit integer in decimal digits"),
        (str(2**63), KeyType.INT, "is not a 64-bit integer"),
        ("12", KeyType.OBJECT_ID, "is not an ObjectId of 24 hexadecimal digits"),
        ("12", KeyType.UUID, "is not a UUID with hyphens"),
        ("", KeyType.INT, "is empty"),
    ],
)
def test_a_text_that_is_no_key_of_its_type_has_a_problem(key: str, key_type: KeyType, phrase: str) -> None:
    problem = key_problem(key, key_type)
    assert problem is not None
    assert phrase in problem.phrase


@pytest.mark.parametrize(
    ("key", "key_type"),
    [("a\x1fb", KeyType.STRING), ("-5", KeyType.INT), ("64B00000000000000000000A", KeyType.OBJECT_ID)],
)
def test_a_key_of_its_type_has_none(key: str, key_type: KeyType) -> None:
    assert key_problem(key, key_type) is None
