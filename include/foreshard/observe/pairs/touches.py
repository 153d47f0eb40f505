"""The keys that each group of accesses has touched, as lazy expressions that any engine runs.

A group is a session in an hour, or a user's sessionless accesses in half a window: see
:mod:`foreshard.observe.pairs.co_access`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import narwhals as nw

from foreshard.observe.engines import CODE, HOUR_US, MOMENT, NAME, CodedRecords, FrameEngine, LazyRecords, hours_of
from foreshard.observe.packing import Packing, Span

_KEY = "partitionable_key"
_TOUCH = (_KEY, MOMENT, "new")


@dataclass(frozen=True)
class Accesses:
    """Accesses with their ``group``: all of some users and sessions.

    ``units``: half windows in an hour. Hours are counted from the ``first``, so that groups are small numbers.
    """

    rows: LazyRecords
    group: Packing
    units: int
    first: int

    @classmethod
    def in_parts(cls, records: CodedRecords, engine: FrameEngine, window: timedelta) -> list[Accesses]:
        """Return the accesses of records, in as many parts as these are counted."""
        width = max(window // timedelta(microseconds=1), 1)
        units = -(-2 * HOUR_US // width)
        owned = records.rows.filter(~nw.col("session_id").is_null() | ~nw.col("user_id").is_null())
        hours = hours_of(records)
        first = hours.low if hours else 0
        hour, half = nw.col(MOMENT) // HOUR_US - first, (nw.col(MOMENT) % HOUR_US * 2) // width
        by_session = ~nw.col("session_id").is_null()
        rows = owned.with_columns(
            by_session=by_session,
            owner=nw.when(by_session).then(nw.col("session_id")).otherwise(nw.col("user_id")),
            unit=nw.when(by_session).then(hour).otherwise(hour * units + half),
        )
        rows = rows.select("by_session", "owner", "unit", MOMENT, _KEY, "user_id")
        group = _groups_of(records, units)
        return [cls(group.packed(part), group, units, first) for part in engine.split(rows, nw.col("owner"), records.parts)]

    def hour(self) -> nw.Expr:
        """Return the hour of a group."""
        unit = self.group.part("unit")
        return nw.when(self.group.part("by_session")).then(unit).otherwise(unit // self.units) + self.first

    def later(self, rows: LazyRecords) -> LazyRecords:
        """Return rows with the group of the unit behind theirs."""
        return rows.with_columns(nw.col(self.group.by[-1]) + 1)  # the unit, or the packed group, whose last digit it is


def _groups_of(records: CodedRecords, units: int) -> Packing:
    """Return the packing of groups. The unit comes last, and has room for one more."""
    hours, user, session = hours_of(records), records.spans.get("user_id"), records.spans.get("session_id")
    if hours is None or user is None or session is None:
        return Packing.of(dict.fromkeys(("by_session", "owner", "unit")), "group")
    unit = Span(0, hours.size * units)
    owner = Span(min(user.low, session.low), max(user.high, session.high), user.kind)
    return Packing.of({"by_session": Span(0, 1, nw.Boolean()), "owner": owner, "unit": unit}, "group")


@dataclass(frozen=True)
class Touches:
    """What groups have touched. ``by``: the columns of a group.

    ``found`` has a row per group and key: the time (``MOMENT``) of its first access, and whether the key is ``new``. It is not
    if it was touched in the unit before. The time is then that of the earlier access. ``groups`` have the ``hour``, the
    ``size`` (keys), and the first known user (``user_id``), of the unit or the one before.
    """

    by: list[str]
    found: LazyRecords
    groups: LazyRecords

    @classmethod
    def of(
        cls,
        accesses: Accesses,
        records: CodedRecords,
        engine: FrameEngine,
        since: datetime | None,
        named: LazyRecords | None = None,
    ) -> Touches:
        """Find the touches of some accesses: in hours from ``since`` on, of the keys that are ``named`` in them."""
        low = int(since.timestamp()) // 3600 if since else 0
        found = engine.kept(_first_accesses(accesses, records))
        now = _of_hours(found, accesses, low, named)
        now = now if named is None else engine.kept(now)
        by = accesses.group.by
        groups = now.group_by(*by).agg(nw.len().alias("size"), nw.col("low").min(), nw.col("high").max())
        groups = engine.kept(groups.with_columns(hour=accesses.hour()))
        before = _of_hours(accesses.later(found), accesses, low, named).join(groups.select(*by), on=by, how="semi")
        before = engine.kept(before)
        users = _users(groups, _of_hours(accesses.rows, accesses, low, named), by, records, engine)
        only = cls(by, now.select(*by, *_TOUCH[:-1], new=nw.lit(value=True)), users)
        if not len(engine.table(before.head(1))):
            return only
        earlier = before.group_by(*by).agg(nw.col("low").min(), nw.col("high").max())
        rows = _of_hours(accesses.later(accesses.rows), accesses, low, named)
        others = _users(engine.kept(earlier), rows, by, records, engine)
        return only.with_earlier(before, others, engine)

    def with_earlier(self, before: LazyRecords, others: LazyRecords, engine: FrameEngine) -> Touches:
        """Return the touches with those of the units ``before``, and the users of these (``others``) for groups without one."""
        again = before.select(*self.by, _KEY, again=nw.lit(value=True))
        fresh = self.found.join(again, on=[*self.by, _KEY], how="left").filter(nw.col("again").is_null())
        names = [*self.by, *_TOUCH]
        found = engine.kept(nw.concat([before.with_columns(new=nw.lit(value=False)).select(*names), fresh.select(*names)]))
        sizes = found.group_by(*self.by).agg(nw.len().alias("size"))
        theirs = others.select(*self.by, other="user_id")
        groups = self.groups.drop("size").join(sizes, on=self.by).join(theirs, on=self.by, how="left")
        user = nw.coalesce("user_id", "other").alias("user_id")
        return replace(self, found=found, groups=engine.kept(groups.with_columns(user).drop("other")))

    def capped(self, names: LazyRecords, maximum: int, engine: FrameEngine) -> Touches:
        """Return the last ``maximum`` keys of each group: previous ones come first, then by time, then by name."""
        large = engine.kept(self.groups.filter(nw.col("size") > maximum).select(*self.by))
        if not len(engine.table(large.head(1))):
            return self
        some = self.found.join(large, on=self.by, how="semi").join(names, left_on=_KEY, right_on=CODE)
        place = nw.col(MOMENT).cum_count(reverse=True).over(*self.by, order_by=["new", MOMENT, NAME])
        last = some.with_columns(place=place).filter(nw.col("place") <= maximum)
        rest = self.found.join(large, on=self.by, how="anti")
        columns = [*self.by, *_TOUCH]
        found = engine.kept(nw.concat([rest.select(*columns), last.select(*columns)]))
        size = nw.when(nw.col("size") > maximum).then(nw.lit(maximum)).otherwise(nw.col("size"))
        return replace(self, found=found, groups=self.groups.with_columns(size=size))


def _first_accesses(accesses: Accesses, records: CodedRecords) -> LazyRecords:
    """Return a row per group and key: the time of its first access, and its users, ``low`` to ``high``."""
    touch = Packing.of({**accesses.group.inner(), _KEY: records.spans.get(_KEY)}, "touch")
    user = nw.col("user_id")
    found = (
        touch.packed(accesses.rows)
        .group_by(*touch.by)
        .agg(nw.col(MOMENT).min(), user.min().alias("low"), user.max().alias("high"))
    )
    return touch.unpacked(found)


def _of_hours(rows: LazyRecords, accesses: Accesses, low: int, named: LazyRecords | None) -> LazyRecords:
    """Return the rows of groups in hours from ``low`` on that have a key that counts in the hour."""
    mine = rows.filter(accesses.hour() >= low)
    if named is None:
        return mine
    return mine.with_columns(hour=accesses.hour()).join(named, on=["hour", _KEY], how="semi").drop("hour")


def _users(groups: LazyRecords, rows: LazyRecords, by: list[str], records: CodedRecords, engine: FrameEngine) -> LazyRecords:
    """Return the groups with the first known user of each. Of two at the same time, it is the one whose name is less.

    ``groups`` have their users, ``low`` to ``high``. ``rows``: the accesses of groups.
    """
    several = engine.kept(groups.filter(nw.col("low") != nw.col("high")).select(*by))
    if not len(engine.table(several.head(1))):
        return groups.with_columns(user_id="low").drop("low", "high")
    known = rows.filter(~nw.col("user_id").is_null()).join(several, on=by, how="semi")
    named = known.join(records.names["user_id"], left_on="user_id", right_on=CODE)
    order = named.select(*by, "user_id", place=nw.col(MOMENT).cum_count().over(*by, order_by=[MOMENT, NAME]))
    first = order.filter(nw.col("place") == 1).select(*by, first="user_id")
    made = groups.join(first, on=by, how="left").with_columns(user_id=nw.coalesce("first", "low"))
    return made.drop("low", "high", "first")
