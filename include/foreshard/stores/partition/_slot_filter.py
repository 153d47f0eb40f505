"""Filters by slot, for validators and change streams: the slot of a document's key, computed by the server.

The server's hash is ``$toHashedIndexKey``. The quotient is taken in decimals of 34 digits: doubles would round hashes near the
bounds of slots into the next one. Slots are a bitmap of 6 slots a character, in base 64.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bson import Binary, Decimal128

from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeySpace, KeyType

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/"
BITS = 6
MASKS = ["".join(digit for value, digit in enumerate(DIGITS) if value >> bit & 1) for bit in range(BITS)]
"""For each bit, the digits in which it is set."""
TYPES: dict[KeyType, Any] = {
    KeyType.STRING: "string",
    KeyType.INT: "number",
    KeyType.OBJECT_ID: "objectId",
    KeyType.UUID: "binData",
}
"""The type of the keys for ``$type`` in a query."""
FIRST_UUID, LAST_UUID = Binary(b"\0" * 16, 4), Binary(b"\xff" * 16, 4)


def bitmap(slots: Collection[int], count: int) -> str:
    """Return slots as a text of ``count`` ÷ 6 digits."""
    values = [0] * -(-count // BITS)
    for slot in slots:
        values[slot // BITS] |= 1 << slot % BITS
    return "".join(DIGITS[value] for value in values)


def slots_in(text: str) -> frozenset[int]:
    """Read a bitmap."""
    return frozenset(
        place * BITS + bit for place, digit in enumerate(text) for bit in range(BITS) if DIGITS.index(digit) >> bit & 1
    )


def outside_slots(collection: ShardedCollection, space: KeySpace, slots: Collection[int], path: str = "") -> dict[str, Any]:
    """Return a filter of the documents whose key is in none of the slots, or of no usable type.

    ``path`` is what comes before the key field: ``fullDocument.`` in a change event.
    """
    field = f"${path}{collection.key_field}"
    width = Decimal128(str(2**64 // space.slots))
    quotient = {"$floor": {"$divide": [{"$toDecimal": {"$toHashedIndexKey": field}}, width]}}
    slot = {"$add": [{"$toInt": quotient}, space.slots // 2]}
    digit = {"$substrBytes": [bitmap(slots, space.slots), {"$toInt": {"$divide": ["$$s", BITS]}}, 1]}
    mask = {"$arrayElemAt": [MASKS, {"$mod": ["$$s", BITS]}]}
    outside = {"$let": {"vars": {"s": slot}, "in": {"$lt": [{"$indexOfBytes": [mask, digit]}, 0]}}}
    return {"$expr": {"$or": [_is_no_key(collection.key_type, field), outside]}}


def inside_slots(collection: ShardedCollection, space: KeySpace, slots: Collection[int], path: str = "") -> dict[str, Any]:
    """Return a filter of the documents whose key is in one of the slots."""
    return {"$nor": [outside_slots(collection, space, slots, path)]}


def _is_no_key(key_type: KeyType, field: str) -> dict[str, Any]:
    """An expression that is true for documents without a key of the wanted type."""
    if key_type is KeyType.INT:
        return {"$cond": [{"$isNumber": field}, {"$ne": [field, {"$trunc": field}]}, True]}
    if key_type is KeyType.UUID:
        return {"$or": [{"$lt": [field, FIRST_UUID]}, {"$gt": [field, LAST_UUID]}]}
    return {"$ne": [{"$type": field}, TYPES[key_type]]}
