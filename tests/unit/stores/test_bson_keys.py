"""Keys as BSON values and as text."""

from __future__ import annotations

from uuid import UUID

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType, canonical_key
from foreshard.stores.bson_codec import RAW, key_filter, key_text, key_text_of, key_value

ONE_UUID = UUID("12345678-1234-5678-1234-567812345678")

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
KEYS = st.one_of(
    st.tuples(st.just(KeyType.STRING), TEXTS),
    st.tuples(st.just(KeyType.INT), st.integers(-(2**63), 2**63 - 1).map(str)),
    st.tuples(st.just(KeyType.OBJECT_ID), st.binary(min_size=12, max_size=12).map(bytes.hex)),
    st.tuples(st.just(KeyType.UUID), st.uuids().map(str)),
)  # fmt: skip


@given(KEYS)
def test_a_canonical_key_becomes_a_bson_value_and_comes_back(typed: tuple[KeyType, str]) -> None:
    key_type, key = typed
    stored = bson.decode(bson.encode({"k": key_value(key, key_type)}), RAW)
    assert key_text(stored["k"], key_type) == key == canonical_key(key, key_type)


@pytest.mark.parametrize("value", [5, Int64(5), 5.0, Decimal128("5"), Decimal128("5.00")])
def test_every_whole_number_is_an_integer_key(value: object) -> None:
    assert key_text(value, KeyType.INT) == "5"


@pytest.mark.parametrize(
    ("key_type", "value"),
    [
        (KeyType.STRING, 5), (KeyType.STRING, None), (KeyType.STRING, ["a"]), (KeyType.STRING, Code("a")),
        (KeyType.INT, "5"), (KeyType.INT, 5.5), (KeyType.INT, float("nan")), (KeyType.INT, float("inf")), (KeyType.INT, True),
        (KeyType.INT, [5]), (KeyType.INT, 2.0**63), (KeyType.INT, Decimal128("1E+300")), (KeyType.INT, Decimal128("NaN")),
        (KeyType.OBJECT_ID, "a" * 24), (KeyType.OBJECT_ID, b"a" * 12), (KeyType.UUID, str(ONE_UUID)),
        (KeyType.UUID, Binary(ONE_UUID.bytes, 3)), (KeyType.UUID, ONE_UUID.bytes), (KeyType.UUID, None),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_no_key(key_type: KeyType, value: object) -> None:
    assert key_text(value, key_type) is None


def test_a_uuid_is_a_key_in_either_of_its_python_forms() -> None:
    uuid = UUID("0d54a85f-02c9-4b59-a5c0-a4a6bbd4be26")
    assert key_text(uuid, KeyType.UUID) == key_text(Binary(uuid.bytes, 4), KeyType.UUID) == str(uuid)


def test_filters_carry_typed_values_and_documents_give_text() -> None:
    orders = ShardedCollection("shop", "orders", "customer.id", key_type=KeyType.OBJECT_ID)
    key = ObjectId("64b000000000000000000001")
    assert key_filter(orders, [str(key)]) == {"customer.id": key}
    assert key_filter(orders, [str(key), "64b000000000000000000002"])["customer.id"]["$in"][0] == key
    assert key_text_of({"customer": {"id": key}}, orders) == str(key)
    assert key_text_of({"customer": [{"id": key}]}, orders) is None
