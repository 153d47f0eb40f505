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
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import CO_ACCESS_COLUMNS, ONE_HOUR, BoolArray, IntArray
from foreshard.observe.pair_sums import empty_co_access
from foreshard.observe.tally import compress
from foreshard.observe.tally import distinct as distinct_values
from foreshard.observe.user_marks import user_marks

if TYPE_CHECKING:
    from foreshard.settings import ObserveSettings


PAIRS_AT_ONCE = 4_000_000
RECORDS_AT_ONCE = 2_000_000
"""Records whose groups are formed at once."""
_HOUR_NS = int(ONE_HOUR / timedelta(microseconds=1)) * 1000
MARKS = 16
"""User marks kept per pair and hour."""
MAXIMUM_KEYS = 50
"""Only this many keys of one session or user count in an hour, the ones touched last. This limits the effect of crawlers."""
MAXIMUM_PAIRS = 20_000
"""Pairs kept per hour, the heaviest first."""


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
    if frame.empty:
        return empty_co_access()
    keys, key_names = pd.factorize(frame["partitionable_key"], sort=True)
    users, user_names = pd.factorize(frame["user_id"], use_na_sentinel=True)
    sessions, _ = pd.factorize(frame["session_id"], use_na_sentinel=True)
    time = frame["timestamp"].dt.tz_convert("UTC").to_numpy(dtype="datetime64[ns]").astype(np.int64)
    names = np.asarray(key_names, object), np.asarray(user_names, object)
    return pairs_of(Touched(time, keys, users, sessions, *names), rules, since)


@dataclass(frozen=True)
class Touched:
    """Records as codes: time (ns), and indices of key, user and session (−1: unknown). ``key_names`` are sorted."""

    time: IntArray
    key: npt.NDArray[Any]
    user: npt.NDArray[Any]
    session: npt.NDArray[Any]
    key_names: npt.NDArray[Any]
    user_names: npt.NDArray[Any]

    def take(self, rows: npt.NDArray[Any]) -> Touched:
        """Return some records."""
        columns = (self.time[rows], self.key[rows], self.user[rows], self.session[rows])
        return Touched(*columns, self.key_names, self.user_names)


def pairs_of(records: Touched, rules: CoAccessRules, since: datetime | None = None) -> pd.DataFrame:
    """Find the pairs in coded records, like :func:`co_access`. A part of the groups is worked on at a time, to bound memory."""
    first_hour = 0 if since is None else _nanoseconds(since) // _HOUR_NS
    base_hour = int(records.time.min()) // _HOUR_NS if len(records.time) else 0
    parts = -(-len(records.time) // RECORDS_AT_ONCE)
    owner = np.where(records.session >= 0, records.session, records.user)
    found: list[_Part] = []
    for part in range(parts):
        some = records if parts == 1 else records.take(np.flatnonzero(owner % parts == part))
        touches = _capped(_touches(some, rules), rules.maximum_keys)
        found += _pairs(touches, len(records.key_names), first_hour, base_hour)
    return _frame(_united(found, len(records.key_names), base_hour), records.key_names, records.user_names, rules)


@dataclass(frozen=True)
class _Touches:
    """Distinct (group, key): the first access, its hour and user (−1: unknown), and whether the key is new in the group."""

    group: IntArray
    key: IntArray
    time: IntArray
    hour: IntArray
    user: IntArray
    new: BoolArray

    def take(self, rows: npt.NDArray[Any]) -> _Touches:
        """Return some rows, in that order."""
        return _Touches(*(getattr(self, name)[rows] for name in ("group", "key", "time", "hour", "user", "new")))


def _nanoseconds(moment: datetime) -> int:
    return int(pd.Timestamp(moment).value)


def _touches(records: Touched, rules: CoAccessRules) -> _Touches:
    records = _in_time_order(records)
    time, sessions = records.time, records.session.astype(np.int64)
    keys, users = records.key.astype(np.int64), records.user.astype(np.int64)
    by_session = sessions >= 0
    half = max(int(rules.window / timedelta(microseconds=1)) * 1000 // 2, 1)
    halves = -(-_HOUR_NS // half)
    hour = time // _HOUR_NS
    slot = hour * halves + (time % _HOUR_NS) // half
    base = np.where(by_session, sessions, int(sessions.max(initial=-1)) + 1 + users)
    unit = np.where(by_session, hour, slot)
    counted = by_session | (users >= 0)
    base, unit, hours_of = base[counted], unit[counted], np.where(by_session, 1, halves)[counted]
    first = int(unit.min()) if len(unit) else 0
    width = int(unit.max(initial=first)) - first + 2
    group = base * width + (unit - first)
    new = np.ones(len(group), dtype=np.bool_)
    now = _Touches(group, keys[counted], time[counted], unit // hours_of, users[counted], new)
    before = _Touches(group + 1, now.key, now.time, (unit + 1) // hours_of, now.user, ~new)
    before = before.take(_among(before.group, distinct_values(group)))
    return _with_user_of_group(_distinct(now, before), now, before)


def _in_time_order(records: Touched) -> Touched:
    """Return the records by time. A stable sort by one code then replaces sorts by several columns."""
    if (records.time[1:] >= records.time[:-1]).all():
        return records
    return records.take(np.argsort(records.time, kind="stable"))


def _among(values: IntArray, ordered: IntArray) -> BoolArray:
    """Return which values are in ``ordered`` (distinct, ascending)."""
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    found: BoolArray = ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
    return found


def _with_user_of_group(touches: _Touches, now: _Touches, before: _Touches) -> _Touches:
    """Give each group one user: the first known user in it, else the first of its previous accesses (−1: none)."""
    group, user, new = (np.concatenate([getattr(now, n), getattr(before, n)]) for n in ("group", "user", "new"))
    known = np.flatnonzero(user >= 0)
    order = known[np.argsort(group[known] * 2 + ~new[known], kind="stable")]
    if not len(order):
        return touches
    first = order[_changes(group[order])]
    groups = group[first]
    place = np.minimum(np.searchsorted(groups, touches.group), len(groups) - 1)
    return replace(touches, user=np.where(groups[place] == touches.group, user[first][place], -1))


def _distinct(now: _Touches, before: _Touches) -> _Touches:
    """Return one row per (group, key), preferring previous accesses, for which ``new`` is false; sorted by group, then time."""
    both = _Touches(*(np.concatenate([getattr(now, n), getattr(before, n)]) for n in now.__dataclass_fields__))
    code = compress(both.group, both.key, both.new)
    order = np.argsort(code, kind="stable")
    once = both.take(order[_changes(code[order] >> 1)])
    return once.take(np.lexsort((once.key, once.time, compress(once.group, once.new))))


def _changes(ordered: IntArray) -> BoolArray:
    """Return the first row of each run of equal values."""
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return first


def _starts(group: IntArray) -> tuple[IntArray, IntArray]:
    """For sorted groups: each row's position in its group, and the size of its group."""
    _, start, size = np.unique(group, return_index=True, return_counts=True)
    return np.arange(len(group)) - np.repeat(start, size), np.repeat(size, size)


def _capped(touches: _Touches, maximum_keys: int) -> _Touches:
    rank, size = _starts(touches.group)
    return touches.take(rank >= size - maximum_keys)


@dataclass(frozen=True)
class _Pairs:
    """Distinct (hour, key, key) in order with their weights, and the distinct (pair index, user) of known users."""

    hour: IntArray
    key_a: IntArray
    key_b: IntArray
    weight: IntArray
    place: IntArray
    user: IntArray


_Part = tuple[IntArray, IntArray, IntArray, IntArray]
"""Codes of (hour, key, key) and their weights; codes and users of the distinct (pair, user)."""


def _pairs(touches: _Touches, keys: int, first_hour: int, base_hour: int) -> list[_Part]:
    """Pair each row with the later rows of its group, ``PAIRS_AT_ONCE`` at a time to bound memory."""
    rank, size = _starts(touches.group)
    behind = size - 1 - rank
    users = int(touches.user.max(initial=0)) + 1
    ends = np.cumsum(behind)
    total = int(ends[-1]) if len(ends) else 0
    cuts = [*np.searchsorted(ends, np.arange(0, total, PAIRS_AT_ONCE), side="right").tolist(), len(ends)]
    found = []
    for start, stop in pairwise(cuts):
        number = behind[start:stop]
        left = np.repeat(np.arange(start, stop), number)
        right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(number) - number, number)
        kept = (touches.new[left] | touches.new[right]) & (touches.hour[left] >= first_hour)
        left, right = left[kept], right[kept]
        a = np.minimum(touches.key[left], touches.key[right])
        b = np.maximum(touches.key[left], touches.key[right])
        code = ((touches.hour[left] - base_hour) * keys + a) * keys + b
        distinct, place, weight = np.unique(code, return_inverse=True, return_counts=True)
        user = touches.user[left]
        known = user >= 0
        pair_user = distinct_values(place[known] * users + user[known])
        found.append((distinct, weight.astype(np.int64), distinct[pair_user // users], pair_user % users))
    return found


def _united(found: Sequence[_Part], keys: int, base_hour: int) -> _Pairs:
    empty = np.zeros(0, dtype=np.int64)
    codes, weights, pairs, users = (np.concatenate([*(part[place] for part in found), empty]) for place in range(4))
    distinct = distinct_values(codes)
    place = np.searchsorted(distinct, codes)
    weight = np.bincount(place, weights=weights, minlength=len(distinct)).astype(np.int64)
    width = int(users.max(initial=0)) + 1
    both = distinct_values(np.searchsorted(distinct, pairs) * width + users)
    hour, rest = np.divmod(distinct, max(keys, 1) ** 2)
    return _Pairs(hour + base_hour, rest // max(keys, 1), rest % max(keys, 1), weight, both // width, both % width)


def _frame(found: _Pairs, keys: npt.NDArray[Any], users: npt.NDArray[Any], rules: CoAccessRules) -> pd.DataFrame:
    pairs = len(found.hour)
    if not pairs:
        return empty_co_access()
    distinct_users = np.bincount(found.place, minlength=pairs)
    order = np.lexsort((found.key_b, found.key_a, -distinct_users, -found.weight, found.hour))
    rank, _ = _starts(found.hour[order])
    kept = np.sort(order[rank < rules.maximum_pairs])
    return pd.DataFrame(
        {
            "hour": pd.to_datetime(found.hour[kept] * _HOUR_NS, utc=True),
            "key_a": keys[found.key_a[kept]],
            "key_b": keys[found.key_b[kept]],
            "weight": found.weight[kept],
            "distinct_users": distinct_users[kept].astype(np.int64),
            "user_marks": pd.Series(_marks_of(_some(found, kept), keys, users, rules.marks), dtype=object),
        }
    )[list(CO_ACCESS_COLUMNS)]


def _some(found: _Pairs, kept: IntArray) -> _Pairs:
    """Return the kept pairs with their users."""
    number = np.full(len(found.hour), -1, np.int64)
    number[kept] = np.arange(len(kept))
    place = number[found.place]
    known = place >= 0
    pairs = (found.hour[kept], found.key_a[kept], found.key_b[kept], found.weight[kept])
    return _Pairs(*pairs, place[known], found.user[known])


def _marks_of(found: _Pairs, keys: npt.NDArray[Any], users: npt.NDArray[Any], number: int) -> list[list[int]]:
    names = (keys, found.key_a), (keys, found.key_b), (users, found.user)
    return user_marks(*names, found.place, len(found.hour), number)
