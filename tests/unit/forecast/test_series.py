from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast.series import SeriesBuilder, build_series, day_slices, history_numbers, horizon_numbers
from foreshard.model import KEY_LOAD_COLUMNS, ONE_HOUR

HOUR = datetime(2026, 3, 1, 23, tzinfo=UTC)


def rows(*entries: tuple[int, str, float], request_type: str = "read") -> pd.DataFrame:
    """Key load with (hours before HOUR, key, cost)."""
    return pd.DataFrame(
        [(HOUR - back * ONE_HOUR, key, "here", request_type, 1, cost, 1) for back, key, cost in entries],
        columns=KEY_LOAD_COLUMNS,
    )


def hours(count: int) -> list[datetime]:
    return [HOUR - back * ONE_HOUR for back in range(count)]


def test_the_matrix_covers_the_whole_history_up_to_the_hour() -> None:
    series = build_series(rows((0, "a", 3.0), (47, "a", 2.0), (48, "a", 99.0)), hours(100), HOUR, 2)
    assert series.keys == ("a",)
    assert series.costs.shape == (1, 48)
    assert series.costs[0, -1] == 3.0
    assert series.costs[0, 0] == 2.0
    assert series.costs.sum() == 5.0


def test_a_counted_hour_without_a_row_is_zero_and_an_uncounted_one_is_missing() -> None:
    counted = [moment for moment in hours(24) if moment != HOUR - 5 * ONE_HOUR]
    series = build_series(rows((0, "a", 1.0), (5, "a", 7.0)), counted, HOUR, 1)
    assert series.missing[0].sum() == 1
    assert series.missing[0, -6]
    assert series.costs.sum() == 1.0


def test_locations_and_request_types_of_one_hour_are_added_up() -> None:
    load = pd.concat([rows((0, "a", 1.5)), rows((0, "a", 2.0), request_type="write")])
    assert build_series(load, hours(24), HOUR, 1).costs[0, -1] == 3.5


def test_a_key_without_access_in_the_history_drops_out() -> None:
    series = build_series(rows((0, "kept", 1.0), (30, "gone", 5.0), (1, "idle", 0.0)), hours(100), HOUR, 1)
    assert series.keys == ("kept",)


def test_a_nan_cost_stays_unknown() -> None:
    series = build_series(rows((0, "a", float("nan")), (1, "a", 2.0)), hours(24), HOUR, 1)
    assert np.isnan(series.costs[0, -1])
    assert series.costs[0, -2] == 2.0


def test_an_empty_history_gives_no_keys() -> None:
    series = build_series(rows(), hours(24), HOUR, 1)
    assert series.keys == ()
    assert series.costs.shape == (0, 24)


def test_the_day_slices_cover_the_history_once() -> None:
    slices = day_slices(HOUR, 28)
    assert slices[0][0] == HOUR - 671 * ONE_HOUR
    assert slices[-1][1] == HOUR + ONE_HOUR
    assert all(a[1] == b[0] for a, b in pairwise(slices))


def test_the_horizon_follows_the_history_without_a_gap() -> None:
    numbers = np.concatenate([history_numbers(HOUR, 48), horizon_numbers(HOUR, 24)])
    assert (np.diff(numbers) == 1).all()
    assert numbers[47] == HOUR.timestamp() // 3600


entry = st.tuples(st.integers(0, 60), st.sampled_from(["a", "ß/é", "", "key with spaces", "$dollar.dot"]), st.integers(1, 1000))


@settings(max_examples=60, deadline=None)
@given(st.lists(entry, max_size=40), st.integers(0, 40))
def test_the_matrix_does_not_depend_on_how_the_rows_are_sliced(entries: list[tuple[int, str, float]], cut: int) -> None:
    load = rows(*entries)
    whole = build_series(load, hours(48), HOUR, 2)
    builder = SeriesBuilder(HOUR, 2, hours(48))
    builder.add(load.iloc[:cut])
    builder.add(load.iloc[cut:])
    parts = builder.build()
    assert parts.keys == whole.keys == tuple(sorted({key for back, key, _ in entries if back < 48}))
    np.testing.assert_array_equal(parts.costs, whole.costs)
    assert whole.costs.sum() == sum(cost for back, _, cost in entries if back < 48)


def test_hours_in_another_time_zone_are_the_same_hours() -> None:
    load = rows((0, "a", 4.0))
    load["hour"] = load["hour"].dt.tz_convert("Asia/Kolkata")
    counted = [moment.astimezone(tz=None) for moment in hours(24)]
    assert build_series(load, counted, HOUR, 1).costs[0, -1] == 4.0
