"""Counting and pairing give the same bytes in any order of the records, in one part or in several."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.observe.counting import tally_of

from foreshard.observe import engines
from foreshard.observe.pairs.co_access import CoAccessRules, co_access

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
WEIGHTS = {"read": 1.0, "write": 2.0}
RULES = CoAccessRules(timedelta(minutes=10), maximum_keys=4, maximum_pairs=6, marks=3)

records = st.lists(
    st.tuples(
        st.integers(0, 3599),
        st.sampled_from("abcdefg"),
        st.none() | st.sampled_from(["u", "v", "w"]),
        st.sampled_from(["read", "write"]),
        st.none() | st.sampled_from(["x", "unknown"]),
        st.none() | st.sampled_from(["s", "t"]),
        st.none() | st.floats(0, 5),
    ),
    max_size=40,
)


def frame_of(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    names = ["timestamp", "partitionable_key", "user_id", "request_type", "location", "session_id", "cost"]
    frame = pd.DataFrame(rows, columns=names).astype({"cost": float} | dict.fromkeys(names[1:6], object))
    frame = frame.where(frame.notna(), None).astype({"cost": float})
    return frame.assign(timestamp=pd.Timestamp(HOUR) + pd.to_timedelta(frame["timestamp"].astype(float), unit="s"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records, st.sampled_from([1, 3, 20]))
def test_records_are_counted_the_same_at_once_or_in_parts(rows: list[tuple[object, ...]], at_once: int) -> None:
    frame = frame_of(rows)
    expected = tally_of(frame, WEIGHTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "RECORDS_OF_A_PART", at_once)
        found = tally_of(frame, WEIGHTS)
    pd.testing.assert_frame_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(records, st.randoms())
def test_the_order_of_records_makes_no_difference_to_any_bit(rows: list[tuple[object, ...]], random) -> None:
    frame = frame_of(rows)
    pairs = co_access(frame, RULES)
    random.shuffle(rows)
    assert pairs.equals(co_access(frame_of(rows), RULES))
    assert tally_of(frame, WEIGHTS).equals(tally_of(frame_of(rows), WEIGHTS))


@settings(max_examples=60, deadline=None)
@given(records, st.sampled_from([1, 2, 5]))
def test_pairs_are_the_same_whether_groups_are_formed_at_once_or_in_parts(rows: list[tuple[object, ...]], at_once: int) -> None:
    frame = frame_of(rows)
    expected = co_access(frame, RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "RECORDS_OF_A_PART", at_once)
        found = co_access(frame, RULES)
    pd.testing.assert_frame_equal(found, expected)
    assert np.isfinite(found["weight"].to_numpy(float)).all()
