"""The access log's gate on a real log: each expectation trips on real bad data, and a month passes without an alarm."""

from dataclasses import replace
from datetime import datetime, timedelta

import pandas as pd
import pytest
from tests.unit.quality.sample_hours import SampleHours, at, counted

from foreshard.model import GateResult, HourCounts
from foreshard.quality import _access_log as access_log
from foreshard.quality._suite import Severity
from foreshard.quality.before import Before
from foreshard.quality.gates import check_access_log, judge_hour
from foreshard.settings import ObserveSettings

LIMITS = ObserveSettings.model_validate(
    {"request_types": {"checkout": {"kind": "write", "weight": 1}, "return": {"kind": "write", "weight": 2}}}
)
HOUR = at(6, 18, 16)


@pytest.fixture(scope="module")
def june() -> SampleHours:
    return SampleHours.read(at(6, 1), at(7, 1))


def judged(
    hours: SampleHours, records: pd.DataFrame, quarantined: dict[str, int] | None = None, hour: datetime = HOUR
) -> GateResult:
    """Return the gate's result for an hour of the sample with these records instead of its own."""
    found = counted(hour, records)
    bad = quarantined or {}
    return check_access_log(records, hour, found=found, quarantined=bad, limits=LIMITS, usual=hours.before(hour))


def blocked(result: GateResult) -> str:
    assert (result.passed, len(result.failures)) == (False, 1), result
    return result.failures[0]


def warned(result: GateResult) -> str:
    assert (result.passed, result.failures, len(result.warnings)) == (True, (), 1), result
    return result.warnings[0]


def later(records: pd.DataFrame, by: timedelta) -> pd.DataFrame:
    return records.assign(timestamp=records["timestamp"] + by)


def alarms(hours: SampleHours, hour: datetime, found: HourCounts | None = None) -> list[tuple[Severity, str]]:
    """Return the expectations on totals that the hour fails, without Great Expectations' half second for each hour."""
    suites = access_log.suites(hours.records[hour], found or hours.counts[hour], {}, LIMITS, hours.before(hour))
    failed = []
    for suite in suites[1:]:
        for one in suite.expectations:
            value, low, high = suite.frame[one.arguments["column"]][0], one.arguments["min_value"], one.arguments["max_value"]
            if (low is not None and value < low) or (high is not None and value > high):
                failed.append((one.severity, f"{hour:%d %H}: {one.failure}"))
    return failed


def test_a_month_of_the_sample_passes_without_an_alarm(june: SampleHours) -> None:
    hours = [hour for hour in june.records if hour >= at(6, 1)]
    assert len(hours) == 720
    assert [alarm for hour in hours for alarm in alarms(june, hour)] == []


def test_no_holiday_stops_an_hour_but_the_quiet_hours_are_shown() -> None:
    for since, until in ((at(7, 3), at(7, 7)), (at(11, 26), at(11, 30)), (at(12, 24), at(12, 31))):
        hours = SampleHours.read(since, until)
        found = [alarm for hour in hours.records if hour >= since for alarm in alarms(hours, hour)]
        assert [line for severity, line in found if severity is Severity.BLOCK] == []
        assert any("× the median of this hour in 4 earlier weeks" in line for _, line in found)


def test_an_hour_of_the_sample_is_what_the_other_tests_change(june: SampleHours) -> None:
    result = judged(june, june.records[HOUR])
    assert (result.passed, result.warnings, len(june.records[HOUR])) == (True, (), 229)


def test_an_import_finds_in_an_hour_what_the_gate_finds(june: SampleHours) -> None:
    records = june.records[HOUR]
    cases = {
        "as it is": records,
        "twice": pd.concat([records, records], ignore_index=True),
        "a third": records[::3],
        "half": records[records["timestamp"] < pd.Timestamp(HOUR) + pd.Timedelta(minutes=30)],
        "in another unit": records.assign(cost=1e6),
    }
    for name, changed in cases.items():
        with_gx = judged(june, changed, {"missing_key": 4})
        found = judge_hour(counted(HOUR, changed), {"missing_key": 4}, LIMITS, june.before(HOUR))
        assert (name, found.failures, found.warnings) == (name, with_gx.failures, with_gx.warnings)


def test_an_hour_that_was_delivered_twice_is_blocked(june: SampleHours) -> None:
    records = june.records[HOUR]
    line = "every record comes 2 times: the hour was delivered 2 times"
    result = judged(june, pd.concat([records, records], ignore_index=True))
    assert line in result.failures


def test_an_hour_with_twice_the_accesses_warns(june: SampleHours) -> None:
    hour = HOUR + timedelta(weeks=1)
    records = june.records[hour]
    more = pd.concat([records, later(records, timedelta(milliseconds=1))], ignore_index=True)
    assert "× the median of this hour in 4 earlier weeks (usual: " in warned(judged(june, more, hour=hour))


def test_ten_times_the_accesses_are_blocked(june: SampleHours) -> None:
    records = june.records[HOUR]
    more = pd.concat([later(records, timedelta(milliseconds=n)) for n in range(10)], ignore_index=True)
    assert "2,290 accesses, " in blocked(judged(june, more))


def test_a_quiet_hour_with_as_many_accesses_as_other_hours_have_only_warns(june: SampleHours) -> None:
    night = at(6, 18, 8)
    more = later(june.records[HOUR], night - HOUR + timedelta(milliseconds=7))
    line = warned(judged(june, more.assign(user_id="h2:another"), hour=night))
    assert line.startswith("229 accesses, ")


def test_a_source_that_comes_back_after_weeks_of_silence_only_warns(june: SampleHours) -> None:
    before = june.before(HOUR)
    silent = [counted(other.hour, june.records[HOUR][:0]) for other in before.others]
    weeks = [other for other in silent if other.hour in {week.hour for week in before.weeks}]
    records = june.records[HOUR]
    compared = Before(weeks, weeks, silent)
    result = check_access_log(records, HOUR, found=counted(HOUR, records), quarantined=0, limits=LIMITS, usual=compared)
    assert (result.failures, [line.split(",")[0] for line in result.warnings]) == ((), ["229 accesses"])


def test_a_third_of_the_accesses_warns(june: SampleHours) -> None:
    assert "77 accesses, 0.3" in warned(judged(june, june.records[HOUR][::3]))


def test_a_source_that_stops_in_the_middle_of_the_hour_is_blocked(june: SampleHours) -> None:
    records = june.records[HOUR]
    half = records[records["timestamp"] < pd.Timestamp(HOUR) + pd.Timedelta(minutes=30)]
    (line,) = judged(june, half).failures
    assert line.startswith("no access after minute 30, where ")
    assert line.endswith("has the log's source stopped?")


def test_a_small_hour_that_stops_at_half_past_is_blocked_by_its_own_pace(june: SampleHours) -> None:
    hour = at(6, 17, 21)
    records = june.records[hour]
    half = records[records["timestamp"] < pd.Timestamp(hour) + pd.Timedelta(minutes=30)]
    line = blocked(judged(june, half, hour=hour))
    assert (len(records), len(half)) == (68, 44)
    assert line.startswith("no access after minute 30, although 44 came before; by chance, that happens in one of ")


def test_nearly_every_hour_that_stops_at_half_past_is_found(june: SampleHours) -> None:
    busy = [hour for hour in june.records if hour >= at(6, 1) and june.counts[hour].accesses >= access_log.BUSY_HOUR]
    missed = []
    for hour in busy:
        counts = june.counts[hour]
        assert counts.facts is not None
        half = replace(counts, facts=replace(counts.facts, minutes=(*counts.facts.minutes[:30], *([0] * 30))))
        found = [severity for severity, line in alarms(june, hour, half) if "no access after minute" in line]
        missed += [] if Severity.BLOCK in found else [hour]
    assert (len(busy), len(missed)) == (389, 24)


def test_a_silence_that_ends_within_the_hour_warns(june: SampleHours) -> None:
    records = june.records[HOUR]
    minutes = (records["timestamp"] - pd.Timestamp(HOUR)) / pd.Timedelta(minutes=1)
    line = warned(judged(june, records[(minutes < 20) | (minutes >= 35)]))
    assert line.startswith("no access from minute 20 for 15 minutes, where ")


def test_costs_in_another_unit_are_blocked_in_both_directions(june: SampleHours) -> None:
    records = june.records[HOUR]
    weights = records["request_type"].map({"checkout": 1.0, "return": 2.0})
    for factor in (1000.0, 0.001):
        assert "× that of earlier weeks; is it in another unit?" in blocked(judged(june, records.assign(cost=weights * factor)))


def test_costs_that_double_warn(june: SampleHours) -> None:
    records = june.records[HOUR]
    weights = records["request_type"].map({"checkout": 1.0, "return": 2.0})
    assert "the cost of an access is " in warned(judged(june, records.assign(cost=weights * 2.5)))


def test_an_hour_without_users_warns(june: SampleHours) -> None:
    line = warned(judged(june, june.records[HOUR].assign(user_id=None)))
    assert line == "0 of the records have a user, in earlier weeks 1; co-access can't be found"


def test_a_type_that_nobody_knows_warns_below_the_share_that_blocks(june: SampleHours) -> None:
    line = warned(judged(june, june.records[HOUR], {"unknown_request_type": 12}))
    assert (
        line
        == "12 of 241 records are quarantined and not counted: unknown_request_type; foreshard observe check names the types"
    )


def test_one_bad_record_of_five_warns(june: SampleHours) -> None:
    quiet = at(6, 18, 8)
    line = warned(judged(june, june.records[quiet][:4], {"missing_key": 1}, hour=quiet))
    assert line == "quarantined share 0.2 > 0.05 (1 of 5 records)"


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)])
def test_the_records_of_another_hour_are_blocked(june: SampleHours, back: timedelta) -> None:
    again = later(june.records[HOUR - back], back)
    line = blocked(judged(june, again))
    assert line == f"the records are those of {HOUR - back:%Y-%m-%dT%HZ} again (about 100 % are the same)"


def test_hours_that_repeat_by_schedule_are_not_taken_for_one_hour_twice(june: SampleHours) -> None:
    records = june.records[HOUR]
    before = june.before(HOUR)
    same = [replace(counted(HOUR, records), hour=other.hour) for other in before.others]
    found = counted(HOUR, records)
    daily = [one if one.hour.hour == HOUR.hour else other for one, other in zip(same, before.others, strict=True)]
    for others in (same, daily):
        compared = replace(before, others=others)
        assert check_access_log(records, HOUR, found=found, quarantined=0, limits=LIMITS, usual=compared).failures == ()
    twice = [*before.others[:-2], *same[-2:]]
    result = check_access_log(records, HOUR, found=found, quarantined=0, limits=LIMITS, usual=replace(before, others=twice))
    assert "the records are those of " in blocked(result)


def test_an_hour_is_compared_with_weeks_of_its_own_source_if_there_are_enough(june: SampleHours) -> None:
    before = june.before(HOUR)
    small = [counted(week.hour, june.records[week.hour][::10], "another source") for week in before.weeks]
    mixed = replace(before, weeks=[*before.weeks, *small])
    records = june.records[HOUR][::10]

    def lines(source: str) -> tuple[str, ...]:
        found = counted(HOUR, records, source)
        return check_access_log(records, HOUR, found=found, quarantined=0, limits=LIMITS, usual=mixed).warnings

    assert "23 accesses, 0.09" in lines("the sample")[0]
    assert lines("another source") == ()


def test_a_busy_hour_is_blocked_when_it_is_empty_unless_some_days_are_quiet(june: SampleHours) -> None:
    before = june.before(HOUR)
    empty = june.records[HOUR][:0]
    weekdays = replace(before, days=[day for day in before.days if day.hour.weekday() < 5])

    def lines(compared: Before) -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = counted(HOUR, empty)
        result = check_access_log(empty, HOUR, found=found, quarantined=0, limits=LIMITS, usual=compared)
        return result.failures, result.warnings

    failures, _ = lines(weekdays)
    assert [line.endswith("is the log's source down?") for line in failures] == [True]
    failures, warnings = lines(before)
    assert failures == ()
    assert any(line.endswith("is the log's source down?") for line in warnings)
