"""Loads as a sidecar sees them: expiry, own traffic, admission."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.sidecar_config import CONFIG

from foreshard.model import PartitionLoad
from foreshard.routing.load_book import LOWEST_SHARE, OWN_RATE_SECONDS, RETURN_SHARE, LoadBook

NOW = 1_700_000_000.0


def book(**rules: float) -> LoadBook:
    made = LoadBook(replace(CONFIG.loads, **rules))
    made.register({"a": 100.0})
    return made


def report(made: LoadBook, load: float, at: float, reachable: bool = True) -> None:
    made.report([PartitionLoad("a", load, reachable, datetime.fromtimestamp(at, UTC))], at)


def test_without_a_report_the_load_is_unknown():
    made = book().pressure("a", NOW)
    assert (made.utilisation, made.reachable, made.admission, made.age) == (None, True, 1.0, None)
    assert book().pressure("never registered", NOW).utilisation is None


def test_a_report_expires():
    made = book(expiry=15)
    report(made, 50, NOW)
    assert made.pressure("a", NOW + 15).utilisation == pytest.approx(0.5)
    assert made.pressure("a", NOW + 15.1).utilisation is None
    assert made.pressure("a", NOW + 15.1).age == pytest.approx(15.1)


def test_a_report_that_arrives_late_does_not_change_the_admission():
    made = book()
    made.report([PartitionLoad("a", 500, True, datetime.fromtimestamp(NOW - 100, UTC))], NOW)
    assert made.pressure("a", NOW).admission == 1.0


def test_own_requests_since_the_report_are_added():
    made = book(time_scale=2.0)
    report(made, 40, NOW)
    for _ in range(100):
        made.sent("a", 1.0, NOW + 1)
    added = 100 / OWN_RATE_SECONDS / 2.0
    assert made.pressure("a", NOW + 1).utilisation == pytest.approx((40 + added) / 100)
    report(made, 50, NOW + 2)
    assert made.pressure("a", NOW + 2).utilisation == pytest.approx(0.5)
    assert made.pressure("a", NOW + 10).utilisation < 0.5


def test_an_own_burst_lowers_the_admission_before_the_next_report():
    made = book()
    report(made, 70, NOW)
    for _ in range(500):
        made.sent("a", 1.0, NOW + 1)
    pressure = made.pressure("a", NOW + 1)
    assert pressure.utilisation == pytest.approx(1.7)
    assert pressure.admission == pytest.approx(0.8 / 1.7)


def test_admission_falls_above_the_mark_and_rises_only_well_below_it():
    made = book()
    report(made, 160, NOW)
    fallen = made.pressure("a", NOW).admission
    assert fallen == pytest.approx(0.5**0.25)
    report(made, 76, NOW + 2)
    assert made.pressure("a", NOW + 2).admission == fallen
    report(made, 40, NOW + 4)
    assert fallen < made.pressure("a", NOW + 4).admission <= 1.0


def test_the_same_report_counts_once():
    made = book()
    for _ in range(5):
        report(made, 160, NOW)
    assert made.pressure("a", NOW).admission == pytest.approx(0.5**0.25)


def test_admission_never_falls_to_zero_and_recovers():
    made = book()
    for tick in range(200):
        report(made, 10_000, NOW + tick)
    assert made.pressure("a", NOW + 199).admission == LOWEST_SHARE
    for tick in range(200, 240):
        report(made, 0, NOW + tick)
    assert made.pressure("a", NOW + 239).admission == 1.0


def test_a_partition_that_was_unreachable_starts_slowly():
    made = book()
    report(made, 10, NOW)
    report(made, 10, NOW + 2, reachable=False)
    assert not made.pressure("a", NOW + 2).reachable
    report(made, 10, NOW + 4)
    assert made.pressure("a", NOW + 4).admission == pytest.approx(RETURN_SHARE * 1.25)


def test_a_report_from_a_fast_clock_does_not_expire_later():
    made = book()
    made.report([PartitionLoad("a", 10, True, datetime.fromtimestamp(NOW + 500, UTC))], NOW)
    assert made.pressure("a", NOW).age == 0
    made.report([PartitionLoad("a", 10, True, datetime.fromtimestamp(NOW + 500, UTC))], NOW + 10)
    assert made.pressure("a", NOW + 16).utilisation is None


def test_registering_drops_removed_partitions_and_keeps_the_others():
    made = book()
    report(made, 160, NOW)
    made.register({"a": 200.0, "b": 1.0})
    assert made.pressure("a", NOW).utilisation == pytest.approx(0.8)
    assert made.pressure("a", NOW).admission < 1
    made.register({"b": 1.0})
    assert made.pressure("a", NOW).utilisation is None
    made.sent("a", 1.0, NOW)
    made.all_overloaded(["a"], 2.0)
    made.relieved("a")
