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

from foreshard.observe.batches import ACCEPTED, clean_batch
from foreshard.observe.clean import clean
from foreshard.stores.files import json_lines
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
    accepted = block.accepted.cast(ACCEPTED).to_pandas().astype({"timestamp": "datetime64[ns, UTC]"})
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


tokens = st.sampled_from(
    [
        *(
            '"a"',
            '"5"',
            '"é"',
            '"東"',
            '""',
            '" "',
            '"a b"',
            r'"\u0061"',
            r'"\ud83d\ude00"',
            r'"\ud800"',
            r'"a\u0000b"',
            '"a\tb"',
        ),
        *(
            "5",
            "-5",
            "-0",
            "007",
            "1e3",
            "5.0",
            "0.1",
            "1.25",
            "0.30000000000000004",
            "1" * 15,
            "9" * 17,
            "9" * 25,
            "1e400",
            "-1",
        ),
        *(
            "null",
            "true",
            "false",
            "NaN",
            "[1]",
            '{"deep": 1}',
            "",
            "nul",
            '"open',
            '":"',
            '"}"',
            '"{"',
            "1772353800",
            "177235380000",
        ),
        *('"2026-03-01T08:10:00Z"', '"2026-03-01T08:10:00.123456+00:00"', '"read"', '"2026-03-01 08:10"'),
    ]
)
names = st.sampled_from(
    ["timestamp", "partitionable_key", "user_id", "request_type", "session_id", "cost", "other", "user\\u005fid"]
)
fields = st.lists(st.tuples(names, tokens), max_size=6)
GOOD_FIELDS = [
    ("timestamp", '"2026-03-01T08:30:00Z"'),
    ("partitionable_key", '"k"'),
    ("request_type", '"read"'),
    ("cost", "2.5"),
]


ENDS = [*[("{", "}")] * 8, ("{", ",}"), ("{", ""), ("", "}"), (" {", "} "), ("{", "}x"), ("{", "}\r")]


@st.composite
def raw_lines(draw: st.DrawFn) -> bytes:
    """A line of fields with any values, mostly a good one with some of its values replaced."""
    given = (
        draw(fields) if draw(st.integers(0, 3)) == 0 else [(name, draw(tokens | st.just(value))) for name, value in GOOD_FIELDS]
    )
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", ":"), (",,", ":")]))
    text = comma.join(f'"{name}"{colon}{value}' for name, value in given)
    ends = draw(st.sampled_from(ENDS))
    return f"{ends[0]}{text}{ends[1]}".encode()


@settings(max_examples=400, deadline=None)
@given(st.lists(raw_lines(), min_size=1, max_size=12), st.integers(1, 4))
def test_lines_of_any_form_are_read_like_python_reads_them(given_lines: list[bytes], chunk: int) -> None:
    block = b"".join(line + b"\n" for line in given_lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "CHUNK_LINES", chunk)
        batches = list(json_lines.parsed_lines(block, 1, "log"))
    records = [decoded(line, f"log:{place}") for place, line in enumerate(given_lines, 1) if line.strip()]
    exact = clean(records_frame(records), HOUR, END, TYPES)
    found = [clean_batch(batch, HOUR, END, TYPES) for batch in batches]
    accepted = pd.concat(
        [batch.accepted.cast(ACCEPTED).to_pandas().astype({"timestamp": "datetime64[ns, UTC]"}) for batch in found]
    )
    quarantined = pd.concat([batch.quarantined[exact.quarantined.columns] for batch in found])
    assert in_order(accepted) == in_order(exact.accepted)
    assert in_order(quarantined) == in_order(exact.quarantined)


def test_most_lines_of_a_log_with_a_few_odd_ones_are_parsed_at_once() -> None:
    lines = [json.dumps(GOOD).encode()] * 5_000
    lines[2_500] = b'{"broken'
    lines[4_999] = b"\xff"
    batches = list(json_lines.parsed_lines(b"\n".join(lines) + b"\n", 1, "log"))
    fast = sum(len(batch) for batch in batches if isinstance(batch, pa.Table))
    assert sum(map(len, batches)) == 5_000
    assert fast >= 3_000
