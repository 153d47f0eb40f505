"""The keys that each group of accesses has touched, as lazy expressions that any engine runs.

A group is a session in an hour, or a user's sessionless accesses in half a window: see
:mod:`foreshard.observe.pairs.co_access`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import narwhals as nw

from foreshard.observe.engines import CODE, HOUR_US, MOMENT, NAME, CodedRecords, FrameEngine, LazyRecords

GROUP = ("by_session", "owner", "unit")
NUMBER = "group"
TOUCH = (NUMBER, "partitionable_key", MOMENT, "new")
_KEY = "partitionable_key"


@dataclass(frozen=True)
class _Accesses:
    """Accesses with their group. ``units``: half windows in an hour."""

    rows: LazyRecords
    units: int

    @classmethod
    def of(cls, records: CodedRecords, window: timedelta, part: int) -> _Accesses:
        width = max(window // timedelta(microseconds=1), 1)
        units = -(-2 * HOUR_US // width)
        owned = records.rows.filter(~nw.col("session_id").is_null() | ~nw.col("user_id").is_null())
        hour, half = nw.col(MOMENT) // HOUR_US, (nw.col(MOMENT) % HOUR_US * 2) // width
        by_session = ~nw.col("session_id").is_null()
        rows = owned.with_columns(
            by_session=by_session,
            owner=nw.when(by_session).then(nw.col("session_id")).otherwise(nw.col("user_id")),
            unit=nw.when(by_session).then(hour).otherwise(hour * units + half),
        )
        rows = rows if records.parts == 1 else rows.filter(nw.col("owner") % records.parts == part)
        return cls(rows.select(*GROUP, MOMENT, _KEY, "user_id"), units)

    def hour(self) -> nw.Expr:
        """Return the hour of a unit."""
        return nw.when(nw.col("by_session")).then(nw.col("unit")).otherwise(nw.col("unit") // self.units)


def touches(
    records: CodedRecords,
    engine: FrameEngine,
    window: timedelta,
    since: datetime | None,
    named: LazyRecords | None = None,
    part: int = 0,
) -> tuple[LazyRecords, LazyRecords]:
    """Return the touches, and the ``NUMBER``, ``hour`` and user (``user_id``) of each group, of a part of the records.

    Only groups of hours from ``since`` on are returned, and the keys that are ``named`` in them. The user is the first known
    one, of the unit or the one before.

    A touch is one row per group and key: ``NUMBER`` of the group, the key, the time (``MOMENT``) of its first access, and
    whether the key is ``new``. It is not if it was touched in the unit before. The time is then that of the earlier access.
    """
    accesses = _Accesses.of(records, window, part)
    found = engine.kept(
        accesses.rows.group_by(*GROUP, _KEY).agg(
            nw.col(MOMENT).min(), nw.col("user_id").min().alias("low"), nw.col("user_id").max().alias("high")
        )
    )
    low = int(since.timestamp()) // 3600 if since else 0
    groups = found.select(*GROUP).unique().with_columns(hour=accesses.hour()).filter(nw.col("hour") >= low)
    groups = engine.kept(engine.numbered(groups, NUMBER))
    now = _of_groups(found, groups, named).select(NUMBER, _KEY, MOMENT, "low", "high", new=nw.lit(value=True))
    earlier = _of_groups(found.with_columns(unit=nw.col("unit") + 1), groups, named)
    before = earlier.select(NUMBER, _KEY, MOMENT, "low", "high", new=nw.lit(value=False))
    now, before = engine.kept(now), engine.kept(before)
    known = accesses.rows.filter(~nw.col("user_id").is_null())
    users = _users(now, _of_groups(known, groups, named), records, engine)
    made = now.select(*TOUCH)
    if len(engine.table(before.head(1))):
        again = before.select(NUMBER, _KEY, again=nw.lit(value=True))
        fresh = now.join(again, on=[NUMBER, _KEY], how="left").filter(nw.col("again").is_null())
        made = engine.kept(nw.concat([before.select(*TOUCH), fresh.select(*TOUCH)]))
        theirs = _of_groups(known.with_columns(unit=nw.col("unit") + 1), groups, named)
        others = _users(before, theirs, records, engine).select(NUMBER, other="user_id")
        users = groups.select(NUMBER).join(users, on=NUMBER, how="left").join(others, on=NUMBER, how="left")
        users = users.select(NUMBER, user_id=nw.coalesce("user_id", "other"))
    return made, engine.kept(groups.select(NUMBER, "hour").join(users, on=NUMBER, how="left"))


def _of_groups(rows: LazyRecords, groups: LazyRecords, named: LazyRecords | None) -> LazyRecords:
    """Return the rows of groups, with their ``NUMBER``, that have a key that counts in the hour of the group."""
    mine = rows.join(groups, on=list(GROUP))
    return mine if named is None else mine.join(named, on=["hour", _KEY], how="semi")


def _users(found: LazyRecords, known: LazyRecords, records: CodedRecords, engine: FrameEngine) -> LazyRecords:
    """Return the first known user of each group. Of two at the same time, it is the one whose name is less.

    ``found``: the touches of groups. ``known``: their accesses with a user.
    """
    given = found.filter(~nw.col("low").is_null())
    units = engine.kept(given.group_by(NUMBER).agg(nw.col("low").min(), nw.col("high").max()))
    users = units.filter(nw.col("low") == nw.col("high")).select(NUMBER, user_id="low")
    several = engine.kept(units.filter(nw.col("low") != nw.col("high")).select(NUMBER))
    if not len(engine.table(several.head(1))):
        return users
    named = known.join(several, on=NUMBER, how="semi").join(records.names["user_id"], left_on="user_id", right_on=CODE)
    order = named.select(NUMBER, "user_id", place=nw.col(MOMENT).cum_count().over(NUMBER, order_by=[MOMENT, NAME]))
    return nw.concat([users, order.filter(nw.col("place") == 1).drop("place")])


def capped(found: LazyRecords, names: LazyRecords, maximum: int, engine: FrameEngine) -> LazyRecords:
    """Return the last ``maximum`` keys of each group: previous ones come first, then by time, then by name."""
    sizes = found.group_by(NUMBER).agg(nw.len().alias("size"))
    large = engine.kept(sizes.filter(nw.col("size") > maximum).select(NUMBER))
    if not len(engine.table(large.head(1))):
        return found
    some = found.join(large, on=NUMBER, how="semi").join(names, left_on=_KEY, right_on=CODE)
    place = nw.col(MOMENT).cum_count(reverse=True).over(NUMBER, order_by=["new", MOMENT, NAME])
    last = some.with_columns(place=place).filter(nw.col("place") <= maximum).drop("place", NAME)
    rest = found.join(large, on=NUMBER, how="anti")
    return engine.kept(nw.concat([rest, last.select(*rest.collect_schema().names())]))
