"""The outlook's incremental figures are those that a count from scratch gives, and a change taken back leaves no trace."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import partition_load
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan.planner import make_plan
from foreshard.plan.snapshot import CoAccessGraph

SEEDS = st.integers(0, 2**32 - 1)
LOOK = settings(max_examples=80, deadline=None)


def changes(view, rng, count):
    """Apply ``count`` random changes; yield each."""
    keys, partitions = len(view.primary), len(view.capacity)
    for _ in range(count if keys else 0):
        key, partition = int(rng.integers(0, keys)), int(rng.integers(0, partitions))
        kind = rng.integers(0, 3)
        if kind == 0 and key not in view.shadowed and view.primary[key] != partition:
            others = [k for k in view.keys_on(int(view.primary[key])).tolist() if k not in view.shadowed and k != key]
            yield view.move((key, *others[: int(rng.integers(0, 3))]), partition)
        elif kind == 1 and partition not in view.copies(key):
            yield view.add_shadow(key, partition)
        elif kind == 2 and (removed := view.remove_shadow(key, partition)):
            yield removed


def figures(view):
    parts = [part.copy() for part in view.profile.parts()]
    return [*parts, view.utilisation().copy(), view.lps().copy(), view.risk_now().copy(), view.primary.copy(), view.uses.copy()]


def everything(view):
    """What all keys ask for in all hours."""
    return view.hours.of(np.arange(len(view.primary)))


@LOOK
@given(SEEDS)
@example(2651194)  # reads are shared out up to exactly the mark, and nothing is uncertain
def test_after_any_changes_every_figure_is_what_a_count_from_scratch_gives(drawn, seed):
    snapshot, policy = drawn(seed)
    view = PlacementModel(snapshot, policy)
    for _ in changes(view, np.random.default_rng(seed), 12):
        pass
    profile, _ = partition_load(
        everything(view), view.primary, sorted(view.shadows), snapshot.capacity, snapshot.distance_km, policy.serving
    )
    assert view.profile.mean == pytest.approx(profile.mean, rel=1e-9, abs=1e-9)
    ahead = profile.rows((slice(None), slice(view.marked)))
    assert view.lps() == pytest.approx(
        load_prediction_scores(ahead.upper(policy.serving), snapshot.capacity), rel=1e-6, abs=1e-6
    )
    anew = PlacementModel(replace(snapshot, primary=view.primary, shadows=()), policy)
    for partition in range(len(snapshot.partitions)):
        assert view.keys_on(partition).tolist() == anew.keys_on(partition).tolist()
    assert view.uses == pytest.approx(anew.uses, rel=1e-9, abs=1e-9)
    risk = view.risk(view.profile, slice(None), anew.uses)
    assert view.total_risk() == pytest.approx(float(risk.sum()), rel=1e-9, abs=1e-9)


@LOOK
@given(SEEDS)
def test_a_change_that_is_taken_back_leaves_every_figure_as_it_was_to_the_bit(drawn, seed):
    snapshot, policy = drawn(seed)
    view, rng = PlacementModel(snapshot, policy), np.random.default_rng(seed)
    for _ in changes(view, rng, 4):
        pass
    before, shadows = figures(view), view.shadows
    for change in changes(view, rng, 6):
        view.undo(change)
        assert view.shadows == shadows
        assert all((was == now).all() for was, now in zip(before, figures(view), strict=True))


@LOOK
@given(SEEDS)
def test_where_no_partition_passes_reads_on_what_copies_serve_can_be_fixed(drawn, seed):
    snapshot, policy = drawn(seed)
    policy = replace(policy, serving=replace(policy.serving, room_mark=np.inf))
    counting, fixed, rng = PlacementModel(snapshot, policy), PlacementModel(snapshot, policy), np.random.default_rng(seed)
    fixed.fix_copies()
    for _ in range(8):
        key, target = (int(rng.integers(0, max(1, count))) for count in (len(snapshot.keys), len(snapshot.partitions)))
        if len(snapshot.keys) and key not in counting.shadowed and counting.primary[key] != target:
            changes = [view.move((key,), target) for view in (counting, fixed)]
            assert fixed.pushed_over(changes[1]) == counting.pushed_over(changes[0])
    for one, other in zip(figures(fixed), figures(counting), strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-6)


@LOOK
@given(SEEDS)
def test_the_graph_has_every_pair_in_both_rows_with_repetitions_summed(seed):
    rng = np.random.default_rng(seed)
    keys, pairs = int(rng.integers(1, 12)), int(rng.integers(0, 40))
    a, b, weight = rng.integers(0, keys, pairs), rng.integers(0, keys, pairs), rng.integers(0, 4, pairs).astype(float)
    dense = np.zeros((keys, keys))
    for one, other, w in zip(a, b, weight, strict=True):
        if one != other:
            dense[one, other] += w
            dense[other, one] += w
    graph = CoAccessGraph.build(a, b, weight, keys)
    for key in range(keys):
        neighbours, weights = graph.of(key)
        assert neighbours.tolist() == np.flatnonzero(dense[key]).tolist()
        assert weights.tolist() == dense[key][dense[key] > 0].tolist()


class Recounting(PlacementModel):
    """Counts everything anew after each change, as a planner without bookkeeping would."""

    def _linked(self, *partitions):
        return np.arange(len(self.capacity))

    def _recount(self, rows):
        super()._recount(rows)
        profile, _ = partition_load(
            everything(self),
            self.primary,
            sorted(self.shadows),
            self.snapshot.capacity,
            self.snapshot.distance_km,
            self.policy.serving,
        )
        assert self.profile.mean == pytest.approx(profile.mean, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_plan_is_the_one_that_recounting_everything_gives(drawn, seed):
    snapshot, policy = drawn(seed)
    with mock.patch("foreshard.plan.planner.PlacementModel", Recounting):
        slow = make_plan(snapshot, policy)
    assert make_plan(snapshot, policy) == slow
