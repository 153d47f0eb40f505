"""A log's records as typed columns, batch by batch; several processes share the batches of a large log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from foreshard.lab._forked import each_forked
from foreshard.model import BoolArray, FloatArray, IntArray, RequestKind
from foreshard.observe.clean import clean

EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
UNKNOWN_WEIGHT = 1.0
"""What an access of a request type costs that the settings don't name, where the log has no cost; it counts as a write."""

_MANTISSA = np.uint64(11)
"""So many bits of a hash are left out, for the rest to be a whole number as a float."""


@dataclass(frozen=True, slots=True)
class Coded:
    """A column of few different values: where each row's stands among ``names`` (−1: it has none)."""

    codes: IntArray
    names: tuple[str, ...]

    @classmethod
    def of(cls, column: pd.Series[str]) -> Coded:
        """From text, with missing values."""
        codes, names = pd.factorize(column, use_na_sentinel=True)
        return cls(codes.astype(np.int64), tuple(str(name) for name in names))


@dataclass(frozen=True, slots=True)
class LogPart:
    """The N records of one batch that can be counted, ``left_out``: reason → others, and which request ``types`` it names.

    ``time`` is in nanoseconds since 1970. ``user`` and ``session`` stand for names (NaN: none): the same number for the same
    one, and another for any other (but for one pair in 2⁵³).
    """

    time: IntArray
    key: Coded
    place: Coded
    user: FloatArray
    session: FloatArray
    cost: FloatArray
    read: BoolArray
    left_out: Counter[str]
    types: frozenset[str]


def gather(
    batches: Iterable[pd.DataFrame], kinds: Mapping[str, RequestKind], weights: Mapping[str, float], processes: int = 1
) -> list[LogPart]:
    """Every batch's part, in their order; each of the ``processes`` reads all of them and types its own."""
    own = [partial(_own, batches, kinds, weights, number, processes) for number in range(processes)]
    shares = [iter(share) for share in each_forked(own, processes)]
    return list(_in_turn(shares))


def _own(
    batches: Iterable[pd.DataFrame], kinds: Mapping[str, RequestKind], weights: Mapping[str, float], number: int, of: int
) -> list[LogPart]:
    return [typed(frame, kinds, weights) for frame in islice(batches, number, None, of)]


def _in_turn(shares: list[Iterator[LogPart]]) -> Iterator[LogPart]:
    """One of each, again and again, until one has no more."""
    while True:
        for share in shares:
            if (part := next(share, None)) is None:
                return
            yield part


def typed(frame: pd.DataFrame, kinds: Mapping[str, RequestKind], weights: Mapping[str, float]) -> LogPart:
    """Clean one batch; every request type is taken, and an access without a cost costs what ``weights`` say."""
    types = frozenset(str(name) for name in frame["request_type"].dropna().unique())
    until = datetime.now(UTC) + timedelta(hours=1)
    cleaned = clean(frame.reset_index(drop=True), EARLIEST, until, types)
    found = cleaned.accepted
    code, names = pd.factorize(found["request_type"])
    weight = np.array([weights.get(str(name), UNKNOWN_WEIGHT) for name in names], np.float64)[code]
    is_read = np.array([kinds.get(str(name)) is RequestKind.READ for name in names], np.bool_)[code]
    given = found["cost"].to_numpy(np.float64)
    return LogPart(
        time=found["timestamp"].dt.tz_convert("UTC").to_numpy(dtype="datetime64[ns]").astype(np.int64),
        key=Coded.of(found["partitionable_key"]),
        place=Coded.of(found["location"]),
        user=_numbered(found["user_id"]),
        session=_numbered(found["session_id"]),
        cost=np.where(np.isfinite(given), given, weight),
        read=is_read,
        left_out=Counter(cleaned.quarantined["reason"].astype(str).tolist()),
        types=types,
    )


def _numbered(column: pd.Series[Any]) -> FloatArray:
    """A number for each name, NaN for none."""
    given = column.notna().to_numpy()
    numbers = np.full(len(column), np.nan)
    if given.any():
        numbers[given] = pd.util.hash_array(column.to_numpy(dtype=object)[given], categorize=False) >> _MANTISSA
    return numbers
