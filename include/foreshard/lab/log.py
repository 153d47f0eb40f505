"""A log prepared for replay: costs by key and hour, their locations, and co-access by hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.lab._gather import CodedColumn, LogPart, gather
from foreshard.lab._noise import variance_per_cost
from foreshard.lab.within_hour import StepRows, rows_by_step
from foreshard.model import HOURS_PER_DAY, ONE_HOUR, BoolArray, FloatArray, IntArray, RequestKind
from foreshard.observe.pairs.co_access import CoAccessRules, co_access

MAXIMUM_CELLS = 400_000_000
"""The largest number of keys × hours held in memory (1.6 GB)."""

RECORDS_AT_ONCE = 2_000_000
"""The approximate number of records whose co-access is counted at once."""

_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True)
class Ranges:
    """Rows sorted by hour: those of hour ``t`` are ``start[t]:start[t + 1]``."""

    start: IntArray

    def of(self, first: int, last: int) -> slice:
        """Return the rows of the hours [first, last)."""
        return slice(int(self.start[max(first, 0)]), int(self.start[max(last, 0)]))


@dataclass(frozen=True)
class ReplayLog:
    """K keys (sorted) × T contiguous hours from ``first`` on; costs in cost units per hour.

    ``visit_*``: one row per hour, key and location (−1: unknown), with its cost, the cost of reads, and the number of writes.
    ``pair_*``: one row per hour and pair of co-accessed keys. ``left_out``: reason → number of invalid records.
    ``steps``: costs within the hour; None if the log has only hours.
    """

    first: datetime
    keys: tuple[str, ...]
    locations: tuple[str, ...]
    costs: npt.NDArray[np.float32]
    visits: Ranges
    visit_key: IntArray
    visit_place: IntArray
    visit_cost: FloatArray
    visit_reads: FloatArray
    visit_writes: FloatArray
    pairs: Ranges
    pair_a: IntArray
    pair_b: IntArray
    pair_weight: FloatArray
    records: int
    left_out: Mapping[str, int]
    unknown_types: tuple[str, ...] = ()
    steps: StepRows | None = None

    @property
    def hours(self) -> int:
        """The number of hours, T."""
        return int(self.costs.shape[1])

    @property
    def steps_per_hour(self) -> int:
        """The number of steps in an hour; 1 if the log has only hours."""
        return self.steps.per_hour if self.steps else 1

    @cached_property
    def noise(self) -> float:
        """The variance of hourly costs that chance causes, per unit of cost."""
        return variance_per_cost(self.costs)

    def step_rows(self, first: int, last: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Return rows (key, steps after ``first``, cost) of the steps [first, last), at most an hour."""
        if self.steps:
            return self.steps.rows(first, last)
        keys = np.arange(len(self.keys))
        return keys, np.zeros(len(keys), np.int64), self.costs[:, first].astype(np.float64)

    def hour(self, index: int) -> datetime:
        """Return the start of the hour ``index``."""
        return self.first + index * ONE_HOUR

    @cached_property
    def by_day(self) -> tuple[FloatArray, BoolArray]:
        """For each key at the start of each day: its writes so far, and whether it has appeared, shape (days, K) each.

        Days have 24 hours from ``first`` on, with one day after the last.
        """
        days, keys = self.hours // HOURS_PER_DAY + 2, len(self.keys)
        writes, seen = np.zeros((days, keys)), np.zeros((days, keys), bool)
        for day in range(1, days):
            rows = self.visits.of(HOURS_PER_DAY * (day - 1), min(HOURS_PER_DAY * day, self.hours))
            writes[day] = writes[day - 1] + np.bincount(self.visit_key[rows], self.visit_writes[rows], minlength=keys)
            seen[day] = seen[day - 1] | (np.bincount(self.visit_key[rows], minlength=keys) > 0)
        return writes, seen


@dataclass(frozen=True)
class _Visits:
    """Sums per hour, key and place, in order."""

    hour: IntArray
    key: IntArray
    place: IntArray
    cost: FloatArray
    reads: FloatArray
    writes: FloatArray


@dataclass(frozen=True)
class _Pairs:
    """Pairs of keys, sorted by hour."""

    hour: IntArray
    a: IntArray
    b: IntArray
    weight: FloatArray


def gather_log(
    batches: Iterable[pd.DataFrame],
    kinds: Mapping[str, RequestKind],
    weights: Mapping[str, float],
    rules: CoAccessRules,
    label: str,
    days: int | None = None,
    processes: int = 1,
) -> ReplayLog:
    """Count a log's records, which may be in any order. ``days``: keep only the last days.

    Records without a key or a valid time, or with an invalid or negative cost, are left out and counted. Users, sessions and
    locations may be missing. With several ``processes``, each iterates over all ``batches``. Raise
    :class:`foreshard.errors.CorruptLog` if no record is valid.
    """
    parts = gather(batches, kinds, weights, processes)
    left_out: Counter[str] = sum((part.left_out for part in parts), Counter())
    if not sum(len(part.time) for part in parts):
        found = ", ".join(f"{reason} {count:,}" for reason, count in sorted(left_out.items())) or "it is empty"
        raise CorruptLog(label, f"it has no valid record ({found})")
    unknown = set[str]().union(*(part.types for part in parts)) - set(weights)
    return _counted(parts, rules, label, days, left_out, tuple(sorted(unknown)))


def _counted(
    parts: Sequence[LogPart],
    rules: CoAccessRules,
    label: str,
    days: int | None,
    left_out: Mapping[str, int],
    unknown: tuple[str, ...],
) -> ReplayLog:
    time, cost, read = (np.concatenate([getattr(part, name) for part in parts]) for name in ("time", "cost", "read"))
    user, session = (np.concatenate([getattr(part, name) for part in parts]) for name in ("user", "session"))
    hour = time // _HOUR_NS
    last = int(hour.max())
    since = int(hour.min()) if days is None else max(int(hour.min()), last + 1 - 24 * days)
    kept = hour >= since
    key, names = _recoded([part.key for part in parts], kept)
    place, place_names = _recoded([part.place for part in parts], kept)
    span = last + 1 - since
    if span * len(names) > MAXIMUM_CELLS:
        raise CorruptLog(label, f"{len(names):,} keys × {span:,} hours do not fit in memory; replay fewer --days")
    hour, cost, read = hour[kept] - since, cost[kept], read[kept]
    frame = pd.DataFrame(
        {
            "timestamp": pd.Series(time[kept].view("datetime64[ns]")).dt.tz_localize("UTC"),
            "partitionable_key": key,
            "user_id": pd.array(user[kept], "Int64"),
            "session_id": pd.array(session[kept], "Int64"),
        }
    )
    visits = _visits(hour, key, place, cost, read, len(names), len(place_names))
    costs = np.zeros((len(names), span), np.float32)
    np.add.at(costs, (visits.key, visits.hour), visits.cost)
    found = _pairs_by_hour(frame, rules, since, span)
    return ReplayLog(
        first=datetime.fromtimestamp(since * 3600, UTC),
        keys=names,
        locations=place_names,
        costs=costs,
        visits=Ranges(np.searchsorted(visits.hour, np.arange(span + 1)).astype(np.int64)),
        visit_key=visits.key,
        visit_place=visits.place,
        visit_cost=visits.cost,
        visit_reads=visits.reads,
        visit_writes=visits.writes,
        pairs=Ranges(np.searchsorted(found.hour, np.arange(span + 1)).astype(np.int64)),
        pair_a=found.a,
        pair_b=found.b,
        pair_weight=found.weight,
        records=int(kept.sum()),
        left_out=dict(left_out),
        unknown_types=unknown,
        steps=rows_by_step(time[kept], key, cost, since, span, len(names)),
    )


def _recoded(columns: Sequence[CodedColumn], kept: BoolArray) -> tuple[IntArray, tuple[str, ...]]:
    """Return the ``kept`` rows of ``columns`` as indices (−1: missing) into the sorted names."""
    numbers: dict[str, int] = {}
    for column in columns:
        for name in column.names:
            numbers.setdefault(name, len(numbers))
    tables = (np.array([*(numbers[name] for name in column.names), -1], np.int64) for column in columns)
    codes = np.concatenate([table[column.codes] for table, column in zip(tables, columns, strict=True)])[kept]
    used = np.unique(codes[codes >= 0])
    names = np.fromiter(numbers, dtype=object, count=len(numbers))[used]
    order = np.argsort(names)
    place = np.full(len(numbers) + 1, -1, np.int64)
    place[used[order]] = np.arange(len(used))
    return place[codes], tuple(names[order].tolist())


def _visits(
    hour: IntArray,
    key: IntArray,
    place: IntArray,
    cost: FloatArray,
    read: BoolArray,
    keys: int,
    places: int,
) -> _Visits:
    """Records summed per hour, key and location, in order."""
    code = (hour * keys + key) * (places + 1) + place + 1
    distinct, at = np.unique(code, return_inverse=True)
    rest, found = np.divmod(distinct, places + 1)
    sums = (
        np.bincount(at, weights=values, minlength=len(distinct)).astype(np.float64)
        for values in (cost, cost * read, (~read).astype(np.float64))
    )
    return _Visits(rest // keys, rest % keys, found - 1, *sums)


def _pairs_by_hour(frame: pd.DataFrame, rules: CoAccessRules, since: int, span: int) -> _Pairs:
    """Return pairs of all hours, counted a few hours at a time (with the hour before), because many small sorts are faster."""
    times = frame["timestamp"]
    frame = frame if times.is_monotonic_increasing else frame.sort_values("timestamp", kind="stable")
    moments = frame["timestamp"].to_numpy(dtype="datetime64[ns]").astype(np.int64)
    step = max(1, span * RECORDS_AT_ONCE // len(frame))
    begins = since + np.arange(0, span, step)
    first, last = (np.searchsorted(moments, hours * _HOUR_NS) for hours in (begins - 1, begins + step))
    hours = zip(first.tolist(), last.tolist(), begins.tolist(), strict=True)
    found = pd.concat([_co_access(frame.iloc[start:end], rules, hour) for start, end, hour in hours])
    return _Pairs(
        found["hour"].to_numpy(dtype="datetime64[ns]").astype(np.int64) // _HOUR_NS - since,
        found["key_a"].to_numpy(np.int64),
        found["key_b"].to_numpy(np.int64),
        found["weight"].to_numpy(np.float64),
    )


def _co_access(frame: pd.DataFrame, rules: CoAccessRules, hour: int) -> pd.DataFrame:
    found = co_access(frame, rules, datetime.fromtimestamp(hour * 3600, UTC))
    return found[["hour", "key_a", "key_b", "weight"]]
