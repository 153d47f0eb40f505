from datetime import UTC, datetime

import numpy as np
import pandas as pd

from foreshard.model import SeriesMatrix
from foreshard.plan.input.key_history import CORRELATED_KEYS, gather_history
from foreshard.plan.input.past_hours import past_hours, past_stride

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


def test_the_past_is_every_fifth_hour_of_each_key_up_to_the_last():
    rows = [(age, key, 100 * age + number) for age in range(1, 49) for number, key in enumerate("ab")]
    past = gather(rows).past
    history = [[100 * age + number for age in range(48, 0, -1)] for number in range(2)]
    assert past.cost.tolist() == past_hours(pd.DataFrame(history).to_numpy(float)).cost.tolist()
    assert past.cost[0, -1] == 100
    assert past.cost[0, -2] == 100 * (1 + past_stride(2))


def test_the_chunks_of_the_series_make_no_difference():
    rows = [(age, key, 100 * age + number) for age in range(1, 49) for number, key in enumerate("ab")]
    one, two = gather(rows), gather(rows, chunks=2)
    assert one.past.cost.tolist() == two.past.cost.tolist()
    assert (one.week_peak, one.error_correlation) == (two.week_peak, two.error_correlation)


def test_a_past_that_has_grown_is_scaled_to_the_last_week():
    rows = [(age, "a", 9.0 if age <= 168 else 1.0) for age in range(1, 28 * 24 + 1)]
    past = gather(rows, keys=("a",)).past.cost
    assert past.tolist() == past_hours(pd.DataFrame([[cost for _, _, cost in rows[::-1]]]).to_numpy(float)).cost.tolist()
    assert past[0, 0] > 2.0


def test_costs_are_added_and_other_keys_left_out():
    past = gather([(1, "a", 2.0), (1, "a", 3.0), (1, "gone", 9.0)]).past
    assert past.cost.tolist() == [[5.0], [0.0]]


def test_without_a_history_there_is_no_past_and_no_correlation():
    history = gather([])
    assert history.past is None
    assert (history.week_peak, history.error_correlation) == (0.0, 0.0)


def test_the_peak_is_the_last_week_s():
    assert gather([(2, "a", 2.0), (2, "b", 3.0), (169, "a", 50.0)]).week_peak == 5.0


def test_the_busiest_keys_are_kept_with_the_uncounted_hours_unknown():
    costs = np.arange(1, CORRELATED_KEYS + 3, dtype=np.float32)[:, None].repeat(48, axis=1)
    counted = np.arange(48) > 0
    names = tuple(f"k{n:04}" for n in range(len(costs)))
    busiest = gather_history((), NO_TOTALS, [SeriesMatrix(HOUR, names, costs, counted)]).busiest
    assert busiest.shape == (CORRELATED_KEYS, 48)
    assert (busiest[0, 1], busiest[-1, 1]) == (CORRELATED_KEYS + 2, 3)
    assert np.isnan(busiest[:, 0]).all()
