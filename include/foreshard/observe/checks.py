"""Which records are valid for certain, as one lazy expression that any engine runs.

The others are looked at one by one (:mod:`foreshard.observe.clean`), which decides, and gives each bad record its reason. So
the expression has to be right only about what it accepts. It knows the usual forms of texts.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import datetime

import narwhals as nw

from foreshard.model.key_space import KeyType
from foreshard.observe.clean import MAXIMUM_KEY_BYTES

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


def certainly_valid(since: datetime, until: datetime, request_types: Collection[str], key_type: KeyType) -> nw.Expr:
    """Return which records of [since, until) are valid for certain. They have the columns and types of ``ACCEPTED``."""
    time, key, cost = nw.col("timestamp"), nw.col("partitionable_key"), nw.col("cost")
    valid = [
        (time >= nw.lit(since)) & (time < nw.lit(until)),
        key.str.contains(_KEYS[key_type]) & (key.str.len_chars() <= _LONGEST),
        nw.col("request_type").is_in(sorted(request_types)),
        cost.is_null() | ((cost >= 0.0) & (cost <= sys.float_info.max)),
        *(nw.col(name).is_null() | nw.col(name).str.contains(_NAME) for name in OPTIONAL),
    ]
    return nw.all_horizontal(*(part.fill_null(value=False) for part in valid), ignore_nulls=False)
