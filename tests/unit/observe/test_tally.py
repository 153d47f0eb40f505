from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.observe.counting import tally_of

from foreshard.model import KEY_LOAD_COLUMNS
from foreshard.observe.hours import hours_between, split
from foreshard.observe.tally import empty_key_load

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)
WEIGHTS = {"read": 1.0, "write": 2.5}

ACCESS = st.tuples(
    st.integers(0, 3 * 3600 - 1),
    st.sampled_from(["a", "b", "ü", "$c.d"]),
    st.sampled_from([None, "u1", "u2", "u3"]),
    st.sampled_from(["read", "write"]),
    st.sampled_from([None, "x", "y"]),
    st.sampled_from([None, 0.0, 7.25]),
)


def frame_of(accesses: list[tuple[int, str, str | None, str, str | None, float | None]]) -> pd.DataFrame:
    columns = ["seconds", "partitionable_key", "user_id", "request_type", "location", "cost"]
    frame = pd.DataFrame(accesses, columns=columns).astype({"cost": "float64"})
    for name in columns[1:5]:
        frame[name] = frame[name].astype(object)
    frame["timestamp"] = pd.Timestamp(HOUR) + pd.to_timedelta(frame.pop("seconds").astype("int64"), unit="s")
    frame["session_id"] = pd.Series([None] * len(frame), dtype=object)
    return frame


@settings(max_examples=60, deadline=None)
@given(st.lists(ACCESS, max_size=40))
def test_a_tally_equals_counting_one_by_one(accesses: list) -> None:
    expected: dict = defaultdict(lambda: [0, 0.0, set()])
    for seconds, key, user, kind, place, cost in accesses:
        cell = expected[(HOUR + timedelta(hours=seconds // 3600), key, place or "unknown", kind)]
        cell[0] += 1
        cell[1] += WEIGHTS[kind] if cost is None else cost
        cell[2] |= {user} - {None}
    found = tally_of(frame_of(accesses), WEIGHTS)
    assert tuple(found.columns) == KEY_LOAD_COLUMNS
    assert [tuple(row) for row in found[list(KEY_LOAD_COLUMNS[:4])].itertuples(index=False)] == sorted(expected)
    for row in found.itertuples(index=False):
        count, cost, users = expected[(row.hour, row.partitionable_key, row.location, row.request_type)]
        assert (row.count, row.distinct_users) == (count, len(users))
        assert row.cost == pytest.approx(cost)


def test_an_hour_without_accesses_has_no_rows_and_the_right_types() -> None:
    found = tally_of(frame_of([]), WEIGHTS)
    assert found.empty
    assert found.dtypes.to_dict() == empty_key_load().dtypes.to_dict()


def test_a_log_without_users_counts_no_distinct_user() -> None:
    found = tally_of(frame_of([(1, "a", None, "read", "x", None)] * 3), WEIGHTS)
    assert found[["count", "distinct_users"]].values.tolist() == [[3, 0]]


def test_costs_of_any_size_are_summed_exactly_and_rounded_once() -> None:
    costs = [1e300, 0.1, 2.0**70, 0.1, 1e-20, 3.3, None, 2.0**60, 5e9, 1e300]
    found = tally_of(frame_of([(1, "a", None, "write", "x", cost) for cost in costs]), WEIGHTS)
    exact = sum((Fraction(cost) for cost in costs if cost is not None), Fraction(2.5))
    assert found["cost"].tolist() == [float(exact)]
    small = [0.1] * 10 + [1e-5] * 7
    found = tally_of(frame_of([(1, "a", None, "write", "x", cost) for cost in small]), WEIGHTS)
    assert found["cost"].tolist() == [pytest.approx(float(sum(map(Fraction, small))), rel=1e-15)]


def test_costs_beyond_the_largest_number_are_infinite() -> None:
    found = tally_of(frame_of([(1, "a", None, "write", "x", 1.7e308)] * 2), WEIGHTS)
    assert found["cost"].tolist() == [float("inf")]


def test_each_hour_gets_its_rows_and_empty_hours_none() -> None:
    found = tally_of(frame_of([(0, "a", "u", "read", "x", None), (2 * 3600, "b", "u", "read", "x", None)]), WEIGHTS)
    tallies = list(split(found, found.iloc[:0], hours_between(HOUR, HOUR + timedelta(hours=3))))
    assert [one.hour for one in tallies] == [HOUR + timedelta(hours=n) for n in range(3)]
    assert [one.key_load["partitionable_key"].tolist() for one in tallies] == [["a"], [], ["b"]]
