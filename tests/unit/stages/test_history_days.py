from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd

from foreshard.plan.past_hours import past_every, past_hours
from foreshard.stages.history_days import HistoryDays

HOUR = datetime(2024, 3, 10, 7, tzinfo=UTC)
UNTIL = HOUR + timedelta(hours=1)


class Tallies:
    """Key load in memory: (hours before the end, key, cost)."""

    def __init__(self, rows):
        rows = [(UNTIL - timedelta(hours=age), key, cost) for age, key, cost in rows]
        self._rows = pd.DataFrame(rows, columns=["hour", "partitionable_key", "cost"])

    def key_load(self, since, until):
        return self._rows[(self._rows["hour"] >= since) & (self._rows["hour"] < until)]


def read(rows, keys=("a", "b"), history_days=28):
    settings = SimpleNamespace(forecast=SimpleNamespace(history_days=history_days))
    days = HistoryDays(SimpleNamespace(tallies=Tallies(rows), settings=settings), HOUR, keys)
    frames = list(days)
    assert len(frames) == history_days
    return days


def test_the_past_is_what_each_key_cost_in_every_fifth_hour_up_to_the_last():
    rows = [(age, key, 100 * age + number) for age in range(1, 49) for number, key in enumerate("ab")]
    days = read(rows)
    history = [[100 * age + number for age in range(48, 0, -1)] for number in range(2)]
    assert days.past.cost.tolist() == past_hours(pd.DataFrame(history).to_numpy(float)).cost.tolist()
    assert days.past.cost[0, -1] == 100
    assert days.past.cost[0, -2] == 100 * (1 + past_every(2))


def test_a_past_that_has_grown_counts_as_at_the_last_week_s_level_here_too():
    rows = [(age, "a", 9.0 if age <= 168 else 1.0) for age in range(1, 28 * 24 + 1)]
    past = read(rows, keys=("a",)).past.cost
    assert past.tolist() == past_hours(pd.DataFrame([[cost for _, _, cost in rows[::-1]]]).to_numpy(float)).cost.tolist()
    assert past[0, 0] > 2.0


def test_costs_of_several_locations_are_added_and_other_keys_left_out():
    days = read([(1, "a", 2.0), (1, "a", 3.0), (1, "gone", 9.0)])
    assert days.past.cost.tolist() == [[5.0], [0.0]]


def test_without_a_history_there_is_no_past():
    assert read([]).past is None


def test_the_peak_is_the_last_week_s():
    assert read([(2, "a", 2.0), (2, "b", 3.0), (169, "a", 50.0)]).week_peak == 5.0
