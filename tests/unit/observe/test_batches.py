"""Cleaning by column accepts what cleaning by value accepts, and gives the same values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.model.key_space import KeyType
from foreshard.observe.batches import ACCEPTED, CODED, clean_batch
from foreshard.observe.clean import clean
from foreshard.observe.hiding import Pseudonyms
from foreshard.observe.pseudonym import SESSION, USER, pseudonym, pseudonyms

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
END = HOUR + timedelta(hours=1)
TYPES = ("read", "write")
ODD_TEXTS = ["", " ", "\t", "\x1f1", "\u00a0", "東京", "é", "a b", "0", "007", "-3", "9" * 19, "x" * 1025, "A" * 24, "ab" * 12]

texts = st.none() | st.sampled_from(["a", "b", "read", "write", *ODD_TEXTS]) | st.text(max_size=4)
times = st.none() | st.datetimes(datetime(2026, 3, 1, 7, 59), datetime(2026, 3, 1, 9, 1)).map(lambda at: at.replace(tzinfo=UTC))
costs = st.none() | st.floats(-1, 10) | st.sampled_from([float("nan"), float("inf"), 0.0, -0.0])


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    size = draw(st.integers(0, 12))

    def column(values: st.SearchStrategy[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(draw(st.lists(values, min_size=size, max_size=size)), kind)

    columns = {name: column(texts, pa.string()) for name in ACCESS_LOG_COLUMNS[1:6]}
    columns["request_type"] = column(st.sampled_from(["read", "write", "explode", None, " "]), pa.string())
    if draw(st.booleans()):
        columns["timestamp"] = column(times, pa.timestamp("us", tz="UTC"))
    else:
        columns["timestamp"] = column(times.map(lambda at: at and at.isoformat()) | st.just("soon"), pa.string())
    if draw(st.booleans()):
        columns["cost"] = column(costs, pa.float64())
    if draw(st.booleans()):
        columns["session_id"] = column(st.none() | st.integers(0, 2**40), pa.int64())
    for name in draw(st.sets(st.sampled_from(["user_id", "location", "session_id"]))):
        columns.pop(name, None)
    return pa.table(columns)


def in_order(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple("None" if pd.isna(value) else repr(value) for value in row) for row in frame.itertuples(index=False))


@settings(max_examples=100, deadline=None)
@given(tables(), st.sampled_from(list(KeyType)))
def test_columns_are_cleaned_like_values(table: pa.Table, key_type: KeyType) -> None:
    slowly = clean(table.to_pandas(), HOUR, END, TYPES, key_type)
    batch = clean_batch(table, HOUR, END, TYPES, key_type)
    assert batch.accepted.schema.equals(CODED)
    accepted = batch.accepted.cast(ACCEPTED).to_pandas().astype({"timestamp": "datetime64[ns, UTC]"})
    assert in_order(accepted) == in_order(slowly.accepted)
    assert in_order(batch.quarantined[slowly.quarantined.columns]) == in_order(slowly.quarantined)


def test_columns_of_other_types_are_cleaned_by_value() -> None:
    table = pa.table({"timestamp": [HOUR] * 2, "partitionable_key": [1.0, 2.5], "request_type": ["read", "read"]})
    assert clean_batch(table, HOUR, END, TYPES).accepted.column("partitionable_key").to_pylist() == ["1", "2.5"]


def test_each_user_is_hashed_once_and_pseudonyms_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []

    def key() -> bytes:
        keys.append(b"secret")
        return b"secret"

    hide = Pseudonyms(key)
    known = pseudonym(b"secret", "z")
    frame = pd.DataFrame(
        {"timestamp": HOUR, "partitionable_key": "k", "request_type": "read", "user_id": ["u", known, None, "u"]}
    )
    for _ in range(2):
        made = hide.of(clean_batch(frame, HOUR, END, TYPES)).accepted.column("user_id").to_pylist()
        assert made == [pseudonym(b"secret", "u"), known, None, pseudonym(b"secret", "u")]
    assert len(keys) == 1
    assert Pseudonyms(lambda: pytest.fail("no secret is needed")).of(clean_batch(frame[2:3], HOUR, END, TYPES))


def test_each_name_keeps_its_own_pseudonym_over_batches_with_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counted(key: Any, names: Any, of: bytes = USER) -> list[str]:
        hashed.extend(names)
        return pseudonyms(key, names, of)

    monkeypatch.setattr("foreshard.observe.hiding.pseudonyms", counted)
    hide, expected = Pseudonyms(lambda: b"secret"), {}
    for first in (0, 5, 40, 3, 0):
        users = [f"u{n}" for n in range(first, first + 30)]
        expected |= {name: pseudonym(b"secret", name) for name in users}
        frame = pd.DataFrame(
            {"timestamp": HOUR, "partitionable_key": "k", "request_type": "read", "user_id": users, "session_id": users}
        )
        accepted = hide.of(clean_batch(frame, HOUR, END, TYPES)).accepted
        assert accepted.column("user_id").to_pylist() == [expected[name] for name in users]
        assert accepted.column("session_id").to_pylist() == [pseudonym(b"secret", name, SESSION) for name in users]
    assert sorted(hashed) == sorted([*expected, *expected])
