"""Converts the records of a log to typed columns, batch by batch. Several processes share the batches of a large log."""

from __future__ import annotations

import sys
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
from foreshard.observe.clean import EARLIEST, clean

UNKNOWN_WEIGHT = 1.0
"""The cost of an access of an unknown request type without a cost in the log. It counts as a write."""

_MANTISSA = np.uint64(11)
"""The number of hash bits dropped, so that the rest is exact as a float."""


@dataclass(frozen=True, slots=True)
class CodedColumn:
    """A column with few distinct values: each row's index into ``names`` (−1: missing)."""

    codes: IntArray
    names: tuple[str, ...]

    @classmethod
    def of(cls, column: pd.Series[str]) -> CodedColumn:
        """From a text column, which may have missing values."""
        codes, names = pd.factorize(column, use_na_sentinel=True)
        return cls(codes.astype(np.int64), tuple(str(name) for name in names))


@dataclass(frozen=True, slots=True)
class LogPart:
    """The N valid records of one batch. ``left_out``: reason → number of other records. ``types``: its request types.

    ``time`` is in nanoseconds since 1970. ``user`` and ``session`` are hashes of the names (NaN: missing); two names share a
    hash with probability 2⁻⁵³.
    """

    time: IntArray
    key: CodedColumn
    place: CodedColumn
    user: FloatArray
    session: FloatArray
    cost: FloatArray
    read: BoolArray
    left_out: Counter[str]
    types: frozenset[str]


def gather(
    batches: Iterable[pd.DataFrame], kinds: Mapping[str, RequestKind], weights: Mapping[str, float], processes: int = 1
) -> list[LogPart]:
    """Return the parts of all batches in order. Each of the ``processes`` reads all batches and converts its own.

    A process that has used Polars reads alone: in its forks, Polars' threads are missing.
    """
    processes = 1 if "polars" in sys.modules else processes
    own = [partial(_own, batches, kinds, weights, number, processes) for number in range(processes)]
    shares = [iter(share) for share in each_forked(own, processes)]
    return list(_interleaved(shares))


def _own(
    batches: Iterable[pd.DataFrame], kinds: Mapping[str, RequestKind], weights: Mapping[str, float], number: int, of: int
) -> list[LogPart]:
    return [typed(frame, kinds, weights) for frame in islice(batches, number, None, of)]


def _interleaved(shares: list[Iterator[LogPart]]) -> Iterator[LogPart]:
    """Take one part of each share in turn until a share ends."""
    while True:
        for share in shares:
            if (part := next(share, None)) is None:
                return
            yield part


def typed(frame: pd.DataFrame, kinds: Mapping[str, RequestKind], weights: Mapping[str, float]) -> LogPart:
    """Clean one batch. Every request type is accepted; an access without a cost gets the weight of its type."""
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
        key=CodedColumn.of(found["partitionable_key"]),
        place=CodedColumn.of(found["location"]),
        user=_hashed_names(found["user_id"]),
        session=_hashed_names(found["session_id"]),
        cost=np.where(np.isfinite(given), given, weight),
        read=is_read,
        left_out=Counter(cleaned.quarantined["reason"].astype(str).tolist()),
        types=types,
    )


def _hashed_names(column: pd.Series[Any]) -> FloatArray:
    """Return a hash for each name, NaN if missing."""
    given = column.notna().to_numpy()
    numbers = np.full(len(column), np.nan)
    if given.any():
        numbers[given] = pd.util.hash_array(column.to_numpy(dtype=object)[given], categorize=False) >> _MANTISSA
    return numbers
