"""Whether an hour that ends in silence has lost its source: by chance, in clumps, and on schedule."""

from datetime import timedelta

import numpy as np
import pytest
from tests.unit.quality.sample_hours import at

from foreshard.model import HourCounts, HourFacts
from foreshard.quality._usual import DOUBTFUL, IMPOSSIBLE, MISSED_ACCESSES, longest_silence, silent_end

HOUR = at(6, 18, 16)


def hour(minutes: np.ndarray, back: int = 0) -> HourCounts:
    facts = HourFacts(0.0, 0, tuple(minutes.tolist()), 1, ())
    return HourCounts(HOUR - timedelta(days=back), int(minutes.sum()), 1, facts=facts)


def days(random: np.random.Generator, rate: float, clump: int, count: int = 28) -> list[HourCounts]:
    """Return days on which ``clump`` accesses come at once, ``rate`` times an hour."""
    return [hour(clump * random.poisson(rate / 60, 60), back) for back in range(1, count + 1)]


@pytest.mark.parametrize("clump", [1, 7, 40])
@pytest.mark.parametrize("rate", [3.0, 12.0, 60.0])
def test_chance_alone_stops_no_hour_even_if_accesses_come_in_clumps(clump: int, rate: float) -> None:
    random = np.random.default_rng(4)
    stopped = 0
    for known in (days(random, rate, clump) for _ in range(300)):
        minutes = (clump * random.poisson(rate / 60, 60)).tolist()
        end = silent_end(minutes, known)
        silence = longest_silence(minutes, known[6::7])
        stopped += end is not None and end.chance < IMPOSSIBLE
        stopped += silence.expected / silence.clump > MISSED_ACCESSES
    assert stopped == 0


@pytest.mark.parametrize("clump", [1, 7])
def test_a_source_that_stops_at_half_past_is_found_from_thirty_clumps_on(clump: int) -> None:
    random = np.random.default_rng(5)
    found = 0
    for known in (days(random, 80.0, clump) for _ in range(100)):
        minutes = clump * random.poisson(80 / 60, 60)
        minutes[30:] = 0
        end = silent_end(minutes.tolist(), known)
        found += end is not None and end.first <= 30 and end.chance < IMPOSSIBLE
    assert found >= 95


def test_an_hour_that_always_ends_early_is_not_doubted() -> None:
    random = np.random.default_rng(6)
    known = [hour(np.concatenate([random.poisson(5, 40), np.zeros(20, np.int64)]), back) for back in range(1, 29)]
    end = silent_end([5] * 40 + [0] * 20, known)
    assert end is not None
    assert end.chance > DOUBTFUL


def test_too_few_days_or_no_access_say_nothing() -> None:
    known = days(np.random.default_rng(7), 60.0, 1)
    assert silent_end([1] * 30 + [0] * 30, known[:13]) is None
    assert silent_end([0] * 60, known) is None
