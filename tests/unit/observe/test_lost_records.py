"""Valid records that were once lost, merged or shown: each stays one record with its own key, or is quarantined by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from foreshard.observe.batches import CleanBatch, batch_times, clean_batch
from foreshard.observe.hiding import Pseudonyms
from foreshard.observe.pseudonym import is_pseudonym
from foreshard.stores.files.json_lines import records_frame

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
KEY = b"the secret of the tests, 32 bytes"
LARGE = 2**53


def cleaned(batch: pd.DataFrame | pa.Table) -> CleanBatch:
    return clean_batch(batch, HOUR, HOUR + timedelta(hours=1), ["read"])


def access(**changes: Any) -> dict[str, Any]:
    return {"timestamp": HOUR.isoformat(), "partitionable_key": "k", "request_type": "read"} | changes


@pytest.mark.parametrize("column", ["partitionable_key", "user_id", "session_id"])
def test_large_integers_in_a_column_with_a_gap_stay_different(column: str) -> None:
    values = [*range(LARGE, LARGE + 99), None]
    table = pa.table(
        {"timestamp": [HOUR] * 100, "partitionable_key": ["k"] * 100, "request_type": ["read"] * 99 + [None]}
        | {column: pa.array(values, pa.int64())}
    )
    found = cleaned(table)
    assert set(found.accepted.column(column).to_pylist()) == {str(value) for value in values[:99]}


@pytest.mark.parametrize("column", ["partitionable_key", "user_id", "session_id", "location", "request_type"])
@pytest.mark.parametrize("as_table", [True, False])
def test_texts_that_differ_behind_a_nul_are_never_merged(column: str, as_table: bool) -> None:
    values = ["read", "read\0y", "read\0z", "read\0"]
    records = records_frame([access(**{column: value}) for value in values])
    batch = pa.Table.from_pandas(records.drop(columns=["malformed", "source"]), preserve_index=False) if as_table else records
    found = cleaned(batch)
    assert found.accepted.column(column).to_pylist() == ["read"]
    assert found.quarantined["reason"].tolist() == ["nul_in_text"] * 3


def test_true_and_one_are_different_keys() -> None:
    found = cleaned(records_frame([access(partitionable_key=value) for value in (True, 1, 1.0, "1")]))
    assert found.accepted.column("partitionable_key").to_pylist() == ["True", "1", "1", "1"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cost": 10**400}, "unparsable_cost"),
        ({"cost": True}, "unparsable_cost"),
        ({"timestamp": 10**400}, "unparsable_time"),
        ({"timestamp": datetime(9999, 1, 1, tzinfo=UTC)}, "unparsable_time"),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "unparsable_time"),
        ({"partitionable_key": 10**5000}, "unreadable_key"),
    ],
)
def test_a_number_out_of_all_range_is_one_quarantined_record(change: dict[str, Any], reason: str) -> None:
    found = cleaned(records_frame([access(), access(**change), access()]))
    assert (len(found.accepted), found.quarantined["reason"].tolist()) == (2, [reason])


def test_a_time_of_the_year_9999_in_a_typed_column_is_one_quarantined_record() -> None:
    times = pa.array([HOUR, datetime(9999, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    table = pa.table({"timestamp": times, "partitionable_key": ["a", "b"], "request_type": ["read"] * 2})
    assert batch_times(table).isna().tolist() == [False, True]
    found = cleaned(table)
    assert found.accepted.column("partitionable_key").to_pylist() == ["a"]
    assert found.quarantined["reason"].tolist() == ["unparsable_time"]


def test_sessions_are_stored_as_pseudonyms_like_users() -> None:
    records = records_frame([access(session_id="cookie", user_id="cookie"), access(session_id="cookie"), access()])
    hidden = Pseudonyms(lambda: KEY).of(cleaned(records)).accepted
    first, second, none = hidden.column("session_id").to_pylist()
    assert first == second
    assert is_pseudonym(first)
    assert none is None
    assert hidden.column("user_id").to_pylist()[0] not in (first, "cookie")


def test_the_quarantine_shows_no_value_that_may_be_an_identity() -> None:
    numeric = access(timestamp="4711", cost="4711", request_type="4711", user_id="read", source="a.csv:4")
    shifted = access(timestamp="ann@example.org", partitionable_key="ann", request_type="ann", user_id="read", session_id="ann")
    records = records_frame(
        [shifted | {"location": "ann", "cost": "ann", "source": "a.csv:2"}, access(cost=-1, source="a.csv:3"), numeric]
    )
    bad = Pseudonyms(lambda: KEY, ["read"]).of(cleaned(records)).quarantined
    assert "ann" not in bad.to_json()
    assert "4711" not in bad.to_json()
    assert bad["source"].tolist() == ["a.csv:2", "a.csv:3", "a.csv:4"]
    assert bad[["timestamp", "request_type", "cost"]].iloc[1].tolist() == [HOUR.isoformat(), "read", "-1"]


def test_equal_hidden_values_can_be_seen_to_be_equal() -> None:
    records = records_frame([access(request_type=value) for value in ("explode", "explode", "vanish")])
    first, second, third = Pseudonyms(lambda: KEY, ["read"]).of(cleaned(records)).quarantined["request_type"]
    assert first == second != third
