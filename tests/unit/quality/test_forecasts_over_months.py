"""The forecasts' gate over real months of the sample, and over months of forecasts that are worse than last week's load.

``forecast_errors.csv``: the error (WAPE over the horizon) of the default engine's forecasts of all 74 stations, made every six
hours, and that of last week's load as the forecast.
"""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.quality.sample_hours import SAMPLE, WEIGHTS, at

from foreshard.model import HOURS_PER_WEEK, ForecastBatch
from foreshard.quality import _forecasts as forecasts
from foreshard.quality._suite import Severity

HORIZON, EVERY = 24, 6
MEASURED = pd.read_csv(Path(__file__).with_name("forecast_errors.csv"), parse_dates=["made_for"])
Errors = list[tuple[float, float]]


def findings(past: Errors) -> list[Severity]:
    """Return the severity of what the gate finds in each week of errors that it would look at."""
    flat = np.ones((1, HORIZON))
    batch = ForecastBatch(at(6, 30), 0.9, ("a",), flat, flat / 10, flat * 1.2, ("prophet",))
    hourly = [pair for pair in past for _ in range(EVERY)]
    found = []
    for end in range(HOURS_PER_WEEK, len(hourly) + 1, EVERY):
        judged = forecasts.suites(batch, ("a",), HORIZON, np.ones(0), (), 48, hourly[end - HOURS_PER_WEEK : end])[-1]
        (expectation,) = judged.expectations
        value, limit = judged.frame[expectation.arguments["column"]].iloc[0], expectation.arguments["max_value"]
        found += [expectation.severity] if value > limit else []
    return found


@pytest.mark.parametrize(("since", "until"), [(at(6, 1), at(7, 1)), (at(11, 20), at(12, 31))])
def test_months_of_real_forecasts_pass_without_an_alarm_holidays_included(since: pd.Timestamp, until: pd.Timestamp) -> None:
    month = MEASURED[(MEASURED["made_for"] >= since) & (MEASURED["made_for"] < until)]
    assert len(month) >= 120
    assert findings(list(zip(month["forecast"], month["last_week"], strict=True))) == []


@pytest.mark.parametrize(
    ("late", "factor", "expected"), [(1, 1.0, {Severity.WARN}), (2, 1.0, {Severity.BLOCK}), (0, 2.0, {Severity.BLOCK})]
)
def test_forecasts_an_hour_late_warn_and_worse_ones_stop_the_hour(late: int, factor: float, expected: set[Severity]) -> None:
    """Last week's load is the forecast: on time, late, or with a wrong factor."""
    frame = pd.read_parquet(SAMPLE)
    hours = pd.to_datetime(frame["timestamp"], utc=True).dt.floor("h")
    costs = frame["request_type"].map(WEIGHTS).groupby([frame["partitionable_key"], hours]).sum().unstack(fill_value=0)
    wanted = pd.date_range(at(6, 1) - timedelta(days=8), at(7, 1), freq="h")
    made = costs.reindex(columns=wanted, fill_value=0).to_numpy(np.float64)
    past: Errors = []
    for start in range(8 * 24, made.shape[1] - HORIZON, EVERY):
        truth, before = made[:, start : start + HORIZON], start - HOURS_PER_WEEK
        forecast = factor * made[:, before - late : before - late + HORIZON]
        last_week = made[:, before : before + HORIZON]
        past.append(tuple(float(np.abs(one - truth).sum() / truth.sum()) for one in (forecast, last_week)))  # type: ignore[arg-type]
    assert set(findings(past)) == expected
