import decimal
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.model.key_space import KeyType
from foreshard.observe.clean import MAXIMUM_KEY_BYTES, Cleaned, QuarantineReason, clean

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)
INSIDE = HOUR + timedelta(minutes=12)
TYPES = ("read", "write")


def good(**changes: Any) -> dict[str, Any]:
    return {"timestamp": INSIDE, "partitionable_key": "a", "user_id": "u", "request_type": "read", **changes}


def cleaned(*records: dict[str, Any]) -> Cleaned:
    return clean(pd.DataFrame(list(records)), HOUR, HOUR + timedelta(hours=1), TYPES)


def reason_of(record: dict[str, Any]) -> str | None:
    found = cleaned(record)
    assert len(found.accepted) + len(found.quarantined) == 1
    return found.quarantined["reason"].iloc[0] if len(found.quarantined) else None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"partitionable_key": None}, QuarantineReason.MISSING_KEY),
        ({"partitionable_key": ""}, QuarantineReason.MISSING_KEY),
        ({"partitionable_key": " \t "}, QuarantineReason.MISSING_KEY),
        ({"partitionable_key": float("nan")}, QuarantineReason.MISSING_KEY),
        ({"partitionable_key": pd.NA}, QuarantineReason.MISSING_KEY),
        ({"partitionable_key": "\ud800"}, QuarantineReason.UNREADABLE_KEY),
        ({"partitionable_key": ["a", "b"]}, QuarantineReason.UNREADABLE_KEY),
        ({"partitionable_key": {"a": 1}}, QuarantineReason.UNREADABLE_KEY),
        ({"partitionable_key": "é" * (MAXIMUM_KEY_BYTES // 2 + 1)}, QuarantineReason.UNREADABLE_KEY),
        ({"timestamp": None}, QuarantineReason.MISSING_TIME),
        ({"timestamp": ""}, QuarantineReason.MISSING_TIME),
        ({"timestamp": pd.NaT}, QuarantineReason.MISSING_TIME),
        ({"timestamp": "soon"}, QuarantineReason.UNPARSABLE_TIME),
        ({"timestamp": "2014-13-45T99:00:00Z"}, QuarantineReason.UNPARSABLE_TIME),
        ({"timestamp": [2014]}, QuarantineReason.UNPARSABLE_TIME),
        ({"timestamp": True}, QuarantineReason.UNPARSABLE_TIME),
        ({"timestamp": float("inf")}, QuarantineReason.UNPARSABLE_TIME),
        ({"timestamp": 1e30}, QuarantineReason.UNPARSABLE_TIME),
        ({"timestamp": HOUR - timedelta(microseconds=1)}, QuarantineReason.OUT_OF_HOUR),
        ({"timestamp": HOUR + timedelta(hours=1)}, QuarantineReason.OUT_OF_HOUR),
        ({"timestamp": 0}, QuarantineReason.OUT_OF_HOUR),
        ({"request_type": None}, QuarantineReason.MISSING_REQUEST_TYPE),
        ({"request_type": ""}, QuarantineReason.MISSING_REQUEST_TYPE),
        ({"request_type": "explode"}, QuarantineReason.UNKNOWN_REQUEST_TYPE),
        ({"request_type": {"a": 1}}, QuarantineReason.UNKNOWN_REQUEST_TYPE),
        ({"cost": -0.5}, QuarantineReason.NEGATIVE_COST),
        ({"cost": "-1"}, QuarantineReason.NEGATIVE_COST),
        ({"cost": "much"}, QuarantineReason.UNPARSABLE_COST),
        ({"cost": float("inf")}, QuarantineReason.UNPARSABLE_COST),
        ({"cost": [1.0]}, QuarantineReason.UNPARSABLE_COST),
        ({"malformed": True}, QuarantineReason.MALFORMED),
    ],
)
def test_a_bad_record_is_quarantined_with_its_reason(change: dict[str, Any], reason: QuarantineReason) -> None:
    assert reason_of(good(**change)) == reason


@pytest.mark.parametrize(
    "moment",
    [
        INSIDE,
        INSIDE.replace(tzinfo=None),
        pd.Timestamp(INSIDE),
        np.datetime64("2014-11-20T08:12:00"),
        "2014-11-20T08:12:00Z",
        "2014-11-20T09:12:00+01:00",
        "2014-11-20 08:12:00",
        " 2014-11-20T08:12:00.000000000Z ",
        int(INSIDE.timestamp()),
        INSIDE.timestamp(),
        int(INSIDE.timestamp()) * 10**3,
        int(INSIDE.timestamp()) * 10**6,
        int(INSIDE.timestamp()) * 10**9,
        str(int(INSIDE.timestamp())),
        f"{INSIDE.timestamp():.3f}",
    ],
)
def test_common_time_formats_are_parsed(moment: Any) -> None:
    found = cleaned(good(timestamp=moment))
    assert found.accepted["timestamp"].tolist() == [pd.Timestamp(INSIDE)]


def test_one_column_may_hold_times_in_many_forms() -> None:
    moments = [
        INSIDE,
        "2014-11-20T08:12:00Z",
        int(INSIDE.timestamp()),
        INSIDE.replace(tzinfo=None),
        "x",
        None,
        [1],
        date(2014, 1, 1),
    ]
    found = cleaned(*(good(timestamp=moment) for moment in moments))
    assert found.accepted["timestamp"].tolist() == [pd.Timestamp(INSIDE)] * 4
    assert found.quarantined["reason"].tolist() == ["unparsable_time", "missing_time", "unparsable_time", "out_of_hour"]


def test_fractions_of_a_second_survive() -> None:
    found = cleaned(good(timestamp="2014-11-20T08:12:00.123456Z"), good(timestamp=int(INSIDE.timestamp()) * 1000 + 789))
    assert found.accepted["timestamp"].dt.microsecond.tolist() == [123456, 789000]


def test_numeric_keys_keep_their_text_even_in_columns_with_gaps() -> None:
    keys = [5, 5.0, "5", 5.5, True, decimal.Decimal(7), b"raw", " a "]
    found = cleaned(*(good(partitionable_key=key) for key in keys))
    assert found.accepted["partitionable_key"].tolist() == ["5", "5", "5", "5.5", "True", "7", "raw", " a "]
    gapped = clean(pd.DataFrame([good(session_id=1), good(session_id=None)]), HOUR, HOUR + timedelta(hours=1), TYPES)
    assert gapped.accepted["session_id"].tolist() == ["1", None]


def test_missing_optional_columns_are_added_and_other_columns_dropped() -> None:
    found = cleaned({"timestamp": INSIDE, "partitionable_key": "a", "request_type": "read", "email": "ann@example.org"})
    assert tuple(found.accepted.columns) == ACCESS_LOG_COLUMNS
    assert "email" not in found.quarantined
    assert found.accepted[["user_id", "location", "session_id", "cost"]].isna().all(axis=None)


def test_missing_users_in_all_their_forms_are_missing() -> None:
    found = cleaned(*(good(user_id=user) for user in (None, float("nan"), "", " ", pd.NA)))
    assert found.accepted["user_id"].tolist() == [None] * 5


def test_equal_records_are_separate_accesses() -> None:
    frame = pd.DataFrame([good(), good(), good(partitionable_key=None)], index=[3, 3, 3])
    found = clean(frame, HOUR, HOUR + timedelta(hours=1), TYPES)
    assert len(found.accepted) == 2
    assert found.quarantined["reason"].tolist() == ["missing_key"]


def test_a_missing_cost_is_nan_and_a_given_one_is_parsed() -> None:
    found = cleaned(good(cost=None), good(cost="2.5"), good(cost=""), good(cost=0))
    assert found.accepted["cost"].fillna(-1).tolist() == [-1, 2.5, -1, 0]


def test_an_empty_frame_is_clean() -> None:
    found = clean(pd.DataFrame(), HOUR, HOUR + timedelta(hours=1), TYPES)
    assert len(found.accepted) == len(found.quarantined) == 0
    assert tuple(found.accepted.columns) == ACCESS_LOG_COLUMNS
    assert str(found.accepted["timestamp"].dtype) == "datetime64[ns, UTC]"


def test_a_quarantined_record_keeps_its_values_and_source() -> None:
    found = cleaned(good(timestamp="soon", cost=3, source="log.jsonl:7", partitionable_key=12))
    row = found.quarantined.iloc[0]
    assert (row["timestamp"], row["partitionable_key"], row["cost"], row["source"]) == ("soon", "12", "3", "log.jsonl:7")


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.datetimes(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
    st.just(INSIDE),
    st.just("a"),
    st.just("read"),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(ACCESS_LOG_COLUMNS, _VALUES)), max_size=6))
def test_every_record_is_either_accepted_or_quarantined(records: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame({name: pd.Series([r.get(name) for r in records], dtype=object) for name in ACCESS_LOG_COLUMNS})
    found = clean(frame, HOUR, HOUR + timedelta(hours=1), TYPES)
    assert len(found.accepted) + len(found.quarantined) == len(records)
    assert found.accepted["partitionable_key"].map(lambda key: isinstance(key, str) and bool(key.strip())).all()
    assert found.accepted["request_type"].isin(TYPES).all()
    assert found.accepted["timestamp"].between(HOUR, HOUR + timedelta(hours=1), inclusive="left").all()
    assert not (found.accepted["cost"] < 0).any()
    assert found.quarantined["reason"].isin([str(reason) for reason in QuarantineReason]).all()
    for column in found.quarantined.columns:
        assert found.quarantined[column].map(lambda value: value is None or isinstance(value, str)).all()


@pytest.mark.parametrize(
    ("key_type", "key", "accepted"),
    [
        (KeyType.INT, 5, "5"),
        (KeyType.INT, 5.0, "5"),
        (KeyType.INT, "five", None),
        (KeyType.INT, "007", None),
        (KeyType.OBJECT_ID, "64B00000000000000000000A", "64b00000000000000000000a"),
        (KeyType.OBJECT_ID, "64b0", None),
        (KeyType.UUID, "0D54A85F-02C9-4B59-A5C0-A4A6BBD4BE26", "0d54a85f-02c9-4b59-a5c0-a4a6bbd4be26"),
        (KeyType.UUID, "5", None),
        (KeyType.STRING, "\x1f5", None),
    ],
)
def test_keys_are_parsed_to_the_collections_key_type_or_quarantined_with_that_reason(key_type, key, accepted) -> None:
    found = clean(pd.DataFrame([good(partitionable_key=key)]), HOUR, HOUR + timedelta(hours=1), TYPES, key_type)
    assert found.accepted["partitionable_key"].tolist() == ([accepted] if accepted else [])
    assert found.quarantined["reason"].tolist() == ([] if accepted else [QuarantineReason.KEY_OF_ANOTHER_TYPE])
