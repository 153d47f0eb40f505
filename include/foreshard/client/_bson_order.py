"""MongoDB's order of values of any type, so that results sorted by several partitions can be merged as one. Pure.

Source: MongoDB manual, "Comparison/Sort Order" (MinKey, null, numbers, strings, objects, arrays, binary data, ObjectId,
booleans, dates, timestamps, regular expressions, code, MaxKey). Strings compare by their UTF-8 bytes; a collation's
comparison key is no valid UTF-8, its bytes are kept by ``surrogateescape``. Not told apart: null and an empty array, whose
sort key (undefined) pymongo reads as None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import total_ordering
from typing import Any
from uuid import UUID

from bson import Binary, Code, DatetimeMS, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@total_ordering
class Reversed:
    """A rank that sorts the other way round (a descending sort key)."""

    __slots__ = ("rank",)

    def __init__(self, rank: Any) -> None:
        self.rank = rank

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and bool(self.rank == other.rank)

    def __lt__(self, other: Reversed) -> bool:
        return bool(other.rank < self.rank)

    def __hash__(self) -> int:
        return hash(self.rank)


def rank_of(value: Any) -> tuple[Any, ...]:
    """A tuple that compares as MongoDB compares ``value`` (binary collation); raise ``TypeError`` for an unknown type."""
    for kinds, ranked in _RANKS:
        if isinstance(value, kinds):
            return ranked(value)
    if value is None:
        return (5,)
    raise TypeError(f"no sort order for {type(value).__name__}")


def sort_rank(values: Sequence[Any], directions: Sequence[int]) -> tuple[Any, ...]:
    """The rank of a compound sort key; a direction is 1 (ascending) or -1."""
    return tuple(
        rank_of(value) if direction > 0 else Reversed(rank_of(value))
        for value, direction in zip(values, directions, strict=True)
    )


def _number(value: Any) -> tuple[Any, ...]:
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    is_nan = number.is_nan() if isinstance(number, Decimal) else number != number
    return (10, 0, 0) if is_nan else (10, 1, number)  # NaN stands before every number


def _object(value: Mapping[str, Any]) -> tuple[Any, ...]:
    fields = []
    for name, inner in value.items():
        rank = rank_of(inner)
        fields.append((rank[0], name, rank))
    return (20, tuple(fields))


def _array(value: Sequence[Any]) -> tuple[Any, ...]:
    return (25, tuple(rank_of(inner) for inner in value))


def _binary(value: Any) -> tuple[Any, ...]:
    if isinstance(value, UUID):
        value = Binary.from_uuid(value)
    return (30, len(value), getattr(value, "subtype", 0), bytes(value))


def _date(value: Any) -> tuple[Any, ...]:
    if isinstance(value, DatetimeMS):
        return (45, int(value))
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (45, (aware - EPOCH) // timedelta(milliseconds=1))


def _regex(value: Any) -> tuple[Any, ...]:
    found = Regex.from_native(value) if isinstance(value, re.Pattern) else value
    letters = zip("ilmsux", (re.I, re.L, re.M, re.S, re.U, re.X), strict=True)
    return (55, found.pattern, "".join(letter for letter, flag in letters if found.flags & flag))


_RANKS: tuple[tuple[Any, Callable[[Any], tuple[Any, ...]]], ...] = (
    (MinKey, lambda _value: (0,)),
    (MaxKey, lambda _value: (127,)),
    (bool, lambda value: (40, value)),
    ((int, float, Decimal128), _number),
    (Code, lambda value: (60, str(value))),
    (str, lambda value: (15, value.encode("utf-8", "surrogateescape"))),
    (ObjectId, lambda value: (35, value.binary)),
    (Mapping, _object),
    ((list, tuple), _array),
    ((bytes, Binary, UUID), _binary),
    ((datetime, DatetimeMS), _date),
    (Timestamp, lambda value: (50, value.time, value.inc)),
    ((re.Pattern, Regex), _regex),
)
"""Subclasses before their bases: bool before int, Code before str."""
