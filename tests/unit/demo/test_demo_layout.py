from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from foreshard.demo._sample import load_sample
from foreshard.demo.demo_layout import HEADROOM, coming_peak, make_layout

END = datetime(2024, 3, 6, 7, tzinfo=UTC)
WEIGHTS = {"read": 1.0, "checkout": 2.0, "return": 2.0}


def log_of(*hours):
    """One read per minute from ``key`` in each of these hours, relative to ``END``."""
    minutes = [END + timedelta(hours=hour, minutes=minute) for hour in hours for minute in range(60)]
    return pd.DataFrame({"timestamp": minutes, "partitionable_key": "key", "request_type": "read"})


@pytest.mark.parametrize("weeks_back", [1, 4])
def test_the_peak_is_the_busiest_hour_that_the_coming_day_had_in_any_of_four_weeks(weeks_back: int) -> None:
    rush = 10 - weeks_back * 168
    log = pd.concat([log_of(rush), log_of(rush), log_of(12 - 2 * 168)])
    assert coming_peak(log, WEIGHTS, END, {"key"}) == pytest.approx(120 / 3600)
    assert coming_peak(log, WEIGHTS, END, {"another"}) == 0.0


def test_what_is_outside_of_the_coming_day_or_longer_ago_does_not_count() -> None:
    log = pd.concat([log_of(-169), log_of(24 - 168), log_of(10 - 5 * 168)])
    assert coming_peak(log, WEIGHTS, END, {"key"}) == 0.0


def test_the_first_partition_has_less_room_than_its_peak_and_the_others_more() -> None:
    history = load_sample(END).accesses
    layout = make_layout(history, WEIGHTS, END, dict.fromkeys(HEADROOM, "mongodb://x"))
    keys = {key for key, placement in layout.table.placements.items() if placement.primary == "sf-1"}
    peak = coming_peak(history, WEIGHTS, END, keys)
    assert {p.partition_id: p.capacity > peak for p in layout.partitions} == {
        "sf-1": False, "sf-2": True, "sj-1": True, "rwc-1": True,
    }  # fmt: skip
