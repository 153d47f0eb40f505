"""What holds for every plan, in worlds drawn at random: skewed keys, few or many partitions, odd capacities, any graph."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.load import OriginShares, ServingRule, load_prediction_scores, partition_load
from foreshard.model import PartitionState
from foreshard.plan.planner import make_plan
from foreshard.plan.snapshot import PlanPolicy, StandingShadow

SEEDS = st.integers(0, 2**32 - 1)
LOOK = settings(max_examples=100, deadline=None)


def drawn(world, seed):
    """A world and a policy; utilisation from idle to hopeless."""
    rng = np.random.default_rng(seed)
    keys, partitions, hours = int(rng.integers(0, 40)), int(rng.integers(1, 6)), int(rng.integers(1, 25))
    loads = rng.pareto(1.2, (keys, 1)) * rng.random((keys, hours))
    primary = rng.integers(0, partitions, keys)
    total = max(float(loads.sum(axis=0).max(initial=0.0)), 0.1)
    capacity = total / partitions / rng.uniform(0.2, 1.4) * rng.uniform(0.3, 2.0, partitions)
    edges = int(rng.integers(0, 60)) if keys else 0
    pairs = np.c_[rng.integers(0, max(keys, 1), (edges, 2)), rng.random(edges) * 1000]
    points = rng.random((partitions, 2)) * rng.choice([10.0, 5000.0])
    km = np.linalg.norm(points[:, None] - points[None], axis=2)
    reads = rng.integers(0, 60) if keys else 0
    origins = OriginShares.build(
        rng.integers(0, max(keys, 1), reads), rng.integers(0, partitions, reads), rng.random(reads), keys
    )
    shadows = {(int(k), int(rng.integers(0, partitions))) for k in rng.integers(0, max(keys, 1), 3)} if keys else set()
    states = [PartitionState.DRAINING if rng.random() < 0.15 else PartitionState.ACTIVE for _ in range(partitions)]
    snapshot = world(
        loads,
        primary,
        capacity,
        sigma=loads * rng.choice([0.0, 0.3, 1.0]),
        read_share=rng.random(keys),
        origins=origins,
        co_access=pairs,
        km=km,
        states=states,
        key_bytes=rng.integers(0, 10_000, keys).astype(float),
        movable=rng.random(keys) < 0.9,
        last_source=np.where(rng.random(keys) < 0.1, rng.integers(0, partitions, keys), -1),
        shadows=tuple(
            StandingShadow(f"s-{n}", k, p, "hot_key", bool(rng.random() < 0.5))
            for n, (k, p) in enumerate(sorted(shadows))
            if p != primary[k]
        ),
    )
    policy = PlanPolicy(
        maximum_moves=int(rng.integers(0, 15)),
        maximum_shadows=int(rng.integers(0, 4)),
        maximum_bytes=float(rng.integers(0, 60_000)),
        minimum_gain=float(rng.choice([0.0, 0.01, 0.2])),
        serving=ServingRule(correlation=float(rng.choice([0.0, 0.2]))),
    )
    return snapshot, policy


def scores_under(snapshot, policy, plan):
    """LPS from scratch, with the plan carried out."""
    index = {key: k for k, key in enumerate(snapshot.keys)}
    place = {partition.partition_id: p for p, partition in enumerate(snapshot.partitions)}
    primary = snapshot.primary.copy()
    for move in plan.moves:
        primary[index[move.key]] = place[move.target]
    shadows = {(s.key, s.partition) for s in snapshot.shadows} | {(index[s.key], place[s.target]) for s in plan.shadows}
    shadows -= {(index[s.key], place[s.target]) for s in plan.removals}
    profile, _ = partition_load(
        snapshot.demand, primary, sorted(shadows), snapshot.capacity, snapshot.distance_km, policy.serving
    )
    return load_prediction_scores(profile, snapshot.capacity, policy.serving)


@LOOK
@given(SEEDS)
def test_the_predicted_worst_score_never_rises_above_both_what_it_was_and_the_low_water_mark(world, seed):
    snapshot, policy = drawn(world, seed)
    plan = make_plan(snapshot, policy)
    after = scores_under(snapshot, policy, plan)
    assert [plan.lps_after[p.partition_id] for p in snapshot.partitions] == pytest.approx(after.tolist())
    assert after.max() <= max(max(plan.lps_before.values()), policy.low_water) + 1e-6


@LOOK
@given(SEEDS)
def test_no_target_is_pushed_over_its_mark(world, seed):
    snapshot, policy = drawn(world, seed)
    plan = make_plan(snapshot, policy)
    for target in {change.target for change in (*plan.moves, *plan.shadows)}:
        assert plan.lps_after[target] <= max(policy.high_water, plan.lps_before[target]) + 1e-6


@LOOK
@given(SEEDS)
def test_moves_and_shadows_keep_the_hard_rules(world, seed):
    snapshot, policy = drawn(world, seed)
    plan = make_plan(snapshot, policy)
    index = {key: k for k, key in enumerate(snapshot.keys)}
    ids = [partition.partition_id for partition in snapshot.partitions]
    active = {p.partition_id for p in snapshot.partitions if p.state is PartitionState.ACTIVE}
    shadowed = {shadow.key for shadow in snapshot.shadows}
    for move in plan.moves:
        key = index[move.key]
        assert move.source == ids[snapshot.primary[key]] != move.target
        assert move.target in active
        assert snapshot.movable[key]
        assert key not in shadowed
        assert ids.index(move.target) != snapshot.last_source[key]
    for shadow in plan.shadows:
        key = index[shadow.key]
        assert shadow.source == ids[snapshot.primary[key]] != shadow.target
        assert shadow.target in active
        assert 1 - snapshot.demand.read_share[key] <= policy.maximum_write_share
        assert (key, ids.index(shadow.target)) not in {(s.key, s.partition) for s in snapshot.shadows}
    assert len({move.key for move in plan.moves}) == len(plan.moves)
    assert not {move.key for move in plan.moves} & {shadow.key for shadow in plan.shadows}
    standing = {shadow.shadow_id for shadow in snapshot.shadows}
    assert {removal.shadow_id for removal in plan.removals} <= standing


@LOOK
@given(SEEDS)
def test_the_hours_limits_are_kept(world, seed):
    snapshot, policy = drawn(world, seed)
    plan = make_plan(snapshot, policy)
    size = dict(zip(snapshot.keys, snapshot.key_bytes, strict=True))
    assert len(plan.moves) <= policy.maximum_moves
    assert len(plan.shadows) <= policy.maximum_shadows
    assert sum(size[change.key] for change in (*plan.moves, *plan.shadows)) <= policy.maximum_bytes


@LOOK
@given(SEEDS)
def test_every_partition_over_its_mark_is_relieved_or_told_why_not(world, seed):
    snapshot, policy = drawn(world, seed)
    plan = make_plan(snapshot, policy)
    over = {name for name, lps in plan.lps_after.items() if lps > policy.high_water + 1e-6}
    assert over == {refusal.partition_id for refusal in plan.refusals}
    for reason in (*(m.reason for m in plan.moves), *(s.reason for s in plan.shadows), *(r.reason for r in plan.refusals)):
        assert reason.code
        assert "\n" not in reason.sentence
        assert reason.facts


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_the_same_snapshot_gives_the_same_plan(world, seed):
    snapshot, policy = drawn(world, seed)
    assert make_plan(snapshot, policy) == make_plan(*drawn(world, seed))


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_relief_lowers_the_worst_score_of_what_it_touches(world, seed):
    snapshot, policy = drawn(world, seed)
    snapshot = replace(snapshot, shadows=())
    plan = make_plan(snapshot, policy)
    relief = [m for m in plan.moves if m.reason.code in {"overload", "co_accessed"}]
    touched = {m.source for m in relief} | {m.target for m in relief}
    if touched and len(relief) == len(plan.moves) and not plan.shadows:
        assert max(plan.lps_after[name] for name in touched) < max(plan.lps_before[name] for name in touched)
