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
from typing import TYPE_CHECKING

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from foreshard.measure.collector_pause import collector_paused
from foreshard.model import CO_ACCESS_COLUMNS
from foreshard.observe.engines import CODE, HOUR_US, NAME, CodedRecords, FrameEngine, LazyRecords, PolarsFrames, hours_of
from foreshard.observe.packing import Packing, Span, nullable
from foreshard.observe.pairs.pair_sums import empty_co_access
from foreshard.observe.pairs.touches import Accesses, Touches
from foreshard.observe.pairs.user_marks import name_hashes, user_marks

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
PAIRS_KEPT = 20_000_000
"""So many pairs of keys of groups are kept, of 12 bytes each. Five million records have about as many."""


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
    return pairs_of(engine.coded(table, OWNED[2:]), engine, rules, since)


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
    pair = _pairs_as_one(records)
    parts = Accesses.in_parts(records, engine, rules.window)
    found = [_Found.of(Touches.of(part, records, engine, since, named), records, engine, rules, pair) for part in parts]
    weights = [engine.kept(_weighed(one.pairs, pair.by)) for one in found]
    weights = weights if len(weights) == 1 else [engine.kept(_united(nw.concat(weights), pair.by))]
    heavy = engine.kept(engine.numbered(_heaviest(weights[0], pair, rules.maximum_pairs, engine), "pair"))
    by_user = _by_user(found, heavy, records, engine)
    counted = nw.concat([_counts(some) for some in by_user]).join(pair.unpacked(heavy), on="pair")
    counted = _with_keys(counted, records.names["partitionable_key"])
    rows = engine.table(_kept(counted, rules.maximum_pairs))
    if not len(rows):
        return empty_co_access()
    rows = rows.sort_by([("hour", "ascending"), ("key_a", "ascending"), ("key_b", "ascending")])
    marks: list[list[int]] = [[]] * len(rows)
    with collector_paused():  # it would look at each list several times
        for some in by_user:
            of_some = _marks(rows, some, records, engine, rules.marks)
            marks = [one or other for one, other in zip(marks, of_some, strict=True)]
    return _frame(rows.to_pandas(), marks)


def _pairs_as_one(records: CodedRecords) -> Packing:
    key = records.spans.get("partitionable_key")
    return Packing.of({"hour": hours_of(records), "left": key, "right": key}, "both")


@dataclass(frozen=True)
class _Found:
    """The pairs of keys of each group, of which at least one is new in it, with the group's user.

    ``few``: they are kept. Else they are found again in the ``touches`` when they are needed again.
    """

    touches: Touches
    pair: Packing
    pairs: LazyRecords
    few: bool

    @classmethod
    def of(cls, touches: Touches, records: CodedRecords, engine: FrameEngine, rules: CoAccessRules, pair: Packing) -> _Found:
        touches = touches.capped(records.names["partitionable_key"], rules.maximum_keys, engine)
        sizes = touches.groups.select(number=(nw.col("size").cast(nw.Int64) * (nw.col("size") - 1)).sum())
        few = (engine.table(sizes).column("number")[0].as_py() or 0) // 2 <= PAIRS_KEPT
        pairs = _pairs_of(touches, pair)
        return cls(touches, pair, engine.kept(pairs) if few else pairs, few)

    def among(self, heavy: LazyRecords) -> LazyRecords:
        """Return those pairs that are in ``heavy``."""
        if self.few:
            return self.pairs.join(heavy, on=self.pair.by)
        both = self.pair.unpacked(heavy)
        keys = nw.concat([both.select(partitionable_key=name) for name in ("left", "right")]).unique()
        found = self.touches.found.join(keys, on="partitionable_key", how="semi")
        return _pairs_of(replace(self.touches, found=found), self.pair).join(heavy, on=self.pair.by)


def _pairs_of(touches: Touches, pair: Packing) -> LazyRecords:
    by = touches.by
    left = touches.found.join(touches.groups, on=by).select(*by, "hour", "user_id", "new", left="partitionable_key")
    right = touches.found.select(*by, right="partitionable_key", new_too="new")
    both = left.join(right, on=by).filter(nw.col("left") < nw.col("right"), nw.col("new") | nw.col("new_too"))
    return pair.packed(both.select(*_PAIR, "user_id"))


def _by_user(found: Sequence[_Found], heavy: LazyRecords, records: CodedRecords, engine: FrameEngine) -> list[LazyRecords]:
    """Return the weights of the ``heavy`` pairs by user, in parts that have all users of a pair."""
    user = nullable(records.spans.get("user_id"))
    pairs = user and Span(0, len(engine.table(heavy.select("pair"))), nw.UInt32())
    one = Packing.of({"pair": pairs, "user_id": user}, "one")
    given = [one.packed(some.among(heavy).select("pair", "user_id")) for some in found]
    weights = [engine.kept(_weighed(some, one.by)) for some in given]
    if len(weights) == 1:
        return [engine.kept(one.unpacked(weights[0]))]
    parts = engine.split(nw.concat(weights), one.part("pair"), len(weights))
    return [engine.kept(one.unpacked(_united(part, one.by))) for part in parts]


def _weighed(pairs: LazyRecords, by: Sequence[str]) -> LazyRecords:
    return pairs.group_by(*by).agg(nw.len().cast(nw.Int64).alias("weight"))


def _united(weights: LazyRecords, by: Sequence[str]) -> LazyRecords:
    """Return the sums of the weights that parts of the records have given."""
    return weights.group_by(*by).agg(nw.col("weight").sum())


def _heaviest(weights: LazyRecords, pair: Packing, number: int, engine: FrameEngine) -> LazyRecords:
    """Return the pairs that may be among the ``number`` heaviest of an hour, and all that weigh as much as the last.

    Pairs are counted by weight, not ordered: an engine can't spread the order of an hour's pairs over several machines.
    """
    of_hours = weights.with_columns(hour=pair.part("hour"))
    found = engine.table(of_hours.group_by("hour", "weight").agg(nw.len().cast(nw.Int64).alias("pairs"))).to_pandas()
    found = found.sort_values(["hour", "weight"], ascending=[True, False], ignore_index=True)
    heavier = found.groupby("hour")["pairs"].cumsum() - found["pairs"]
    least = found[heavier < number].groupby("hour", as_index=False)["weight"].min()
    hours, weight = (pa.array(least[name], pa.int64()) for name in ("hour", "weight"))
    limits = engine.of_table(pa.table({"hour": hours, "least": weight}))
    return of_hours.join(limits, on="hour").filter(nw.col("weight") >= nw.col("least")).select(*pair.by)


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


def _marks(rows: pa.Table, by_user: LazyRecords, records: CodedRecords, engine: FrameEngine, number: int) -> list[list[int]]:
    """Return the smallest marks of the known users of each row."""
    places = rows.select(["pair"]).append_column("place", pa.array(range(len(rows)), pa.int64()))
    known = by_user.filter(~nw.col("user_id").is_null()).join(engine.of_table(places), on="pair").select("place", "user_id")
    users = engine.kept(known)
    names = engine.table(records.names["user_id"].join(users.select(**{CODE: "user_id"}).unique(), on=CODE, how="semi"))
    hashed = pa.array(name_hashes(names.column(NAME).to_pylist()).view(np.int64))
    hashes = engine.of_table(names.select([CODE]).append_column("hashed", hashed))
    found = engine.table(users.join(hashes, left_on="user_id", right_on=CODE).select("place", "hashed"))
    user, place = found.column("hashed").to_numpy().view(np.uint64), found.column("place").to_numpy()
    key_a, key_b = (name_hashes(rows.column(name).to_pylist()) for name in ("key_a", "key_b"))
    return user_marks(key_a, key_b, user, place, number)


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
