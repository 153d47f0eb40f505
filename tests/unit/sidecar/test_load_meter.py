"""A partition's load, from its running counters."""

from __future__ import annotations

import math

import pytest

from foreshard.stores.partition.load_reporter import LatencyMeter, LoadMeter

WEIGHTS = {"query": 1.0, "insert": 2.0, "command": 0.0}


def test_the_load_is_known_from_the_second_reading_on():
    meter = LoadMeter(WEIGHTS, smoothing=5.0)
    assert meter.measure({"query": 1000, "insert": 1000, "command": 5}, 10, 100.0) is None
    assert meter.measure({"query": 1010, "insert": 1005, "command": 99}, 12, 102.0) == pytest.approx((10 + 2 * 5) / 2)


def test_the_load_is_smoothed():
    meter = LoadMeter(WEIGHTS, smoothing=4.0)
    meter.measure({"query": 0}, 1, 0.0)
    meter.measure({"query": 0}, 3, 2.0)
    assert meter.measure({"query": 200}, 5, 4.0) == pytest.approx(100 * (1 - math.exp(-0.5)))
    for step in range(1, 20):
        load = meter.measure({"query": 200 + 200 * step}, 5 + 2 * step, 4.0 + 2 * step)
    assert load == pytest.approx(100, rel=0.01)


def test_simulated_time_divides_the_load():
    meter = LoadMeter(WEIGHTS, smoothing=0.0, time_scale=240.0)
    meter.measure({"query": 0}, 1, 0.0)
    assert meter.measure({"query": 480}, 2, 1.0) == pytest.approx(2.0)


def test_a_restarted_partition_has_no_negative_load():
    meter = LoadMeter(WEIGHTS, smoothing=0.0)
    meter.measure({"query": 1000}, 100, 0.0)
    assert meter.measure({"query": 1100}, 102, 2.0) == pytest.approx(50)
    assert meter.measure({"query": 3}, 1, 4.0) == pytest.approx(50)
    assert meter.measure({"query": 13}, 3, 6.0) == pytest.approx(5)
    assert meter.measure({"query": 13}, 3, 6.0) == pytest.approx(5)


def test_the_mean_time_of_a_read_is_measured_between_readings_and_kept_without_reads():
    meter = LatencyMeter(smoothing=0.0)
    assert meter.measure(5_000_000, 1_000, 1.0) is None
    assert meter.measure(5_030_000, 1_010, 2.0) == pytest.approx(3.0)
    assert meter.measure(5_030_000, 1_010, 3.0) == pytest.approx(3.0)
    assert meter.measure(100, 1, 4.0) == pytest.approx(3.0)  # restarted
    assert meter.measure(10_100, 11, 5.0) == pytest.approx(1.0)
    assert meter.measure(10_100, 11, 34.0) == pytest.approx(1.0)
    assert meter.measure(10_100, 11, 36.0) is None
    assert meter.measure(14_100, 13, 38.0) == pytest.approx(2.0)
