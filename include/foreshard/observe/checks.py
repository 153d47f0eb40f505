"""Which records are valid for certain, as lazy expressions that any engine runs.

The others are looked at one by one (:mod:`foreshard.observe.clean`), which decides, and gives each bad record its reason. So
the expressions have to be right only about what they accept. They know the usual forms of texts.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import datetime

import narwhals as nw

from foreshard.model.key_space import KeyType
from foreshard.observe.clean import MAXIMUM_KEY_BYTES
from foreshard.observe.engines import NAME

_NAME = r"^[!-~\p{L}\p{N}][^\x00]*\z"
"""A text with a first character that is visible, and without a NUL."""
_KEYS = {
    KeyType.STRING: _NAME,
    KeyType.INT: r"^(?:0|-?[1-9][0-9]{0,17})\z",
    KeyType.OBJECT_ID: r"^[0-9a-f]{24}\z",
    KeyType.UUID: r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\z",
}
"""The forms of keys that are canonical for certain."""
_LONGEST = MAXIMUM_KEY_BYTES // 4
"""A character takes at most 4 bytes in UTF-8."""
OPTIONAL = ("user_id", "location", "session_id")


def certain_numbers(since: datetime, until: datetime) -> nw.Expr:
    """Return which records of [since, until) have a valid time and cost for certain."""
    time, cost = nw.col("timestamp"), nw.col("cost")
    return _all(
        (time >= nw.lit(since)) & (time < nw.lit(until)),
        cost.is_null() | ((cost >= 0.0) & (cost <= sys.float_info.max)),
    )


def certain_texts(column: str, request_types: Collection[str], key_type: KeyType) -> nw.Expr:
    """Return which texts (``NAME``) are valid values of a column for certain."""
    text = nw.col(NAME)
    if column == "request_type":
        return _all(text.is_in(sorted(request_types)))
    if column == "partitionable_key":
        return _all(text.str.contains(_KEYS[key_type]) & (text.str.len_chars() <= _LONGEST))
    return _all(text.str.contains(_NAME))


def _all(*parts: nw.Expr) -> nw.Expr:
    return nw.all_horizontal(*(part.fill_null(value=False) for part in parts), ignore_nulls=False)
