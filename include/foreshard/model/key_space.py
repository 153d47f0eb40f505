"""The hash of partitionable keys, the slots that divide it, and the types that keys may have. Pure.

The hash is MongoDB's own hashed-index hash, so a server, a client and a sharded cluster agree about a key's slot:
``$toHashedIndexKey`` and ``{key: "hashed"}`` indexes return it (MongoDB manual, "Hashed Indexes"). It is the first 8 bytes
(little-endian, signed) of the MD5 of a seed (int32 0), the canonical type (int32), and the BSON value. MD5 spreads keys here;
it protects nothing.

A slot is one of ``KeySpace.slots`` equal ranges of the hash, in ascending order. These are the initial chunks of a collection
that is sharded by a hashed key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from struct import Struct
from uuid import UUID

try:
    from _md5 import md5  # type: ignore[import-not-found,unused-ignore]  # without OpenSSL's set-up it takes half the time
except ImportError:  # pragma: no cover
    from hashlib import md5

DEFAULT_SLOTS = 4_096
MOST_SLOTS = 65_536
"""A slot's number is then the upper 16 bits of the hash."""

SLOT_MARK = "\x1f"
"""A slot's name as a unit begins with this control character (unit separator). A key may not begin with it."""

INT64 = range(-(2**63), 2**63)
DECIMAL = re.compile(r"0|-?[1-9][0-9]*")
HEX_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
HYPHENATED_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
HEAD, LENGTH, LONG = Struct("<ii"), Struct("<i"), Struct("<q")
STRING_HEADS = tuple(HEAD.pack(0, 15) + LENGTH.pack(length + 1) for length in range(256))


class KeyType(StrEnum):
    """The BSON type of a collection's keys. Floating-point keys are impossible: their hash drops the fraction."""

    STRING = "string"
    INT = "int"
    OBJECT_ID = "objectid"
    UUID = "uuid"


class UnusableKey(ValueError):
    """A text does not denote a key of the wanted type. The message continues a sentence that names the key."""


def string_data(key: str) -> bytes:
    """Return the hashed bytes of a string key."""
    text = key.encode("utf-8", "surrogatepass")
    size = len(text)
    head = STRING_HEADS[size] if size < 256 else HEAD.pack(0, 15) + LENGTH.pack(size + 1)
    return head + text + b"\0"


def int_data(key: str) -> bytes:
    """Return the hashed bytes of an integer key. All of MongoDB's numbers are hashed as 64-bit integers."""
    return HEAD.pack(0, 10) + LONG.pack(int(key))


def object_id_data(key: str) -> bytes:
    """Return the hashed bytes of an ObjectId key."""
    return HEAD.pack(0, 35) + bytes.fromhex(key)


def uuid_data(key: str) -> bytes:
    """Return the hashed bytes of a UUID key (binary subtype 4)."""
    return HEAD.pack(0, 30) + LENGTH.pack(16) + b"\x04" + UUID(key).bytes


DATA: dict[KeyType, Callable[[str], bytes]] = {
    KeyType.STRING: string_data,
    KeyType.INT: int_data,
    KeyType.OBJECT_ID: object_id_data,
    KeyType.UUID: uuid_data,
}


def canonical_key(key: str, key_type: KeyType) -> str:
    """Return the one text that stands for this key in logs, tables and URLs. Raise :class:`UnusableKey`.

    Strings stay as they are. Integers are decimal without leading zeros. ObjectIds and UUIDs are in lower case.
    """
    if key_type is KeyType.STRING:
        return key
    if key_type is KeyType.INT:
        if not DECIMAL.fullmatch(key) or int(key) not in INT64:
            raise UnusableKey("is not a 64-bit integer in decimal digits")
        return key
    if key_type is KeyType.OBJECT_ID:
        if not HEX_OBJECT_ID.fullmatch(key):
            raise UnusableKey("is not an ObjectId of 24 hexadecimal digits")
        return key.lower()
    if not HYPHENATED_UUID.fullmatch(key):
        raise UnusableKey("is not a UUID with hyphens")
    return key.lower()


@dataclass(frozen=True, slots=True)
class KeySpace:
    """The type of the keys and the number of slots, a power of two. ``slot_of(key)`` takes a canonical key."""

    key_type: KeyType = KeyType.STRING
    slots: int = DEFAULT_SLOTS
    _data: Callable[[str], bytes] = field(init=False, repr=False, compare=False)
    _shift: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the number of slots. Raise ``ValueError``."""
        if not 2 <= self.slots <= MOST_SLOTS or self.slots & (self.slots - 1):
            raise ValueError(f"{self.slots} slots: choose a power of two from 2 to {MOST_SLOTS}")
        object.__setattr__(self, "_data", DATA[KeyType(self.key_type)])
        object.__setattr__(self, "_shift", 17 - self.slots.bit_length())

    def hash_of(self, key: str) -> int:
        """Return the signed 64-bit hash of a key, as ``$toHashedIndexKey`` does."""
        return int.from_bytes(md5(self._data(key)).digest()[:8], "little", signed=True)  # noqa: S324

    def slot_of(self, key: str) -> int:
        """Return the slot of a key: the upper bits of its hash, counted from the lowest hash."""
        digest: bytes = md5(self._data(key)).digest()  # noqa: S324
        return ((digest[7] << 8 | digest[6]) ^ 0x8000) >> self._shift

    def finder(self) -> Callable[[bytes], int]:
        """Return the function from a key's UTF-8 bytes to its slot. It raises :class:`UnusableKey` for another type's key."""
        shift, key_type = self._shift, self.key_type
        if key_type is KeyType.STRING:
            return _string_finder(shift)

        def slot_of(data: bytes) -> int:
            key = data.decode()
            if canonical_key(key, key_type) != key:
                raise UnusableKey("is not in lower case")
            return self.slot_of(key)

        return slot_of

    def slots_of(self, keys: Iterable[str]) -> list[int]:
        """Return the slot of each key."""
        return list(map(self.slot_of, keys))

    def bounds(self, slot: int) -> tuple[int, int]:
        """Return the slot's range of hashes [first, end). The last slot ends at 2⁶³, above the highest hash."""
        width = 2**64 // self.slots
        first = slot * width - 2**63
        return first, first + width


def _string_finder(shift: int) -> Callable[[bytes], int]:
    """Return the function from a string key's bytes to its slot, as fast as Python can do it."""
    heads, hashed = STRING_HEADS, md5

    def slot_of(data: bytes) -> int:
        size = len(data)
        head = heads[size] if size < 256 else HEAD.pack(0, 15) + LENGTH.pack(size + 1)
        digest: bytes = hashed(head + data + b"\0").digest()
        return ((digest[7] << 8 | digest[6]) ^ 0x8000) >> shift

    return slot_of


def slot_unit(slot: int) -> str:
    """Return the name of a slot as a unit. Listed keys are units under their own names."""
    return f"{SLOT_MARK}{slot}"


def slot_number(unit: str) -> int | None:
    """Return the slot that a unit is; None for a key."""
    return int(unit[1:]) if unit.startswith(SLOT_MARK) else None


def slots_among(units: Iterable[str]) -> frozenset[int]:
    """Return the slots among units. Keys are left out."""
    return frozenset(slot for slot in map(slot_number, units) if slot is not None)


def unit_label(unit: str) -> str:
    """Return a unit for people: ``slot 811``, or the key in quotes."""
    slot = slot_number(unit)
    return repr(unit) if slot is None else f"slot {slot}"


def units_label(units: Iterable[str]) -> str:
    """Return a set of units for people: the only one by name, or their numbers: ``12 slots and 3 keys``."""
    names = list(units)
    if len(names) == 1:
        return unit_label(names[0])
    slots = sum(slot_number(unit) is not None for unit in names)
    keys = len(names) - slots
    counted = [f"{count} {kind}{'s' if count > 1 else ''}" for count, kind in ((slots, "slot"), (keys, "key")) if count]
    return " and ".join(counted) or "nothing"
