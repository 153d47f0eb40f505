"""Loads in steps of five minutes."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.lab.test_simulate import FREE, Script, layout_of

from foreshard.lab.measures import measure
from foreshard.lab.past import LabAction, Past
from foreshard.lab.policies import Reactive, StaticHash
from foreshard.lab.simulate import replay
from foreshard.lab.step_choice import choose_steps, variation

MINUTE = 1 / 60


@pytest.fixture
def minutes_log(gather, rows_of):
    """A log from (minute, key, cost) rows, and records of no cost that give it every step and two hours."""

    def make(rows, hours=2, **columns):
        every = [(minute * MINUTE, "a", 0.0) for minute in range(0, 60 * hours, 5)]
        return gather(rows_of([*((minute * MINUTE + 1e-6, key, cost) for minute, key, cost in rows), *every], **columns))

    return make


@pytest.mark.parametrize(("minutes", "steps"), [([0], 1), ([0, 30], 2), ([0, 15, 45], 4), ([10, 20], 6), ([3, 31, 59], 12)])
def test_a_log_has_the_steps_of_its_own_resolution(gather, rows_of, minutes, steps):
    log = gather(rows_of([(hour + minute * MINUTE + 1e-6, "a", 1) for hour in range(3) for minute in minutes]))
    assert log.steps_per_hour == steps
    assert (log.steps is None) == (steps == 1)


def test_a_few_records_off_the_hour_do_not_make_a_table_finer(gather, rows_of):
    rows = [(hour, "a", 1) for hour in range(2000)] + [(7.2, "a", 1)]
    assert gather(rows_of(rows)).steps is None


def test_steps_sum_to_the_hours(gather, rows_of):
    random = np.random.default_rng(1)
    log = gather(rows_of([(random.uniform(0, 30), f"k{random.integers(5)}", random.uniform(0, 3)) for _ in range(3000)]))
    for hour in range(log.hours):
        key, step, cost = log.step_rows(12 * hour, 12 * hour + 12)
        assert np.bincount(key, cost, 5) == pytest.approx(log.costs[:, hour], rel=1e-5)
        for one in range(12):
            alone, after, part = log.step_rows(12 * hour + one, 12 * hour + one + 1)
            assert (alone.tolist(), part.tolist()) == (key[step == one].tolist(), cost[step == one].tolist())
            assert not after.any()
    assert log.steps.totals().sum() == pytest.approx(log.costs.sum(), rel=1e-5)


def test_a_burst_of_five_minutes_is_a_twelfth_of_an_overload_hour(minutes_log):
    log, layout = minutes_log([(20, "a", 3)]), layout_of(24)
    found = measure(replay(log, layout, Script([0]), 0, FREE), log, layout.capacity)
    assert found.overload_hours == pytest.approx(1 / 12, abs=1e-3)
    assert found.overflow_share == pytest.approx(1 / 3)
    assert found.worst_utilisation == pytest.approx(1.5)


def test_a_moved_key_is_served_at_its_target_from_the_minute_its_move_ends(minutes_log):
    rules = replace(FREE, lanes=1, move_seconds=750, copy_load=0.0)
    log, layout = minutes_log([(minute, "a", 1) for minute in range(0, 120, 5)]), layout_of(99, 99)
    run = replay(log, layout, Script([0], {1: [LabAction(0, 1)]}), 0, rules)
    assert run.load[0, 12:].tolist() == pytest.approx([12, 12, 6] + 9 * [0])
    assert run.load[1, 12:].tolist() == pytest.approx([0, 0, 6] + 9 * [12])


def test_copying_costs_load_in_the_steps_in_which_it_runs(minutes_log):
    rules = replace(FREE, lanes=1, move_seconds=600, copy_load=0.5)
    log, layout = minutes_log([(minute, "a", 1) for minute in range(0, 120, 5)]), layout_of(99, 99)
    run = replay(log, layout, Script([0], {1: [LabAction(0, 1)]}), 0, rules)
    assert run.load[1, 12:].tolist() == pytest.approx([36, 36] + 10 * [12])


def test_a_shadow_takes_its_reads_in_each_step(minutes_log):
    log = minutes_log([(minute, "a", 2) for minute in range(0, 120, 5)], location="here")
    layout = layout_of(99, 99)
    run = replay(log, layout, Script([0], {0: [LabAction(0, 1, "shadow")]}), 0, FREE)
    assert run.load[:, 12:].tolist() == [[12] * 12, [12] * 12]


def test_a_policy_that_reacts_pays_until_it_has_reacted_and_not_longer(minutes_log):
    keys = [f"k{n}" for n in range(8)]
    rows = [(minute, key, 1) for minute in range(0, 240, 5) for key in keys]
    rows += [(minute, key, 2) for minute in range(130, 240, 5) for key in keys if key in "k0k1k2k3"]
    log, layout = minutes_log(rows, 4), layout_of(140, 140)

    class Halves(Reactive):
        def start(self, past):
            return np.array([0 if key in "ak0k1k2k3" else 1 for key in past.keys])

    run = replay(log, layout, Halves(layout, minutes=5), 1, replace(FREE, move_seconds=240.0))
    over = (run.load > 140).any(axis=0)
    assert {(hour, target) for hour, _, _, target in run.moves} == {(2, 1)}
    assert over[:12].sum() == 0
    assert 1 <= over.sum() <= 4
    still = replay(log, layout, Script(Halves(layout).start(Past(log, 0, FREE))), 1, FREE)
    assert (still.load > 140).any(axis=0).sum() == 22


def test_later_steps_do_not_change_earlier_decisions(gather, rows_of):
    random = np.random.default_rng(2)
    hours = random.uniform(0, 60, 6000)
    names = [f"k{n}" for n in random.integers(0, 25, 6000)]
    cost = random.gamma(1.0, 1.0, 6000)
    layout, cut = layout_of(25, 25, 25), 40 + 17 * MINUTE
    other = np.where(hours >= cut, 4 * cost, cost)
    moves = [
        replay(log, layout, Reactive(layout), 24, FREE).moves
        for log in (gather(rows_of(list(zip(hours, names, costs, strict=True)))) for costs in (cost, other))
    ]
    before = [[move for move in found if move[0] < 40] for found in moves]
    assert before[0] == before[1] != []
    assert moves[0] != moves[1]


def test_the_rate_of_the_last_minutes_is_scaled_to_an_hour(minutes_log):
    log = minutes_log([(40, "a", 1), (50, "b", 2), (62, "a", 5)])
    past = Past(log, 1, FREE)
    assert past.rate(15).tolist() == [0, 8]
    assert past.rate(30).tolist() == [2, 4]
    assert Past(log, 1, FREE, 1).rate(5).tolist() == [60, 0]
    assert Past(log, 0, FREE).rate(15).tolist() == [0, 0]


def test_a_log_of_hours_is_reacted_to_by_the_hour(make_log):
    log = make_log([[5, 7, 9]])
    assert Past(log, 2, FREE).rate(15).tolist() == [7]


def test_steps_need_more_than_chance_unless_they_are_asked_for(gather, rows_of):
    random = np.random.default_rng(3)
    log = gather(rows_of([(random.uniform(0, 48), f"k{random.integers(5)}", 1) for _ in range(70_000)]))
    assert choose_steps(log, 24, 1)[0]
    few, why = choose_steps(log, 24, 4)
    assert not few
    assert "loads are served by the hour" in why
    assert choose_steps(log, 24, 4, True)[0]
    assert not choose_steps(log, 24, 1, False)[0]


def test_poisson_steps_vary_by_the_root_of_their_number(gather, rows_of):
    random = np.random.default_rng(6)
    log = gather(rows_of([(random.uniform(0, 48), f"k{random.integers(50)}", 1) for _ in range(48 * 12 * 80)]))
    assert variation(log, 0, 2) == pytest.approx(1 / np.sqrt(40), rel=0.15)


def test_accesses_of_all_keys_at_the_full_hour_vary_together(gather, rows_of):
    random = np.random.default_rng(7)
    minutes = np.where(random.random(48 * 12 * 80) < 0.3, random.uniform(0, 5), random.uniform(0, 60, 48 * 12 * 80))
    rows = [(random.integers(0, 48) + m / 60, f"k{random.integers(50)}", 1) for m in minutes]
    assert variation(gather(rows_of(rows)), 0, 2) > 0.5


def test_static_policies_have_the_same_hours_in_steps(gather, rows_of):
    random = np.random.default_rng(4)
    log = gather(rows_of([(random.uniform(0, 48), f"k{random.integers(9)}", 1) for _ in range(4000)]))
    layout = layout_of(50, 50, 50)
    fine = replay(log, layout, StaticHash(layout), 24, FREE)
    coarse = replay(replace(log, steps=None), layout, StaticHash(layout), 24, FREE)
    assert fine.load.reshape(3, -1, 12).mean(axis=2) == pytest.approx(coarse.load, rel=1e-5)
    assert fine.worst_of_hours().shape == coarse.load.shape
