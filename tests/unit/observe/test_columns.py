"""Counting and pairing by column gives what counting and pairing frames gives, in one part or in several."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreshard.model import KEY_LOAD_COLUMNS
from foreshard.observe import co_access as co_access_module
from foreshard.observe import tally as tally_module
from foreshard.observe.batches import accepted_table, coded_texts
from foreshard.observe.co_access import CoAccessRules, co_access
from foreshard.observe.tally import tally, tally_table

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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records, st.sampled_from([3, 1000]))
def test_a_table_is_counted_like_a_frame(rows: list[tuple[object, ...]], at_once: int) -> None:
    frame = frame_of(rows)
    expected = tally(frame, WEIGHTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally_module, "ROWS_AT_ONCE", at_once)
        found = tally_table(coded_texts(accepted_table(frame)), HOUR, WEIGHTS)
    found = found.astype(expected.dtypes.to_dict()).sort_values(list(KEY_LOAD_COLUMNS[:4]), ignore_index=True)
    pd.testing.assert_frame_equal(found, expected)


@given(records, st.randoms())
def test_the_order_of_records_makes_no_difference_to_any_bit(rows: list[tuple[object, ...]], random) -> None:
    frame = frame_of(rows)
    random.shuffle(rows)
    assert tally(frame, WEIGHTS).equals(tally(frame_of(rows), WEIGHTS))


@settings(deadline=None)
@given(records, st.sampled_from([1, 2, 5]))
def test_pairs_are_the_same_whether_groups_are_formed_at_once_or_in_parts(rows: list[tuple[object, ...]], at_once: int) -> None:
    frame = frame_of(rows)
    expected = co_access(frame, RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(co_access_module, "RECORDS_AT_ONCE", at_once)
        found = co_access(frame, RULES)
    pd.testing.assert_frame_equal(found, expected)
    assert np.isfinite(found["weight"].to_numpy(float)).all()
