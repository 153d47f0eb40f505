from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.consistency.clock import HybridClock, HybridTime
from foreshard.errors import ClockDrift

walls = st.lists(st.integers(0, 10_000), min_size=1, max_size=30)


def ticking(wall: list[int], origin: str = "a", **limits: int) -> HybridClock:
    remaining = iter(wall)
    return HybridClock(origin, lambda: next(remaining, wall[-1]), **limits)


@settings(max_examples=100, deadline=None)
@given(walls, st.data())
def test_times_increase_for_any_wall_clock_and_any_received_times(wall, data):
    clock = ticking(wall)
    given_times = []
    for _ in range(len(wall)):
        remote = data.draw(st.none() | st.builds(HybridTime, st.integers(0, 10_000), st.integers(0, 5), st.just("b")))
        given_times.append(clock.tick() if remote is None else clock.receive(remote))
        assert remote is None or given_times[-1] > remote
    assert all(earlier < later for earlier, later in pairwise(given_times))


@settings(max_examples=50, deadline=None)
@given(walls)
def test_the_time_stays_at_the_highest_wall_clock_seen(wall):
    clock = ticking(wall)
    for number in range(len(wall)):
        assert clock.tick().physical == max(wall[: number + 1])


def test_events_within_a_millisecond_get_increasing_counters():
    clock = ticking([5, 5, 5, 6])
    assert [(t.physical, t.counter) for t in (clock.tick(), clock.tick(), clock.tick(), clock.tick())] == [
        (5, 0),
        (5, 1),
        (5, 2),
        (6, 0),
    ]


def test_receiving_follows_the_paper():
    clock = ticking([10, 10, 10, 30])
    assert clock.receive(HybridTime(20, 7, "b")) == HybridTime(20, 8, "a")
    assert clock.receive(HybridTime(20, 3, "b")) == HybridTime(20, 9, "a")
    assert clock.receive(HybridTime(15, 99, "b")) == HybridTime(20, 10, "a")
    assert clock.receive(HybridTime(25, 4, "b")) == HybridTime(30, 0, "a")


def test_a_time_too_far_ahead_is_refused_without_changing_the_clock():
    clock = ticking([1000], maximum_drift=500)
    before = clock.tick()
    with pytest.raises(ClockDrift, match="501 ms ahead"):
        clock.receive(HybridTime(1501, 0, "b"))
    assert clock.last == before
    assert clock.receive(HybridTime(1500, 0, "b")).physical == 1500


def test_the_origin_breaks_ties():
    assert HybridTime(1, 2, "a") < HybridTime(1, 2, "b") < HybridTime(1, 3, "a") < HybridTime(2, 0, "a")
