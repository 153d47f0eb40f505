"""A partition that is full of small units gives sets of them to others, down to the level of the best possible split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.plan.conftest import build_policy, build_world

from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.placement_rules import PlacementRules
from foreshard.measure.serving import partition_load
from foreshard.model import PartitionState, PlacementRule, RuleKind
from foreshard.model.key_space import KeySpace, slot_number, slot_unit
from foreshard.plan.input.key_states import KeyStates, slot_rows, with_slots
from foreshard.plan.planner import make_plan
from foreshard.quality.gates import check_plan
from foreshard.settings import PlanSettings

HOURS = 24
PLANS = 3
DAY = 1.0 + 0.5 * np.sin(np.arange(HOURS) / HOURS * 2 * np.pi)


def small_keys(count: int, seed: int = 7) -> np.ndarray:
    """Loads (count, 24) of keys with skewed rates, each with a day of its own."""
    rng = np.random.default_rng(seed)
    rates = rng.lognormal(0.0, 1.0, count)
    noise = rng.uniform(0.8, 1.2, (count, HOURS))
    return rates[:, None] * DAY * noise


def full_world(loads: np.ndarray, partitions: int, lps: float, **more):
    """All units on the first of equal partitions, which they fill to ``lps``."""
    peak = loads.sum(axis=0).max()
    return build_world(loads, [0] * len(loads), [peak / lps] * partitions, sigma=0.2 * loads, **more)


def slots_of(loads: np.ndarray, slots: int = 4_096) -> tuple[np.ndarray, tuple[str, ...]]:
    """The keys' loads summed into slots, and the slots' names."""
    space = KeySpace(slots=slots)
    of = np.array(space.slots_of(f"product {n}" for n in range(len(loads))))
    summed = np.zeros((slots, HOURS))
    np.add.at(summed, of, loads)
    return summed, tuple(slot_unit(n) for n in range(slots))


def best_split(world, policy) -> float:
    """The LPS if every partition had its share of every unit."""
    share = world.capacity / world.capacity.sum()
    mean, sigma = world.demand.mean.sum(axis=0) / 3600, world.demand.sigma / 3600
    variance = (1 - policy.serving.correlation) * (sigma**2).sum(axis=0)
    spread = np.sqrt(policy.serving.correlation) * sigma.sum(axis=0)
    upper = [s * mean + policy.serving.z * np.sqrt(s * variance + (s * spread) ** 2) for s in share]
    return float(max(load.max() / capacity for load, capacity in zip(upper, world.capacity, strict=True)))


def after(world, plan):
    """The world once the plan's moves are done; moved units rest."""
    target = {unit: move.target for move in plan.moves for unit in move.units}
    index = {partition.partition_id: n for n, partition in enumerate(world.partitions)}
    primary = np.array([index[target[key]] if key in target else p for key, p in zip(world.keys, world.primary, strict=True)])
    return replace(world, primary=primary, movable=np.array([key not in target for key in world.keys]) & world.movable)


def planned(world, policy, hours: int = PLANS):
    """Make and carry out the plans of these hours. Return them, and the worst LPS after each."""
    plans = []
    for _ in range(hours):
        plans.append(make_plan(world, policy))
        world = after(world, plans[-1])
    return plans, [max(plan.lps_after.values()) for plan in plans]


@pytest.mark.parametrize("partitions", [2, 8])
@pytest.mark.parametrize("lps", [1.18, 1.91])
def test_a_partition_full_of_2960_small_keys_beside_empty_ones_reaches_the_best_split(partitions, lps) -> None:
    world, policy = full_world(small_keys(2_960), partitions, lps), build_policy()
    plans, worst = planned(world, policy)
    assert worst[-1] <= 1.1 * best_split(world, policy), worst
    assert worst == sorted(worst, reverse=True)
    assert sum(len(plan.moves) for plan in plans) <= PLANS * policy.maximum_moves


@pytest.mark.parametrize("partitions", [2, 8])
@pytest.mark.parametrize("lps", [1.18, 2.7])
def test_300_000_keys_summed_into_slots_reach_the_best_split(partitions, lps) -> None:
    loads, names = slots_of(small_keys(300_000))
    world, policy = replace(full_world(loads, partitions, lps), keys=names), build_policy()
    plans, worst = planned(world, policy)
    assert worst[-1] <= 1.1 * best_split(world, policy), worst
    first = plans[0].moves[0]
    assert f"{len(first.units):,}".replace(",", "") + " slots move together" in first.reason.sentence
    assert "\x1f" not in first.reason.sentence
    assert check_plan(plans[0], world.partitions, PlanSettings(), PlacementRules(())).passed


def test_partitions_of_unlike_capacities_are_filled_in_proportion() -> None:
    loads, names = slots_of(small_keys(30_000))
    peak = loads.sum(axis=0).max()
    world = replace(build_world(loads, [0] * len(loads), [peak / 1.5, peak / 3, peak / 6], sigma=0.2 * loads), keys=names)
    plans, _ = planned(world, build_policy(), 1)
    levels = list(plans[0].lps_after.values())
    assert max(levels) / min(levels) < 1.05


def test_resting_moving_and_pinned_units_stay_and_targets_obey_the_rules() -> None:
    loads = small_keys(1_000)
    world = full_world(loads, 3, 1.3)
    resting, under_way = np.arange(1_000) % 5 != 0, np.arange(1_000) % 7 == 0
    pins = PlacementRules((PlacementRule(RuleKind.RESIDENCY, "key-01", True, None, ("town-0", "town-2")),))
    world = replace(world, movable=resting & ~under_way, under_way=under_way, bounds=pins.bounds(world.keys, world.partitions))
    plan = make_plan(world, build_policy())
    moved = {unit: move.target for move in plan.moves for unit in move.units}
    index = {key: n for n, key in enumerate(world.keys)}
    assert moved
    assert all(world.movable[index[unit]] for unit in moved)
    assert {target for unit, target in moved.items() if unit.startswith("key-01")} <= {"p2"}


def test_keys_that_are_used_together_stay_together() -> None:
    loads = small_keys(1_000)
    pairs = [(2 * n, 2 * n + 1, float(loads[2 * n : 2 * n + 2].mean(axis=1).max()) * 3600) for n in range(100)]
    world = full_world(loads, 2, 1.2, co_access=pairs, access_cost=1.0)
    moved = {unit for move in make_plan(world, build_policy()).moves for unit in move.units if len(move.units) > 1}
    assert moved
    assert not moved & set(world.keys[:200])


def test_bytes_and_moves_of_an_hour_are_limits() -> None:
    loads, names = slots_of(small_keys(30_000))
    world = replace(full_world(loads, 4, 1.9, key_bytes=2.0**20), keys=names)
    policy = build_policy(maximum_bytes=500 * 2**20, maximum_moves=2)
    plan = make_plan(world, policy)
    assert len(plan.moves) <= 2
    assert 0 < sum(move.estimated_bytes for move in plan.moves) <= policy.maximum_bytes
    _, worst = planned(world, policy, 2)
    assert worst[1] < worst[0] < 1.9


def test_a_draining_partition_gives_its_small_units_away_in_sets() -> None:
    loads, names = slots_of(small_keys(30_000))
    states = [PartitionState.DRAINING, PartitionState.ACTIVE, PartitionState.ACTIVE]
    world = replace(full_world(loads, 3, 0.75, states=states), keys=names)
    plan = make_plan(world, build_policy())
    assert sum(len(move.units) for move in plan.moves) == len(names)
    assert len(plan.moves) <= 4
    assert plan.lps_after["p0"] == 0.0
    assert {move.reason.code for move in plan.moves} == {"draining"}


@pytest.mark.parametrize("idle", [0.5, 1.0])
def test_idle_slots_leave_a_draining_partition_too(idle) -> None:
    loads, names = slots_of(small_keys(3_000), 256)
    loads[: int(256 * idle)] = 0.0
    states = [PartitionState.DRAINING, PartitionState.ACTIVE]
    world = replace(build_world(loads, [0] * 256, [1e4, 1e4], states=states), keys=names)
    plan = make_plan(world, build_policy())
    assert {unit for move in plan.moves for unit in move.units} == set(names)
    assert len(plan.moves) == 1


def test_a_slot_never_gets_a_shadow() -> None:
    loads, names = slots_of(small_keys(3_000), 16)
    world = replace(full_world(loads, 2, 2.5, read_share=1.0), keys=names)
    assert make_plan(world, build_policy()).shadows == ()


def test_the_same_snapshot_gives_the_same_plan() -> None:
    world = full_world(small_keys(500), 3, 1.4)
    assert make_plan(world, build_policy()) == make_plan(world, build_policy())


def mixed_world(slots: int = 64, named: int = 40, size: float = 1.0):
    """Slots, and keys that are units by their load: ``size`` × that of a typical slot. All on p0. Returns (world, space)."""
    space = KeySpace(slots=slots)
    loads, names = slots_of(small_keys(3_000), slots)
    keys = tuple(f"named {n:03}" for n in range(named))
    both = np.concatenate([loads, size * loads.mean(axis=0) * np.ones((named, 1))])
    world = replace(full_world(both, 3, 1.5), keys=(*names, *keys))
    return replace(world, slot_row=slot_rows(world.keys, space)), space


def carried_out(world, plan):
    """LPS from scratch, with the plan carried out."""
    done = after(world, plan)
    profile, _ = partition_load(done.demand, done.primary, [], done.capacity, done.distance_km, build_policy().serving)
    return load_prediction_scores(profile.upper(build_policy().serving), done.capacity)


def test_a_slot_brings_along_the_small_keys_of_it_in_the_same_move() -> None:
    world, space = mixed_world()
    plan = make_plan(world, build_policy())
    assert list(plan.lps_after.values()) == pytest.approx(carried_out(world, plan).tolist())
    with_keys = 0
    for move in plan.moves:
        slots = {unit for unit in move.units if unit.startswith("\x1f")}
        keys = {key for key in world.keys if not key.startswith("\x1f") and slot_unit(space.slot_of(key)) in slots}
        assert keys <= set(move.units)
        with_keys += len(keys)
    assert with_keys


def test_a_hot_key_stays_when_its_slot_leaves_and_the_plan_counts_it_there() -> None:
    world, space = mixed_world(named=4, size=5.0)
    plan = make_plan(world, build_policy())
    moved = {unit for move in plan.moves if len(move.units) > 1 for unit in move.units}
    assert moved & {slot_unit(space.slot_of(f"named {n:03}")) for n in range(4)}
    assert not moved & {f"named {n:03}" for n in range(4)}
    assert list(plan.lps_after.values()) == pytest.approx(carried_out(world, plan).tolist())


@pytest.mark.parametrize("size", [1.0, 5.0])
def test_a_slot_and_its_keys_never_move_by_two_moves_of_one_plan(size) -> None:
    world, space = mixed_world(size=size)
    plan = make_plan(world, build_policy())
    touched = [
        {slot_number(unit) if unit.startswith("\x1f") else space.slot_of(unit) for unit in move.units} for move in plan.moves
    ]
    slots = [{slot_number(unit) for unit in move.units if unit.startswith("\x1f")} for move in plan.moves]
    assert sum(map(len, slots)) > 0
    for number, moved in enumerate(slots):
        assert not moved & set().union(*(touched[:number] + touched[number + 1 :]))


def test_a_slot_stays_while_a_key_of_it_is_being_moved_and_a_pinned_key_stays_anyway() -> None:
    world, space = mixed_world()
    pin = PlacementRules((PlacementRule(RuleKind.PIN, "named 000", partition_id="p0"),))
    under_way = np.array([key == "named 001" for key in world.keys])
    world = replace(world, bounds=pin.bounds(world.keys, world.partitions), under_way=under_way, movable=~under_way)
    moved = {unit for move in make_plan(world, build_policy()).moves for unit in move.units}
    assert moved
    assert not moved & {"named 000", slot_unit(space.slot_of("named 001"))}


def test_a_key_whose_slot_is_being_moved_is_not_movable() -> None:
    space = KeySpace(slots=4)
    keys = (*(slot_unit(slot) for slot in range(4)), "a", "b")
    row = slot_rows(keys, space)
    assert row.tolist() == [0, 1, 2, 3, space.slot_of("a"), space.slot_of("b")]
    moving = np.arange(6) == space.slot_of("a")
    states = with_slots(KeyStates(np.zeros(6, int), ~moving, moving, np.ones(6, bool), np.full(6, -1)), row)
    assert not states.movable[4]
    assert slot_rows(("a", "b"), space).tolist() == [0, 1]
