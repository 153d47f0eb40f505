"""A log as the lab replays it: cost per key and hour, where it came from, and which keys were used together in each hour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.load import IntArray
from foreshard.model import ONE_HOUR, FloatArray, RequestKind
from foreshard.observe.clean import clean
from foreshard.observe.co_access import CoAccessRules, co_access

EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
MAXIMUM_CELLS = 400_000_000
"""Keys × hours that are held in memory (1.6 GB)."""
UNKNOWN_WEIGHT = 1.0
"""What an access of a request type costs that the settings don't name, where the log has no cost; it counts as a write."""

RECORDS_AT_ONCE = 200_000
"""Of about so many records the common uses are counted together."""

_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True)
class Ranges:
    """Rows sorted by hour: those of hour ``t`` are ``start[t]:start[t + 1]``."""

    start: IntArray

    def of(self, first: int, last: int) -> slice:
        """The rows of the hours [first, last)."""
        return slice(int(self.start[max(first, 0)]), int(self.start[max(last, 0)]))


@dataclass(frozen=True)
class ReplayLog:
    """K keys (sorted) × T contiguous hours from ``first`` on; costs in cost units per hour.

    ``visit_*``: one row per hour, key and location (−1: unknown) with its cost and what of it were reads and writes;
    ``pair_*``: one row per hour and pair of keys used together. ``left_out``: reason → records that could not be counted.
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

    @property
    def hours(self) -> int:
        """T."""
        return int(self.costs.shape[1])

    def hour(self, index: int) -> datetime:
        """The start of the hour ``index``."""
        return self.first + index * ONE_HOUR


@dataclass
class _Gathered:
    """Typed columns of all batches, text as codes."""

    time: list[IntArray]
    key: list[IntArray]
    user: list[FloatArray]
    session: list[FloatArray]
    place: list[IntArray]
    cost: list[FloatArray]
    read: list[npt.NDArray[np.bool_]]


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


class _Codes:
    """Text → number, in order of appearance; −1 for none."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def of(self, column: pd.Series[str]) -> IntArray:
        codes, names = pd.factorize(column, use_na_sentinel=True)
        table = np.array([self.numbers.setdefault(str(name), len(self.numbers)) for name in names] + [-1], np.int64)
        return table[codes]


def gather_log(
    batches: Iterable[pd.DataFrame],
    kinds: Mapping[str, RequestKind],
    weights: Mapping[str, float],
    rules: CoAccessRules,
    label: str,
    days: int | None = None,
) -> ReplayLog:
    """Count a log's records, in any order; with ``days`` only the last so many are kept.

    Records without a key or a readable time, or with an unreadable or negative cost are left out and counted. Missing users,
    sessions and locations are allowed. Raise :class:`foreshard.errors.CorruptLog` where nothing can be counted.
    """
    columns = _Gathered([], [], [], [], [], [], [])
    codes = {name: _Codes() for name in ("key", "user", "session", "place")}
    left_out: dict[str, int] = {}
    unknown: set[str] = set()
    until = datetime.now(UTC) + timedelta(hours=1)
    for frame in batches:
        types = {str(name) for name in frame["request_type"].dropna().unique()}
        unknown |= types - set(weights)
        cleaned = clean(frame.reset_index(drop=True), EARLIEST, until, types)
        for reason, count in cleaned.quarantined["reason"].value_counts().items():
            left_out[str(reason)] = left_out.get(str(reason), 0) + int(count)
        _append(columns, codes, cleaned.accepted, kinds, weights)
    if not columns.time or not sum(map(len, columns.time)):
        found = ", ".join(f"{reason} {count:,}" for reason, count in sorted(left_out.items())) or "it holds no record"
        raise CorruptLog(label, f"none of its records can be counted ({found})")
    return _counted(columns, codes, rules, label, days, left_out, tuple(sorted(unknown)))


def _append(
    columns: _Gathered,
    codes: Mapping[str, _Codes],
    frame: pd.DataFrame,
    kinds: Mapping[str, RequestKind],
    weights: Mapping[str, float],
) -> None:
    time = frame["timestamp"].dt.tz_convert("UTC").to_numpy(dtype="datetime64[ns]").astype(np.int64)
    code, names = pd.factorize(frame["request_type"])
    weight = np.array([weights.get(str(name), UNKNOWN_WEIGHT) for name in names], np.float64)[code]
    is_read = np.array([kinds.get(str(name)) is RequestKind.READ for name in names], np.bool_)[code]
    given = frame["cost"].to_numpy(np.float64)
    columns.time.append(time)
    columns.key.append(codes["key"].of(frame["partitionable_key"]))
    columns.place.append(codes["place"].of(frame["location"]))
    for name, into in (("user", columns.user), ("session", columns.session)):
        numbers = codes[name].of(frame[f"{name}_id"]).astype(np.float64)
        into.append(np.where(numbers < 0, np.nan, numbers))
    columns.cost.append(np.where(np.isfinite(given), given, weight))
    columns.read.append(is_read)


def _counted(
    columns: _Gathered,
    codes: Mapping[str, _Codes],
    rules: CoAccessRules,
    label: str,
    days: int | None,
    left_out: dict[str, int],
    unknown: tuple[str, ...],
) -> ReplayLog:
    time, cost, read = np.concatenate(columns.time), np.concatenate(columns.cost), np.concatenate(columns.read)
    key, place = np.concatenate(columns.key), np.concatenate(columns.place)
    user, session = np.concatenate(columns.user), np.concatenate(columns.session)
    hour = time // _HOUR_NS
    last = int(hour.max())
    since = int(hour.min()) if days is None else max(int(hour.min()), last + 1 - 24 * days)
    kept = hour >= since
    order, names = _sorted_codes(codes["key"], key[kept])
    places, place_names = _sorted_codes(codes["place"], place[kept & (place >= 0)])
    span = last + 1 - since
    if span * len(names) > MAXIMUM_CELLS:
        raise CorruptLog(label, f"{len(names):,} keys × {span:,} hours are too many to hold; replay fewer --days")
    hour, key = hour[kept] - since, order[key[kept]]
    place = np.where(place[kept] >= 0, np.append(places, -1)[place[kept]], -1)
    cost, read = cost[kept], read[kept]
    frame = pd.DataFrame(
        {
            "timestamp": pd.to_datetime(time[kept], utc=True),
            "partitionable_key": key,
            "user_id": user[kept],
            "session_id": session[kept],
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
        left_out=left_out,
        unknown_types=unknown,
    )


def _sorted_codes(codes: _Codes, used: IntArray) -> tuple[IntArray, tuple[str, ...]]:
    """Where each code stands among the used names in their order, and these names."""
    numbers = np.unique(used)
    name_of = {number: name for name, number in codes.numbers.items()}
    ranked = sorted((name_of[int(number)], int(number)) for number in numbers)
    place = np.full(len(codes.numbers) + 1, -1, np.int64)
    for position, (_, number) in enumerate(ranked):
        place[number] = position
    return place, tuple(name for name, _ in ranked)


def _visits(
    hour: IntArray,
    key: IntArray,
    place: IntArray,
    cost: FloatArray,
    read: npt.NDArray[np.bool_],
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
    """Pairs of all hours, counted some hours at a time, each with the hour before: many small sorts are quicker than one."""
    times = frame["timestamp"]
    frame = frame if times.is_monotonic_increasing else frame.sort_values("timestamp", kind="stable")
    moments = frame["timestamp"].to_numpy(dtype="datetime64[ns]").astype(np.int64)
    step = max(1, span * RECORDS_AT_ONCE // len(frame))
    begins = since + np.arange(0, span, step)
    first, last = (np.searchsorted(moments, hours * _HOUR_NS) for hours in (begins - 1, begins + step))
    found = pd.concat(
        [
            co_access(frame.iloc[start:end], rules, datetime.fromtimestamp(hour * 3600, UTC))
            for start, end, hour in zip(first.tolist(), last.tolist(), begins.tolist(), strict=True)
        ]
    )
    return _Pairs(
        found["hour"].to_numpy(dtype="datetime64[ns]").astype(np.int64) // _HOUR_NS - since,
        found["key_a"].to_numpy(np.int64),
        found["key_b"].to_numpy(np.int64),
        found["weight"].to_numpy(np.float64),
    )


def smallest_costs(costs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """The smallest cost that an hour has had of each key (K, of (K, T)), about that of one access; infinity for none."""
    return np.asarray(np.where(costs > 0, costs, np.inf).min(axis=1, initial=np.inf))
