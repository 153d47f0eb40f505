"""The hash of keys is the server's own, for every type that a key may have, and slots divide it as the server compares it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from bson import Int64, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.model.key_space import KeySpace, KeyType
from foreshard.stack.mongod import Mongod

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=400)
INTS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    TEXTS.map(lambda text: (KeyType.STRING, text, text)),
    INTS.map(lambda number: (KeyType.INT, str(number), Int64(number))),
    st.integers(-(2**31), 2**31 - 1).map(lambda number: (KeyType.INT, str(number), number)),
    st.binary(min_size=12, max_size=12).map(lambda raw: (KeyType.OBJECT_ID, raw.hex(), ObjectId(raw))),
    st.uuids().map(lambda one: (KeyType.UUID, str(one), one)),
)


@pytest.fixture(scope="module")
def hashes_on_server(mongods: tuple[Mongod, ...]) -> Any:
    import pymongo

    client: Any = pymongo.MongoClient(mongods[0].uri, uuidRepresentation="standard")

    def hashes(values: list[Any]) -> list[int]:
        found = client.test.aggregate(
            [{"$documents": [{"k": value} for value in values]}, {"$project": {"h": {"$toHashedIndexKey": "$k"}}}]
        )
        return [document["h"] for document in found]

    yield hashes
    client.close()


@settings(max_examples=60, deadline=None)
@given(cases=st.lists(VALUES, min_size=1, max_size=50))
def test_the_hash_of_a_key_is_the_hash_of_the_server(hashes_on_server: Any, cases: list[tuple[KeyType, str, Any]]) -> None:
    ours = [KeySpace(key_type).hash_of(text) for key_type, text, _ in cases]

    assert ours == hashes_on_server([value for *_, value in cases])


def test_a_whole_double_has_the_hash_of_its_integer_and_a_fraction_is_dropped(hashes_on_server: Any) -> None:
    whole, fraction = hashes_on_server([42.0, 42.7])

    assert whole == fraction == KeySpace(KeyType.INT).hash_of("42")


def test_a_uuid_is_hashed_with_its_subtype(hashes_on_server: Any) -> None:
    one = UUID("12345678-1234-5678-1234-567812345678")

    assert hashes_on_server([one]) == [KeySpace(KeyType.UUID).hash_of(str(one))]
