"""Finds keys that are accessed together: in one session, or without sessions by one user within minutes.

**Groups.** A session's accesses in one hour form a group, together with its accesses in the hour before. A user's sessionless
accesses in half a window form a group, together with the user's accesses in the half window before. Keys at most half a window
apart are therefore always found, and keys more than a window apart never. A group adds weight 1 to each pair of its keys of
which at least one is new in the group. A session or an uninterrupted visit thus counts a pair once, in the hour in which it
became complete.

**Cap.** Only the last ``maximum_keys`` keys of a group count. A crawler that reads 10,000 keys says nothing about which keys
belong together, and must not create 50 million pairs.

**Users.** A pair is used only if at least *k* distinct users accessed both keys over all hours considered, which few logs reach
in one hour. Each hour therefore keeps *marks* of a pair's users: 31-bit hashes of (key, key, user), the smallest ``marks`` of
them. Marks of one pair can be united over hours (exactly, up to their number). Marks of different pairs cannot be linked. A
session without a user adds weight but no user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from foreshard.model import CO_ACCESS_COLUMNS, IntArray
from foreshard.observe.engines import CODE, HOUR_US, NAME, CodedRecords, FrameEngine, LazyRecords, PolarsFrames
from foreshard.observe.factorising import factorised
from foreshard.observe.pairs.pair_sums import empty_co_access
from foreshard.observe.pairs.touches import NUMBER, capped, touches
from foreshard.observe.pairs.user_marks import user_marks

if TYPE_CHECKING:
    from foreshard.settings import ObserveSettings

MARKS = 16
"""User marks kept per pair and hour."""
MAXIMUM_KEYS = 50
"""Only this many keys of one session or user count in an hour, the ones touched last. This limits the effect of crawlers."""
MAXIMUM_PAIRS = 20_000
"""Pairs kept per hour, the heaviest first."""
OWNED = ("partitionable_key", "user_id", "session_id")
"""The columns of records that pairs are found in, besides the time."""
_PAIR = ("hour", "left", "right")
_BY_USER = ("pair", "user_id")


@dataclass(frozen=True, slots=True)
class CoAccessRules:
    """How pairs are found and kept. ``marks`` must be at least the k distinct users required later."""

    window: timedelta
    maximum_keys: int = MAXIMUM_KEYS
    maximum_pairs: int = MAXIMUM_PAIRS
    marks: int = MARKS

    @classmethod
    def of(cls, settings: ObserveSettings) -> CoAccessRules:
        """Return the settings' rules, with enough marks for the required number of distinct users."""
        return cls(settings.co_access_window, marks=max(MARKS, settings.minimum_distinct_users))


def co_access(frame: pd.DataFrame, rules: CoAccessRules, since: datetime | None = None) -> pd.DataFrame:
    """Find the pairs in clean records: rows with ``CO_ACCESS_COLUMNS``, the heaviest ``rules.maximum_pairs`` of each hour.

    ``frame`` may cover many hours. With ``since``, only hours from then on are returned; earlier records count as previous
    accesses.
    """
    engine = PolarsFrames()
    times = pa.array(frame["timestamp"], pa.timestamp("us", tz="UTC"), safe=False)
    table = pa.table([times, *(pa.array(frame[name], from_pandas=True) for name in OWNED)], names=["timestamp", *OWNED])
    return pairs_of(engine.coded(engine.of_table(table), OWNED[:2], OWNED[2:]), engine, rules, since)


def pairs_of(
    records: CodedRecords,
    engine: FrameEngine,
    rules: CoAccessRules,
    since: datetime | None = None,
    named: LazyRecords | None = None,
) -> pd.DataFrame:
    """Find the pairs in coded records with the columns of ``OWNED``, like :func:`co_access`.

    ``named``: the ``hour`` and ``partitionable_key`` of the keys that count in it. None: all keys do.
    """
    keys, parts = records.names["partitionable_key"], records.parts
    touched = [_Touched.of(records, engine, rules, since, named, part) for part in range(parts)]
    weights = [engine.kept(_weighed(one.pairs(), _PAIR)) for one in touched]
    heavy = engine.kept(engine.numbered(_heaviest(_united(weights, _PAIR, engine), rules.maximum_pairs), "pair"))
    found = [engine.kept(_weighed(one.among(heavy).pairs().join(heavy, on=list(_PAIR)), _BY_USER)) for one in touched]
    by_user = [_united(_of_part(found, "pair", part), _BY_USER, engine) for part in range(parts)]
    counted = _with_keys(nw.concat([_counts(some) for some in by_user]).join(heavy, on="pair"), keys)
    rows = engine.table(_kept(counted, rules.maximum_pairs))
    if not len(rows):
        return empty_co_access()
    rows = rows.sort_by([("hour", "ascending"), ("key_a", "ascending"), ("key_b", "ascending")])
    marks: list[list[int]] = [[]] * len(rows)
    for some in by_user:
        of_some = _marks(rows, *_users_of(rows, some, records, engine), rules.marks)
        marks = [one or other for one, other in zip(marks, of_some, strict=True)]
    return _frame(rows.to_pandas(), marks)


@dataclass(frozen=True)
class _Touched:
    """Touches and their groups: see :func:`foreshard.observe.pairs.touches.touches`."""

    found: LazyRecords
    groups: LazyRecords

    @classmethod
    def of(
        cls,
        records: CodedRecords,
        engine: FrameEngine,
        rules: CoAccessRules,
        since: datetime | None,
        named: LazyRecords | None,
        part: int,
    ) -> _Touched:
        found, groups = touches(records, engine, rules.window, since, named, part)
        return cls(capped(found, records.names["partitionable_key"], rules.maximum_keys, engine), groups)

    def pairs(self) -> LazyRecords:
        """Return the pairs of keys of each group, of which at least one is new in it, with the group's hour and user."""
        left = self.found.join(self.groups, on=NUMBER).select(NUMBER, "hour", "user_id", "new", left="partitionable_key")
        right = self.found.select(NUMBER, right="partitionable_key", new_too="new")
        both = left.join(right, on=NUMBER).filter(nw.col("left") < nw.col("right"), nw.col("new") | nw.col("new_too"))
        return both.select(*_PAIR, "user_id")

    def among(self, pairs: LazyRecords) -> _Touched:
        """Return the touches of keys that are in one of the pairs."""
        keys = nw.concat([pairs.select(partitionable_key=name) for name in ("left", "right")]).unique()
        return replace(self, found=self.found.join(keys, on="partitionable_key", how="semi"))


def _weighed(pairs: LazyRecords, by: Sequence[str]) -> LazyRecords:
    return pairs.group_by(*by).agg(nw.len().cast(nw.Int64).alias("weight"))


def _of_part(frames: Sequence[LazyRecords], number: str, part: int) -> list[LazyRecords]:
    """Return the rows of frames that are in a part of as many as there are frames."""
    return [frame.filter(nw.col(number) % len(frames) == part) if len(frames) > 1 else frame for frame in frames]


def _united(weights: Sequence[LazyRecords], by: Sequence[str], engine: FrameEngine) -> LazyRecords:
    """Return the sums of the weights that parts of the records have given."""
    if len(weights) == 1:
        return weights[0]
    return engine.kept(nw.concat(list(weights)).group_by(*by).agg(nw.col("weight").sum()))


def _heaviest(weights: LazyRecords, number: int) -> LazyRecords:
    """Return the pairs that may be among the ``number`` heaviest of an hour, and all that weigh as much as the last."""
    place = nw.col("weight").rank("min", descending=True).over("hour")
    return weights.with_columns(place=place).filter(nw.col("place") <= number).select(*_PAIR)


def _counts(by_user: LazyRecords) -> LazyRecords:
    users = (~nw.col("user_id").is_null()).cast(nw.Int64).sum()
    return by_user.group_by("pair").agg(nw.col("weight").sum().cast(nw.Int64), users.alias("distinct_users"))


def _with_keys(pairs: LazyRecords, keys: LazyRecords) -> LazyRecords:
    """Return the pairs with ``key_a`` < ``key_b``. Codes have another order than names."""
    for name in ("left", "right"):
        pairs = pairs.join(keys.rename({NAME: f"{name}_{NAME}"}), left_on=name, right_on=CODE)
    names = nw.col(f"left_{NAME}"), nw.col(f"right_{NAME}")
    first = names[0] < names[1]
    pairs = pairs.with_columns(
        key_a=nw.when(first).then(names[0]).otherwise(names[1]), key_b=nw.when(first).then(names[1]).otherwise(names[0])
    )
    return pairs.select("pair", "hour", "key_a", "key_b", "weight", "distinct_users")


def _kept(pairs: LazyRecords, number: int) -> LazyRecords:
    """Return the heaviest pairs of each hour; of equal ones those of most users, then by their keys."""
    order = pairs.with_columns(light=-nw.col("weight"), few=-nw.col("distinct_users"))
    place = nw.col("light").cum_count().over("hour", order_by=["light", "few", "key_a", "key_b"])
    return order.with_columns(place=place).filter(nw.col("place") <= number).drop("light", "few", "place")


def _users_of(
    rows: pa.Table, by_user: LazyRecords, records: CodedRecords, engine: FrameEngine
) -> tuple[pd.DataFrame, dict[Any, Any]]:
    """Return the known users of rows, as the ``place`` of the row and the code of the user, and the names of the codes."""
    places = rows.select(["pair"]).append_column("place", pa.array(range(len(rows)), pa.int64()))
    known = by_user.filter(~nw.col("user_id").is_null()).join(engine.of_table(places), on="pair")
    users = engine.kept(known.select("place", "user_id"))
    names = engine.table(records.names["user_id"].join(users.select(**{CODE: "user_id"}).unique(), on=CODE, how="semi"))
    named = dict(zip(names.column(CODE).to_pylist(), names.column(NAME).to_pylist(), strict=True))
    return engine.table(users).to_pandas(), named


def _marks(rows: pa.Table, users: pd.DataFrame, names: dict[Any, Any], number: int) -> list[list[int]]:
    """Return the smallest marks of the users of each row."""
    codes, found = pd.factorize(users["user_id"])
    named = np.array([names[code] for code in found.tolist()], dtype=object)
    (key_a, names_a), (key_b, names_b) = (factorised(rows.column(name).to_pandas()) for name in ("key_a", "key_b"))
    place: IntArray = users["place"].to_numpy(np.int64)
    user = named, codes.astype(np.int64)
    return user_marks((names_a.astype(object), key_a), (names_b.astype(object), key_b), user, place, len(rows), number)


def _frame(rows: pd.DataFrame, marks: list[list[int]]) -> pd.DataFrame:
    columns = {
        "hour": pd.to_datetime(rows["hour"].to_numpy(np.int64) * HOUR_US * 1000, utc=True),
        "key_a": rows["key_a"].astype(object),
        "key_b": rows["key_b"].astype(object),
        "weight": rows["weight"].to_numpy(np.int64),
        "distinct_users": rows["distinct_users"].to_numpy(np.int64),
        "user_marks": pd.Series(marks, dtype=object),
    }
    return pd.DataFrame(columns)[list(CO_ACCESS_COLUMNS)]
