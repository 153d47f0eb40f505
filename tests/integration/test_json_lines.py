"""Lines that are parsed in a block give what they give one by one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.observe.batches import clean_batch
from foreshard.observe.clean import clean
from foreshard.stores.files.json_lines import decoded, parsed, records_frame

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
END = HOUR + timedelta(hours=1)
TYPES = ("read", "write")
GOOD = {"timestamp": "2026-03-01T08:30:00+00:00", "partitionable_key": "k", "request_type": "read", "user_id": "u", "cost": 1}
ODD_LINES = [
    b"{}", b"[]", b"5", b"{broken", b'{"a":1} {"b":2}', b"{", b"}", b'{"cost": NaN}', b'{"partitionable_key": "\\ud800"}',
    b'{"partitionable_key": "\xff"}', b'{"partitionable_key": "a", "partitionable_key": "b"}', b'{"user_id": {"deep": [1]}}',
    b'{"more": {"deep": [1, {"x": null}]}}', b'{"cost": 1e400}', b'{"timestamp": 1772353800}', b'{"partitionable_key": 5.0}',
]  # fmt: skip

values = {
    "timestamp": st.sampled_from(["2026-03-01T08:10:00Z", "2026-03-01 09:30", "soon", "", None, 1772353800, 1772353800000]),
    "partitionable_key": st.sampled_from(["k", "2024-01-01", "", " ", "é", None, 5, 5.5, True, ["k"]]),
    "user_id": st.sampled_from(["u", None, 7]),
    "request_type": st.sampled_from(["read", "write", "explode", None]),
    "location": st.sampled_from(["x", None, " "]),
    "session_id": st.sampled_from(["s", None, 12]),
    "cost": st.sampled_from([1, 2.5, None, -1, "3", "many"]),
    "other": st.sampled_from([1, "x", {"deep": 1}]),
}
records = st.fixed_dictionaries({}, optional=values)
typed = st.fixed_dictionaries(
    {"timestamp": st.just("2026-03-01T08:10:00Z"), "partitionable_key": st.sampled_from(["k", "", "2024-01-01"])},
    optional={
        "request_type": st.sampled_from(["read", "x"]),
        "cost": st.sampled_from([1, 2.5, -1]),
        "other": st.just({"a": [1]}),
    },
)
lines = st.lists(typed.map(lambda record: json.dumps(record).encode()), max_size=8) | st.lists(
    records.map(lambda record: json.dumps(record).encode()) | st.sampled_from(ODD_LINES), max_size=8
)


def in_order(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple("None" if pd.isna(value) else str(value) for value in row) for row in frame.itertuples(index=False))


@settings(max_examples=200, deadline=None)
@given(lines)
def test_a_block_is_parsed_like_its_lines(given_lines: list[bytes]) -> None:
    places = [f"log:{number}" for number in range(len(given_lines))]
    one_by_one = clean(records_frame([decoded(*pair) for pair in zip(given_lines, places, strict=True)]), HOUR, END, TYPES)
    block = clean_batch(parsed(given_lines, places), HOUR, END, TYPES)
    accepted = block.accepted.to_pandas().astype({"timestamp": "datetime64[ns, UTC]"})
    assert in_order(accepted) == in_order(one_by_one.accepted)
    assert in_order(block.quarantined[one_by_one.quarantined.columns]) == in_order(one_by_one.quarantined)


def test_plain_lines_are_parsed_as_columns_and_keep_their_places() -> None:
    table = parsed([json.dumps(GOOD).encode() + b"\r\n"] * 3, ["a:1", "a:2", "a:3"])
    assert isinstance(table, pa.Table)
    assert table.column("source").to_pylist() == ["a:1", "a:2", "a:3"]
    assert isinstance(parsed([json.dumps({**GOOD, "timestamp": 1772353800}).encode()], ["a:1"]), pa.Table)


@pytest.mark.parametrize("odd", ODD_LINES)
def test_one_odd_line_does_not_change_the_others(odd: bytes) -> None:
    good = json.dumps(GOOD).encode()
    batch = clean_batch(parsed([good, odd, good], ["a:1", "a:2", "a:3"]), HOUR, END, TYPES)
    assert len(batch.accepted) == 2
    assert batch.quarantined["source"].tolist() == ["a:2"]
