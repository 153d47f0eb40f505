"""A placement while a plan is built: what is added up step by step equals what is computed anew, and undoing restores it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.plan._placement import PlannedPlacement
from foreshard.plan.input.judged_hours import JudgedHours
from foreshard.plan.input.snapshot import IndexedShadow

SEEDS = st.integers(0, 2**32 - 1)


def placed(snapshot, policy):
    return PlannedPlacement(snapshot, policy, JudgedHours.of(snapshot, policy))


def random_steps(placement, rng, most=6):
    """Take up to ``most`` random steps that are possible."""
    for _ in range(most):
        keys, partitions = len(placement.primary), len(placement.capacity)
        if not keys or partitions < 2:
            return
        key, target = int(rng.integers(keys)), int(rng.integers(partitions))
        if placement.copies.get(key) and rng.random() < 0.5:
            placement.remove_shadow(key, placement.copies[key][0])
        elif target != placement.primary[key] and target not in placement.copies.get(key, ()):
            if rng.random() < 0.5 or placement.copies.get(key):
                placement.add_shadow(key, target)
            else:
                placement.move(np.array([key]), target)


def anew(placement):
    """The same placement, computed from scratch."""
    shadows = tuple(IndexedShadow(f"{k}|{p}", k, p) for k, held in placement.copies.items() for p in held)
    snapshot = replace(placement.snapshot, primary=placement.primary.copy(), shadows=shadows)
    return placed(snapshot, placement.policy)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_steps_add_up_to_what_is_computed_from_scratch(drawn, seed):
    placement = placed(*drawn(seed))
    random_steps(placement, np.random.default_rng(seed))
    fresh = anew(placement)
    for mine, its in zip(placement.load.parts(), fresh.load.parts(), strict=True):
        assert mine == pytest.approx(its, rel=1e-4, abs=1e-6 * its.max(initial=1.0))
    assert placement.inside == pytest.approx(fresh.inside, abs=1e-6)
    assert placement.lps() == pytest.approx(fresh.lps(), rel=1e-3, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_undone_steps_leave_nothing_behind(drawn, seed):
    placement, rng = placed(*drawn(seed)), np.random.default_rng(seed)
    random_steps(placement, rng, 2)
    kept = placement.steps
    before = (
        placement.primary.copy(),
        {key: sorted(held) for key, held in placement.copies.items()},
        [part.copy() for part in placement.load.parts()],
        placement.overload.copy(),
        placement.moved.copy(),
        placement.movable_on(0).tolist(),
    )
    random_steps(placement, rng)
    placement.undo(kept)
    assert placement.primary.tolist() == before[0].tolist()
    assert {key: sorted(held) for key, held in placement.copies.items()} == before[1]
    for mine, its in zip(placement.load.parts(), before[2], strict=True):
        assert mine.tolist() == its.tolist()
    assert placement.overload.tolist() == before[3].tolist()
    assert placement.moved.tolist() == before[4].tolist()
    assert placement.movable_on(0).tolist() == before[5]


def test_the_hours_are_the_coming_ones_a_burst_and_the_mean_week(world, drawn):
    snapshot, policy = next(drawn(seed) for seed in range(50) if drawn(seed)[0].week is not None and len(drawn(seed)[0].keys))
    snapshot = replace(snapshot, week=replace(snapshot.week, weeks=4.0))
    hours = JudgedHours.of(snapshot, replace(policy, reserve=0.2))
    coming = snapshot.demand.hours
    assert hours.mean.shape[1] == 2 * coming + 168
    assert hours.mean[:, coming : 2 * coming] == pytest.approx(hours.mean[:, :coming] / 0.8, rel=1e-5)
    assert hours.weight[2 * coming :].sum() == pytest.approx(10 * hours.weight[:coming].sum())
    calm = JudgedHours.of(replace(snapshot, week=None), replace(policy, reserve=0.0))
    assert calm.mean.shape[1] == calm.coming == coming
