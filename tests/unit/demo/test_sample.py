from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.demo._sample import LATEST_END, ONE_WEEK, load_sample, whole_weeks, with_lookups

END = datetime(2026, 11, 23, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def sample():
    return load_sample(END)


@given(st.datetimes(datetime(2014, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))
def test_the_shift_is_whole_weeks_and_ends_the_log_in_its_last_ordinary_week(end: datetime) -> None:
    shift = whole_weeks(end)
    assert shift % ONE_WEEK == timedelta(0)
    assert LATEST_END - ONE_WEEK < end - shift <= LATEST_END


def test_the_sample_ends_within_its_last_full_hour(sample) -> None:
    assert END - timedelta(hours=1) <= sample.accesses["timestamp"].max() < END


def test_weekdays_and_hours_of_the_original_log_are_kept(sample) -> None:
    busiest = sample.accesses["timestamp"].dt.dayofweek.value_counts()
    assert set(busiest.index[:5]) == {0, 1, 2, 3, 4}


def test_doubling_the_riders_doubles_accesses_and_keeps_every_session_to_one_rider(sample) -> None:
    doubled = load_sample(END, riders=2)
    assert len(doubled.accesses) == 2 * len(sample.accesses)
    assert doubled.accesses.groupby("session_id")["user_id"].nunique().max() == 1


def test_lookups_stay_in_the_hour_of_their_access(sample) -> None:
    accesses = sample.accesses.tail(2_000)
    log = with_lookups(accesses, 3)
    hourly = accesses["timestamp"].dt.floor("h").value_counts().sort_index()
    reads = log[log["request_type"] == "read"]["timestamp"].dt.floor("h").value_counts().sort_index()
    pd.testing.assert_series_equal(reads, 3 * hourly)


def test_every_checkout_inserts_its_trip(sample) -> None:
    accesses = sample.accesses.tail(2_000)
    counts = with_lookups(accesses, 0)["request_type"].value_counts()
    assert counts["insert"] == counts["checkout"]
