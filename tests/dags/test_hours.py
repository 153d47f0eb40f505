"""The hour of a run, and whether it may act."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from hypothesis import given
from hypothesis import strategies as st

import foreshard_airflow
from foreshard_airflow import NEVER_RETRIED, as_xcom, hour_of, may_act, option, parse_hour

NOW = datetime(2026, 3, 1, 9, 5, tzinfo=UTC)
EIGHT = datetime(2026, 3, 1, 8, tzinfo=UTC)


def context(**given: Any) -> dict[str, Any]:
    return {"params": {}, "triggering_asset_events": {}, **given}


def triggered_by(**extra: Any) -> dict[str, Any]:
    return {"access_tally": [SimpleNamespace(extra=extra)]}


def test_the_partition_key_is_the_hour() -> None:
    assert hour_of(context(partition_key="2026-03-01T08:00:00"), NOW) == EIGHT


def test_without_a_partition_the_param_is_the_hour() -> None:
    assert hour_of(context(params={"hour": "2026-03-01T08:00:00Z"}), NOW) == EIGHT
    assert hour_of(context(params={"hour": "2026-03-01T10:00:00+02:00"}), NOW) == EIGHT


def test_a_manual_run_without_an_hour_takes_the_last_closed_one() -> None:
    assert hour_of(context(logical_date=NOW), NOW) == EIGHT
    assert hour_of(context(logical_date=None, dag_run=SimpleNamespace(run_after=NOW)), NOW) == EIGHT


def test_a_partition_and_a_param_must_agree() -> None:
    both = context(partition_key="2026-03-01T08:00:00", params={"hour": "2026-03-01T08:00:00+00:00"})
    assert hour_of(both, NOW) == EIGHT
    with pytest.raises(AirflowFailException, match="contradict"):
        hour_of(context(partition_key="2026-03-01T08:00:00", params={"hour": "2026-03-01T07:00:00"}), NOW)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-03-01T08:30:00", "2026-03-01T08:00:01"])
def test_other_text_fails_the_task_without_retries(text: str) -> None:
    with pytest.raises(AirflowFailException):
        parse_hour(text)


def test_an_hour_that_is_not_over_fails_the_task_without_retries() -> None:
    with pytest.raises(AirflowFailException, match="not over"):
        hour_of(context(partition_key="2026-03-01T09:00:00"), NOW)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(-14, 14))
def test_the_last_closed_hour_is_a_full_past_hour_of_the_last_two(moment: datetime, offset: int) -> None:
    run_after = moment.replace(tzinfo=timezone(timedelta(hours=offset)))
    hour = hour_of(context(logical_date=run_after), run_after)
    assert (hour.tzinfo, hour.minute, hour.second, hour.microsecond) == (UTC, 0, 0, 0)
    assert timedelta(hours=1) <= run_after - hour < timedelta(hours=2)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_a_partition_key_that_airflow_writes_is_read_back(moment: datetime) -> None:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    assert parse_hour(hour.strftime("%Y-%m-%dT%H:%M:%S")) == hour


def test_a_run_for_a_recent_hour_may_act_regardless_of_its_type() -> None:
    assert may_act(context(partition_key="2026-03-01T08:00:00"), NOW)


def test_a_backfilled_hour_is_acted_on_only_with_act_on_old_hours() -> None:
    old = context(partition_key="2026-02-28T08:00:00")
    assert not may_act(old, NOW)
    assert may_act({**old, "params": {"act_on_old_hours": True}}, NOW)
    assert may_act({**old, "triggering_asset_events": triggered_by(act_on_old_hours=True)}, NOW)


def test_a_dry_run_never_acts_wherever_it_was_set() -> None:
    fresh = context(partition_key="2026-03-01T08:00:00")
    assert not may_act({**fresh, "params": {"dry_run": True, "act_on_old_hours": True}}, NOW)
    assert not may_act({**fresh, "triggering_asset_events": triggered_by(dry_run=True)}, NOW)


def test_the_age_of_an_old_hour_is_a_param() -> None:
    run = context(partition_key="2026-03-01T05:00:00")
    assert may_act({**run, "params": {"hours_until_old": 4}}, NOW)
    assert not may_act({**run, "params": {"hours_until_old": 3}}, NOW)


def test_a_boolean_param_is_off_by_default() -> None:
    assert not option("dry_run", {})
    assert not option("dry_run", context(params={"dry_run": False}))
    assert not option("dry_run", context(triggering_asset_events={"access_tally": [SimpleNamespace(extra=None)]}))


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Summary:
    hour: datetime
    path: Path
    colour: Colour
    wait: timedelta
    counts: dict[str, int] = field(default_factory=dict)
    ids: tuple[str, ...] = ()


def test_a_summary_becomes_plain_json_values() -> None:
    summary = Summary(EIGHT, Path("a/b"), Colour.RED, timedelta(seconds=2), {"n": 1}, ("x", "y"))
    assert as_xcom(summary) == {
        "hour": "2026-03-01T08:00:00+00:00",
        "path": "a/b",
        "colour": "red",
        "wait": 2.0,
        "counts": {"n": 1},
        "ids": ["x", "y"],
    }


def test_other_values_such_as_data_frames_are_refused_for_xcom() -> None:
    import pandas as pd

    with pytest.raises(TypeError, match="DataFrame"):
        as_xcom({"rows": pd.DataFrame()})


def test_the_errors_that_are_never_retried_exist() -> None:
    from foreshard import errors

    assert all(issubclass(getattr(errors, name), errors.ForeshardError) for name in NEVER_RETRIED)


def test_amended_hours_are_announced_as_partitions_and_an_unchanged_log_skips_the_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partitions: list[str] = []
    event = SimpleNamespace(add_partitions=partitions.append, extra={})
    now = {**context(), "outlet_events": {foreshard_airflow.ACCESS_TALLY: event}}
    monkeypatch.setattr(foreshard_airflow, "get_current_context", lambda: now)
    with pytest.raises(AirflowSkipException):
        foreshard_airflow.announce_changed(foreshard_airflow.ACCESS_TALLY, [])
    assert partitions == []
    foreshard_airflow.announce_changed(foreshard_airflow.ACCESS_TALLY, as_xcom((datetime(2026, 3, 1, 8, tzinfo=UTC),)))
    assert partitions == ["2026-03-01T08:00:00"]
