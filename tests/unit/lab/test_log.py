from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from foreshard.errors import CorruptLog
from foreshard.lab import log as logs
from foreshard.observe.pairs.co_access import CoAccessRules, co_access
from foreshard.settings import ObserveSettings


def test_records_in_any_order_count_the_same(gather, rows_of):
    frame = rows_of([(0.5, "b", 2), (3.2, "a", 5), (0.1, "a", 1), (0.9, "b", 4)])
    one, other = gather(frame), gather(frame.iloc[::-1], frame.iloc[:0])
    assert one.keys == ("a", "b")
    assert one.costs.tolist() == [[1, 0, 0, 5], [6, 0, 0, 0]]
    assert np.array_equal(one.costs, other.costs)


def test_equal_records_are_two_accesses(gather, rows_of):
    assert gather(rows_of([(0, "a", 1)] * 3)).costs.tolist() == [[3]]


def test_an_access_without_a_cost_gets_the_weight_of_its_type_or_one_for_unknown_types(gather, rows_of):
    frame = rows_of([(0, "a", None)] * 3, request_type=["read", "write", "GET /"])
    log = gather(frame)
    assert log.costs.tolist() == [[4]]
    assert log.unknown_types == ("GET /",)
    assert log.visit_reads.tolist() == [1]
    assert log.visit_writes.tolist() == [2]


def test_invalid_records_are_left_out_and_counted_by_reason(gather, rows_of):
    frame = rows_of([(0, "a", 1), (1, None, 1), (2, "a", -1)])
    frame["timestamp"] = frame["timestamp"].astype(object)
    frame.loc[3] = frame.loc[0]
    frame.loc[3, "timestamp"] = "soon"
    log = gather(frame)
    assert log.records == 1
    assert dict(log.left_out) == {"missing_key": 1, "negative_cost": 1, "unparsable_time": 1}


def test_a_log_without_valid_records_is_refused(gather, rows_of):
    with pytest.raises(CorruptLog, match=r"it has no valid record \(missing_key 2\)"):
        gather(rows_of([(0, None, 1), (1, None, 1)]))


def test_unknown_columns_are_ignored(gather, rows_of):
    assert gather(rows_of([(0, "a", 1)], colour="red", host=7)).costs.tolist() == [[1]]


def test_keys_of_one_session_are_co_accessed_in_that_hour(gather, rows_of):
    log = gather(rows_of([(0, "a", 1), (2.0, "a", 1), (2.1, "b", 1)], session_id=["s0", "s1", "s1"]))
    rows = log.pairs.of(2, 3)
    assert (log.pair_a[rows].tolist(), log.pair_b[rows].tolist(), log.pair_weight[rows].tolist()) == ([0], [1], [1])
    assert not len(log.pair_a[log.pairs.of(0, 2)])


@pytest.mark.parametrize("at_once", [1, 30, 10**9])
def test_co_access_does_not_depend_on_how_many_hours_are_counted_at_once(gather, rows_of, monkeypatch, at_once):
    random = np.random.default_rng(5)
    rows = [(random.uniform(0, 60), f"k{random.integers(9)}", 1) for _ in range(900)]
    sessions = [None if random.random() < 0.3 else f"s{random.integers(12)}" for _ in rows]
    frame = rows_of(rows, session_id=sessions, user_id=[f"u{random.integers(8)}" for _ in rows])
    monkeypatch.setattr(logs, "RECORDS_AT_ONCE", at_once)
    found, typed = gather(frame), frame.sort_values("timestamp")
    whole = co_access(typed, CoAccessRules.of(ObserveSettings()))
    hours = np.repeat(np.arange(found.hours), np.diff(found.pairs.start))
    pairs = [found.first + timedelta(hours=int(hour)) for hour in hours], found.pair_a, found.pair_b, found.pair_weight
    counted = pd.DataFrame(dict(zip(("hour", "key_a", "key_b", "weight"), pairs, strict=True)))
    expected = whole[["hour", "key_a", "key_b", "weight"]].assign(
        **{name: whole[name].map(found.keys.index) for name in ("key_a", "key_b")}
    )
    order = ["hour", "key_a", "key_b"]
    assert len(expected) > 500
    assert counted.sort_values(order).values.tolist() == expected.sort_values(order).values.tolist()


def test_only_the_last_days_can_be_kept(gather, rows_of):
    log = gather(rows_of([(0, "old", 1), (30, "a", 1), (47, "a", 1)]), days=1)
    assert log.keys == ("a",)
    assert log.hours == 24


def test_locations_are_kept_and_may_be_missing(gather, rows_of):
    log = gather(rows_of([(0, "a", 1), (0, "a", 2), (0, "b", 4)], location=["Rome", None, "Oslo"]))
    assert log.locations == ("Oslo", "Rome")
    found = {(log.keys[k], p): c for k, p, c in zip(log.visit_key, log.visit_place, log.visit_cost, strict=True)}
    assert found == {("a", 1): 1, ("a", -1): 2, ("b", 0): 4}
