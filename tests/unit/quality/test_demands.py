"""The computed limits of the expectations, without Great Expectations."""

import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from foreshard.model import HourCounts
from foreshard.quality._access_log import minimum_accesses, minimum_keys
from foreshard.quality._forecasts import believable_totals
from foreshard.quality._suite import few, figure

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)


def counts(*accesses: int, keys: int = 100) -> list[HourCounts]:
    return [HourCounts(HOUR, number, keys) for number in accesses]


@pytest.mark.parametrize(("before", "fewest"), [((), 0), ((49, 5000), 0), ((50,), 1), ((1000, 2000, 3000), 40), ((0, 0, 0), 0)])
def test_the_fewest_plausible_accesses_follow_from_earlier_weeks(before: tuple[int, ...], fewest: int) -> None:
    assert minimum_accesses(counts(*before), 0.02) == fewest


def test_a_share_of_zero_requires_nothing() -> None:
    assert minimum_accesses(counts(10**6), 0.0) == 0


def test_the_fewest_plausible_keys_are_limited_by_the_accesses() -> None:
    assert minimum_keys(counts(1000, 1000), 1000, 0.1) == 10
    assert minimum_keys(counts(1000, 1000), 20, 0.1) == 2
    assert minimum_keys(counts(5), 1000, 0.1) == 0


def test_the_plausible_total_covers_the_quietest_and_busiest_stretch_of_the_history() -> None:
    history = np.array([0.0] * 100 + [10.0] * 100)
    assert believable_totals(history, 24, 48) == pytest.approx((0.0, 720.0))
    assert believable_totals(history[100:], 24, 48) == pytest.approx((80.0, 720.0))
    assert believable_totals(history[:150], 80, 48) == pytest.approx((0.0, 2400.0))


def test_figures_are_short_and_integers_exact() -> None:
    assert [figure(x) for x in (0, 1234567, 0.123456, 1e20, float("inf"), float("nan"))] == [
        "0",
        "1,234,567",
        "0.1235",
        "1e+20",
        "inf",
        "nan",
    ]
    assert few(["c", "a", "b", "d"]) == "'a', 'b', 'c', …"


def test_the_gates_module_does_not_import_great_expectations() -> None:
    code = "import sys, foreshard.quality.gates; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
