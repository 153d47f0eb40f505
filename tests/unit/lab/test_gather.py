"""Several processes convert the batches of a log like one process."""

from collections import Counter
from functools import partial

import numpy as np
import pytest

from foreshard.errors import CorruptLog
from foreshard.lab._forked import each_forked
from foreshard.lab._gather import gather as parts_of
from foreshard.lab._gather import typed


def frames(rows_of, number):
    """Batches with recurring keys, users and sessions, and some invalid records."""
    random = np.random.default_rng(7)
    for batch in range(number):
        rows = [(random.uniform(0, 40), f"k{random.integers(6)}", 1.0) for _ in range(60)] + [(1, None, 1.0)]
        who = [None if random.random() < 0.3 else f"u{random.integers(5)}" for _ in rows]
        yield rows_of(rows, user_id=who, session_id=who[::-1], location=f"place-{batch % 3}")


@pytest.mark.parametrize("batches", [1, 4, 5])
def test_several_processes_gather_the_same_as_one(gather, rows_of, batches):
    one, several = (gather(*frames(rows_of, batches), processes=processes) for processes in (1, 3))
    for name in ("costs", "visit_key", "visit_place", "visit_cost", "pair_a", "pair_b", "pair_weight"):
        assert np.array_equal(getattr(one, name), getattr(several, name)), name
    assert (one.keys, one.locations, one.left_out) == (several.keys, several.locations, several.left_out)
    assert one.left_out == {"missing_key": batches}


def test_each_process_converts_its_own_batches_and_the_order_is_kept(rows_of):
    batches = [rows_of([(hour, "a", 1.0)]) for hour in range(5)]
    alone, together = ([part.time.tolist() for part in parts_of(batches, {}, {}, processes)] for processes in (1, 2))
    assert alone == together == [part.time.tolist() for part in (typed(frame, {}, {}) for frame in batches)]


def test_a_user_has_the_same_hash_in_every_batch_and_a_missing_user_has_none(rows_of):
    one, other = (
        typed(rows_of([(0, "a", 1.0)] * 3, user_id=users), {}, {}).user for users in (["x", "y", None], ["y", "z", "x"])
    )
    assert one[:2].tolist() == [other[2], other[0]]
    assert np.isnan(one[2])
    assert len({*one[:2].tolist(), *other.tolist()}) == 3


def test_records_that_are_left_out_are_counted_by_reason(rows_of):
    part = typed(rows_of([(0, None, 1.0), (0, "a", -1.0), (0, "a", 1.0), (0, None, 1.0)]), {}, {})
    assert part.left_out == Counter({"missing_key": 2, "negative_cost": 1})
    assert part.time.shape == part.cost.shape == (1,)


def breaks():
    raise CorruptLog("log", "it can't be read")


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_a_process_is_raised_unchanged(processes):
    with pytest.raises(CorruptLog) as caught:
        each_forked([partial(int, "1"), breaks], processes)
    assert str(caught.value) == str(CorruptLog("log", "it can't be read"))
