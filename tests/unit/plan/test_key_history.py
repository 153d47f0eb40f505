from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from foreshard.model import SeriesMatrix
from foreshard.plan.input.key_history import CORRELATED_KEYS, gather_history
from foreshard.plan.input.mean_week import mean_week

HOUR = datetime(2024, 3, 10, 7, tzinfo=UTC)
HOURS = 28 * 24
NO_TOTALS = pd.DataFrame()


def gather(rows, keys=("a", "b"), chunks=1):
    """The history of ``keys`` from (hours before the end, key, cost)."""
    names = sorted({key for _, key, _ in rows})
    costs = np.zeros((len(names), HOURS), np.float32)
    for age, key, cost in rows:
        costs[names.index(key), HOURS - age] += cost
    series = SeriesMatrix(HOUR, tuple(names), costs, np.ones(HOURS, bool))
    size = -(-max(len(names), 1) // chunks)
    return gather_history(keys, NO_TOTALS, [series.rows(start, start + size) for start in range(0, len(names), size)])


def test_the_week_is_the_mean_of_the_last_four_by_the_hour_of_the_week():
    rows = [(age, key, 100 * age + number) for age in range(1, HOURS + 1) for number, key in enumerate("ab")]
    week = gather(rows).week
    ages = HOURS - np.arange(HOURS).reshape(4, 168)
    assert week.mean[0].tolist() == pytest.approx((100 * ages).mean(axis=0).tolist())
    assert week.weeks == 4.0


def test_the_chunks_of_the_series_make_no_difference():
    rows = [(age, key, 100 * age + number) for age in range(1, 49) for number, key in enumerate("ab")]
    one, two = gather(rows), gather(rows, chunks=2)
    assert one.week.mean.tolist() == two.week.mean.tolist()
    assert one.error_correlation == two.error_correlation


def test_a_week_that_has_grown_is_scaled_to_the_last():
    rows = [(age, "a", 9.0 if age <= 168 else 1.0) for age in range(1, HOURS + 1)]
    assert gather(rows, keys=("a",)).week.mean[0].tolist() == pytest.approx([9.0] * 168)
    assert gather([(age, "a", 10.0 - cost) for age, _, cost in rows]).week.mean[0, 0] == pytest.approx((3 * 9 + 1) / 4)


def test_hours_that_were_not_counted_do_not_lower_the_mean():
    costs, counted = np.ones((1, HOURS), np.float32), np.arange(HOURS) >= 84
    costs[:, ~counted] = 0.0
    week = mean_week(costs, counted)
    assert week.mean.tolist() == [[1.0] * 168]
    assert week.weeks == 3.5


def test_costs_are_added_and_other_keys_left_out():
    week = gather([(1, "a", 2.0), (1, "a", 2.0), (1, "gone", 9.0)]).week
    assert week.mean[:, -1].tolist() == [3.0, 0.0]


def test_without_a_week_there_is_no_mean_week_and_no_correlation():
    assert mean_week(np.ones((3, 167))) is None
    assert gather([]).week is None
    assert gather([]).error_correlation == 0.0


def test_the_busiest_keys_are_kept_with_the_uncounted_hours_unknown():
    costs = np.arange(1, CORRELATED_KEYS + 3, dtype=np.float32)[:, None].repeat(48, axis=1)
    counted = np.arange(48) > 0
    names = tuple(f"k{n:04}" for n in range(len(costs)))
    busiest = gather_history((), NO_TOTALS, [SeriesMatrix(HOUR, names, costs, counted)]).busiest
    assert busiest.shape == (CORRELATED_KEYS, 48)
    assert (busiest[0, 1], busiest[-1, 1]) == (CORRELATED_KEYS + 2, 3)
    assert np.isnan(busiest[:, 0]).all()
