"""The gates of the log and the forecasts with Great Expectations: what passes, what fails, and the messages."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foreshard.model import (
    ForecastBatch,
    GateResult,
    HourCounts,
    Reason,
)
from foreshard.quality.gates import check_access_log, check_forecasts
from foreshard.settings import ObserveSettings

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)
LIMITS = ObserveSettings()
WHY = Reason("test", "for the test")


def log(rows: int = 200, keys: int = 40, **changes: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "timestamp": pd.Timestamp(HOUR) + pd.to_timedelta(np.linspace(0, 3599, rows), unit="s"),
            "partitionable_key": [f"k{n % keys}" for n in range(rows)],
            "request_type": ["read"] * rows,
            "cost": [1.0] * rows,
        }
    )
    return frame.assign(**changes)


def weeks(*accesses: int, keys: int = 40) -> list[HourCounts]:
    return [HourCounts(HOUR - timedelta(weeks=n), count, keys) for n, count in enumerate(accesses, 1)]


def failures(result: GateResult) -> tuple[str, ...]:
    assert result.passed == (not result.failures)
    assert all("\n" not in line for line in result.failures)
    return result.failures


class TestAccessLog:
    def check(self, frame: pd.DataFrame, quarantined: int = 0, usual: list[HourCounts] | None = None) -> tuple[str, ...]:
        return failures(check_access_log(frame, HOUR, quarantined=quarantined, limits=LIMITS, usual=usual or weeks(210, 190)))

    def test_a_normal_hour_passes(self) -> None:
        result = check_access_log(log(), HOUR, quarantined=5, limits=LIMITS, usual=weeks(210, 190))
        assert result == GateResult("access_log", HOUR, True, (), 8)

    def test_too_many_bad_records_fail_with_their_number(self) -> None:
        assert self.check(log(340), 160) == ("quarantined share 0.32 > 0.05 (160 of 500 records)",)

    def test_exactly_the_allowed_share_of_bad_records_passes(self) -> None:
        assert self.check(log(190), 10) == ()

    def test_an_empty_hour_passes_if_earlier_weeks_were_quiet_or_unknown(self) -> None:
        assert self.check(log(0), usual=weeks(3, 0, 12, 1)) == ()
        assert self.check(log(0), usual=weeks(5000, 4000, 12)) == ()
        assert failures(check_access_log(log(0), HOUR, quarantined=0, limits=LIMITS)) == ()

    def test_an_empty_hour_fails_if_earlier_weeks_were_busy(self) -> None:
        (accesses, keys) = self.check(log(0), usual=weeks(5000, 4000))[0], self.check(log(0), usual=weeks(5000, 4000))[1:]
        assert accesses == "0 accesses < 90: this hour of earlier weeks had 4,500; is the log's source down?"
        assert keys == ()

    def test_a_collapse_to_one_key_fails(self) -> None:
        assert self.check(log(keys=1)) == ("1 distinct keys < 4: this hour of earlier weeks had 40",)

    def test_few_accesses_need_not_touch_many_keys(self) -> None:
        assert self.check(log(10, keys=2), usual=weeks(60, 60, keys=1000)) == ()

    def test_records_that_cleaning_missed_fail(self) -> None:
        frame = log(4, keys=4)
        frame.loc[0, "partitionable_key"] = None
        frame.loc[1, "timestamp"] = pd.Timestamp(HOUR) + pd.Timedelta(hours=1)
        frame.loc[2, "request_type"] = "explode"
        frame.loc[3, "cost"] = -1
        lines = self.check(frame, usual=weeks(1))
        assert lines == (
            "1 of 4 records have no partitionable key",
            "1 of 4 records are outside the hour (seconds after its start: 3600.0)",
            "1 of 4 records have an unknown request type ('explode'); add it to observe.request_types",
            "1 of 4 records have a negative cost (-1.0)",
        )

    def test_a_log_without_measured_costs_passes(self) -> None:
        assert self.check(log().drop(columns="cost")) == ()


def batch(keys: tuple[str, ...] = ("a", "b"), horizon: int = 24, **changes: Any) -> ForecastBatch:
    mean = np.full((len(keys), horizon), 10.0)
    made = ForecastBatch(HOUR, 0.9, keys, mean, mean / 10, mean * 1.2, ("prophet",) * len(keys))
    return replace(made, **changes)


class TestForecasts:
    HISTORY = 20 + 5 * np.sin(np.arange(672) / 24 * 2 * np.pi)

    def check(self, made: ForecastBatch, keys: tuple[str, ...] = ("a", "b"), **more: Any) -> tuple[str, ...]:
        options = {"history_totals": self.HISTORY, "fallback_models": ("recent_mean",), "minimum_history_hours": 48, **more}
        return failures(check_forecasts(made, keys, 24, **options))

    def test_sane_forecasts_pass(self) -> None:
        assert self.check(batch()) == ()

    def test_no_keys_and_no_history_pass(self) -> None:
        assert self.check(batch(()), (), history_totals=()) == ()

    def test_missing_unexpected_and_repeated_keys_are_named(self) -> None:
        lines = self.check(batch(("a", "a", "x")), ("a", "b"))
        assert lines == (
            "2 of 3 forecasts are for a key with more than one forecast ('a')",
            "1 of 2 keys of the history have no forecast ('b')",
            "1 forecasts are for keys that are not in the history ('x')",
        )

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_forecast_that_is_not_a_number_fails(self, value: float) -> None:
        for name in ("mean", "sigma", "upper"):
            wrong = getattr(batch(), name).copy()
            wrong[1, 7] = value
            assert "1 of 2 keys have NaN or inf in their forecast" in self.check(batch(**{name: wrong}))

    def test_negative_means_and_spreads_and_an_upper_below_the_mean_fail(self) -> None:
        mean = batch().mean.copy()
        mean[0, 3] = -4.0
        assert self.check(batch(mean=mean)) == ("1 of 2 keys have a negative mean (-4.0)",)
        assert self.check(batch(sigma=-mean)) == ("2 of 2 keys have a negative spread (-10.0)",)
        assert len(self.check(batch(upper=batch().mean * 0.5))) == 1

    def test_an_upper_equal_to_the_mean_passes(self) -> None:
        assert self.check(batch(upper=batch().mean)) == ()

    def test_a_wrong_horizon_fails(self) -> None:
        lines = self.check(batch(horizon=12))
        assert "the horizon is 12 hours, not 24" in lines

    def test_a_total_far_from_the_history_fails_on_both_sides(self) -> None:
        for factor in (4.0, 0.1):
            made = batch(mean=batch().mean * factor, upper=batch().upper * factor)
            (line,) = self.check(made)
            assert line.startswith(f"the forecast's total cost over 24 hours is {480 * factor:,.0f}, outside 160 … 1,440")

    def test_too_short_a_history_only_limits_from_above(self) -> None:
        assert self.check(batch(mean=batch().mean * 0.01), history_totals=[20.0] * 30) == ()
        assert len(self.check(batch(mean=batch().mean * 9, upper=batch().mean * 10), history_totals=[20.0] * 30)) == 1

    def test_fallbacks_may_forecast_sparse_keys_but_not_most_of_the_cost(self) -> None:
        mean = np.vstack([np.full(24, 19.0), np.full(24, 1.0)])
        sparse = batch(mean=mean, upper=mean * 1.2, models=("prophet", "recent_mean"))
        heavy = batch(mean=mean, upper=mean * 1.2, models=("recent_mean", "prophet"))
        assert self.check(sparse) == ()
        assert self.check(heavy) == (
            "fallbacks forecast 0.95 > 0.5 of the cost (1 of 2 keys), although the history is long enough",
        )
        assert self.check(heavy, history_totals=[20.0] * 47) == ()

    @staticmethod
    def past(forecasts: float, naive: float, count: int = 168) -> list[tuple[float, float]]:
        return [(forecasts * (1 + n % 7 / 100), naive) for n in range(count)]

    def test_forecasts_that_err_more_than_last_weeks_load_warn_and_much_worse_ones_stop_the_hour(self) -> None:
        options = {"history_totals": self.HISTORY, "minimum_history_hours": 48}
        result = check_forecasts(batch(), ("a", "b"), 24, past=self.past(0.6, 0.5), **options)
        line = "the error of the last 168 measured forecasts is 1.236 × that of last week's load as the forecast"
        assert (result.passed, result.warnings) == (True, (f"{line} (limit: 1.1)",))
        result = check_forecasts(batch(), ("a", "b"), 24, past=self.past(0.9, 0.5), **options)
        assert (result.passed, result.final) == (False, ())
        assert result.failures == (line.replace("1.236", "1.854") + " (limit: 1.5)",)

    def test_one_odd_day_or_few_measured_forecasts_say_nothing_about_the_next(self) -> None:
        odd = [*self.past(0.4, 0.5, 120), *self.past(3.0, 0.5, 47)]
        assert self.check(batch(), past=odd) == ()
        assert self.check(batch(), past=self.past(3.0, 0.5, 47)) == ()

    def test_a_person_can_accept_a_judgement_but_not_a_broken_forecast(self) -> None:
        mean = batch().mean.copy()
        mean[0, 0] = np.nan
        broken = check_forecasts(batch(mean=mean), ("a", "b"), 24, past=self.past(0.9, 0.5), minimum_history_hours=48)
        assert (len(broken.failures), broken.final) == (2, ("1 of 2 keys have NaN or inf in their forecast",))
