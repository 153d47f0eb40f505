"""Sums the co-access of several hours. Users are counted by their marks (:mod:`foreshard.observe.pairs.co_access`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

import numpy as np
import pandas as pd

from foreshard.model import CO_ACCESS_COLUMNS, IntArray
from foreshard.observe.factorising import distinct

MARK_LIMIT = 2**31
"""Marks of users are below this."""


def unite(pairs: pd.DataFrame) -> pd.DataFrame:
    """Unite pairs of several hours: ``key_a, key_b, weight, distinct_users, user_marks``. The result can be united again.

    ``distinct_users`` is over all hours. If an hour had more users than marks, it is a lower bound.
    """
    if pairs.empty:
        return empty_co_access().drop(columns="hour")
    united, marks = _united(pairs)
    return united.assign(user_marks=pd.Series(listed(marks // MARK_LIMIT, marks % MARK_LIMIT, len(united)), dtype=object))


def sum_hours(pairs: pd.DataFrame, minimum_distinct_users: int) -> pd.DataFrame:
    """Sum hourly or united pairs for use: ``key_a, key_b, weight, distinct_users``, the heaviest first, without marks.

    Pairs with fewer than ``minimum_distinct_users`` over all hours are dropped.
    """
    united = unite(pairs).drop(columns="user_marks") if pairs.empty else _united(pairs)[0]
    kept = united[united["distinct_users"] >= minimum_distinct_users]
    return kept.sort_values(["weight", "key_a", "key_b"], ascending=[False, True, True], ignore_index=True)


def _united(pairs: pd.DataFrame) -> tuple[pd.DataFrame, IntArray]:
    """Return the united pairs, sorted, and the codes of (pair, mark) of their users."""
    keys, names = pd.factorize(pd.concat([pairs["key_a"], pairs["key_b"]], ignore_index=True), sort=True)
    codes = keys[: len(pairs)].astype(np.int64) * len(names) + keys[len(pairs) :]
    found = distinct(codes)
    group = np.searchsorted(found, codes)
    marks_of, marks = _flat(pairs["user_marks"].tolist())
    united = distinct(np.repeat(group, marks_of) * MARK_LIMIT + marks)
    users = np.bincount(united // MARK_LIMIT, minlength=len(found))
    np.maximum.at(users, group, pairs["distinct_users"].to_numpy(dtype=np.int64))
    weight = np.bincount(group, weights=pairs["weight"].to_numpy(dtype=np.float64), minlength=len(found))
    texts = np.asarray(names, dtype=object)
    table = pd.DataFrame(
        {
            "key_a": texts[found // len(names)],
            "key_b": texts[found % len(names)],
            "weight": weight.astype(np.int64),
            "distinct_users": users.astype(np.int64),
        }
    )
    return table, united


def _flat(rows: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """Return the lengths of the rows, and their values one after another."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return lengths, np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))


def empty_co_access() -> pd.DataFrame:
    """No rows, with ``CO_ACCESS_COLUMNS`` and their types."""
    types = {"hour": "datetime64[ns, UTC]", "weight": "int64", "distinct_users": "int64"}
    return pd.DataFrame({name: pd.Series(dtype=types.get(name, "object")) for name in CO_ACCESS_COLUMNS})


def listed(place: IntArray, values: IntArray, places: int) -> list[list[int]]:
    """Return the values of each place as a list. ``values`` are sorted by place."""
    ends = np.searchsorted(place, np.arange(places + 1)).tolist()
    listed = values.tolist()
    return [listed[start:end] for start, end in pairwise(ends)]
