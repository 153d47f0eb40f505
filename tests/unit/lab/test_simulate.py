from dataclasses import replace

import numpy as np
import pytest

from foreshard.lab.measures import measure
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.past import LabAction, ReplayRules
from foreshard.lab.simulate import replay
from foreshard.model import Partition
from foreshard.settings import ForecastSettings, MigrateSettings, PlanSettings, SidecarSettings

RULES = ReplayRules.of(PlanSettings(), MigrateSettings(), ForecastSettings(), SidecarSettings())
FREE = replace(RULES, move_seconds=0.0, bytes_per_second=1e15, copy_load=0.0)


def layout_of(*capacities, places=None):
    places = places or ["here"] * len(capacities)
    return PartitionLayout(tuple(Partition(f"p{n}", places[n], c / 3600) for n, c in enumerate(capacities)), {})


class Script:
    """A policy with scripted actions: {hour: actions}."""

    within_hour = False

    def __init__(self, first, orders=None):
        self.first, self.orders = np.array(first), orders or {}

    def start(self, past):
        return self.first

    def decide(self, past, cluster):
        return self.orders.get(past.now, [])


def test_partition_hours_above_capacity_are_overload_hours(make_log):
    log, layout = make_log([[5, 11, 20], [5, 5, 5]]), layout_of(10, 10)
    found = measure(replay(log, layout, Script([0, 1]), 0, FREE), log, layout.capacity)
    assert found.overload_hours == 2
    assert found.overflow_share == pytest.approx(11 / 51)
    assert found.worst_utilisation == pytest.approx(2.0)
    assert (found.moves, found.bytes, found.shadows) == (0, 0, 0)


def test_a_move_without_cost_moves_the_keys_load_from_its_hour_on(make_log):
    log, layout = make_log([[6, 6, 6], [6, 6, 6]]), layout_of(10, 10)
    run = replay(log, layout, Script([0, 0], {1: [LabAction(1, 1)]}), 0, FREE)
    assert run.load.tolist() == [[12, 6, 6], [0, 6, 6]]
    assert run.moves == [(1, 1, 0, 1)]


def test_a_move_takes_its_time_and_costs_both_sides(make_log):
    rules = replace(RULES, lanes=1, move_seconds=1800, bytes_per_second=1e15, copy_load=0.5)
    log, layout = make_log([[8, 8, 8], [4, 4, 4]]), layout_of(10, 10)
    run = replay(log, layout, Script([0, 0], {1: [LabAction(1, 1)]}), 0, rules)
    assert run.load[:, 1].tolist() == [8 + 2 + 2, 2 + 2]
    assert run.load[:, 2].tolist() == [8, 4]


def test_moves_wait_for_a_lane_and_continue_in_later_hours(make_log):
    rules = replace(RULES, lanes=1, move_seconds=3600 * 1.5, bytes_per_second=1e15, copy_load=0.0)
    log, layout = make_log(np.full((2, 6), 4.0)), layout_of(10, 10)
    run = replay(log, layout, Script([0, 0], {1: [LabAction(0, 1), LabAction(1, 1)]}), 0, rules)
    assert [(hour, key) for hour, key, _, _ in run.moves] == [(2, 0), (3, 1)]
    assert run.load[0].tolist() == [8, 8, 6, 4, 0, 0]


def test_a_move_copies_what_was_written_before_it(gather, rows_of):
    log = gather(rows_of([(0, "a", 1)] * 5 + [(3, "a", 1)], request_type="write"))
    rules = replace(RULES, documents=10, document_bytes=100.0)
    run = replay(log, layout_of(10, 10), Script([0], {2: [LabAction(0, 1)]}), 2, rules)
    assert run.size_bytes == 15 * 100


def test_a_key_moved_twice_in_a_day_is_counted(make_log):
    log, layout = make_log(np.ones((2, 48))), layout_of(10, 10)
    orders = {1: [LabAction(0, 1), LabAction(1, 1)], 5: [LabAction(0, 0)], 30: [LabAction(1, 0)]}
    found = measure(replay(log, layout, Script([0, 0], orders), 0, FREE), log, layout.capacity)
    assert found.moves == 4
    assert found.keys_moved_twice_a_day == pytest.approx(1 / 3)


def test_co_accesses_across_partitions_are_counted(gather, rows_of):
    rows = [(0, "a", 1), (0, "b", 1), (1, "a", 1), (1, "c", 1)]
    log, layout = gather(rows_of(rows, session_id=[1, 1, 2, 2])), layout_of(10, 10)
    found = measure(replay(log, layout, Script([0, 0, 1]), 0, FREE), log, layout.capacity)
    assert found.cross_partition_share == pytest.approx(0.5)


def test_a_shadow_serves_reads_nearer_to_users_and_joins_co_accessed_keys(gather, rows_of):
    rows = [(hour, key, 1) for hour in range(4) for key in ("a", "b")]
    log = gather(rows_of(rows, session_id=[n // 2 for n in range(8)], location="far"))
    layout = layout_of(100, 100, places=["near", "far"])
    run = replay(log, layout, Script([0, 1], {0: [LabAction(0, 1, "shadow")], 3: [LabAction(0, 1, "remove")]}), 0, FREE)
    assert run.shadows == [1, 1, 1, 0]
    assert run.split_co_accesses == 2
    assert run.cost_km == 2 * 1000
    assert run.load.tolist() == [[1, 0, 0, 1], [1, 2, 2, 1]]


def test_an_empty_partition_and_a_single_one_are_replayed(make_log):
    log = make_log([[1, 2, 3]])
    for layout in (layout_of(10), layout_of(10, 10, 10)):
        assert measure(replay(log, layout, Script([0]), 0, FREE), log, layout.capacity).overload_hours == 0


def test_keys_of_one_move_share_its_fixed_time(make_log):
    rules = replace(RULES, lanes=1, move_seconds=1800, bytes_per_second=1e15, copy_load=0.0)
    log, layout = make_log(np.full((50, 4), 4.0)), layout_of(1000, 1000)
    together = [LabAction(key, 1, joins=key > 0) for key in range(50)]
    assert len(replay(log, layout, Script([0] * 50, {1: together}), 0, rules).moves) == 50
    alone = [LabAction(key, 1) for key in range(50)]
    assert len(replay(log, layout, Script([0] * 50, {1: alone}), 0, rules).moves) == 6
