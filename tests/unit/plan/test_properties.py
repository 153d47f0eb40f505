"""Properties of every plan, on random snapshots: skewed keys, few or many partitions, odd capacities, any graph."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import partition_load
from foreshard.model import PartitionState, RuleKind
from foreshard.plan.planner import make_plan

SEEDS = st.integers(0, 2**32 - 1)
RULES = {kind.value for kind in RuleKind}
LOOK = settings(max_examples=100, deadline=None)


def moved_units(plan):
    """Every moved unit with its move."""
    return [(move, unit) for move in plan.moves for unit in move.units]


def scores_under(snapshot, policy, plan):
    """LPS from scratch, with the plan carried out."""
    index = {key: k for k, key in enumerate(snapshot.keys)}
    place = {partition.partition_id: p for p, partition in enumerate(snapshot.partitions)}
    primary = snapshot.primary.copy()
    for move, unit in moved_units(plan):
        primary[index[unit]] = place[move.target]
    shadows = {(s.key, s.partition) for s in snapshot.shadows} | {(index[s.key], place[s.target]) for s in plan.shadows}
    shadows -= {(index[s.key], place[s.target]) for s in plan.removals}
    profile, _ = partition_load(
        snapshot.demand, primary, sorted(shadows), snapshot.capacity, snapshot.distance_km, policy.serving
    )
    return load_prediction_scores(profile.upper(policy.serving), snapshot.capacity)


@LOOK
@given(SEEDS)
def test_the_worst_predicted_score_never_rises_unless_it_stays_below_the_high_water_mark(drawn, seed):
    snapshot, policy = drawn(seed)
    plan = make_plan(snapshot, policy)
    after = scores_under(snapshot, policy, plan)
    assert [plan.lps_after[p.partition_id] for p in snapshot.partitions] == pytest.approx(after.tolist())
    assert after.max() <= max(max(plan.lps_before.values()), policy.high_water) + 1e-6


@LOOK
@given(SEEDS)
def test_no_target_is_pushed_over_its_mark_or_made_fuller_than_the_relieved_partition(drawn, seed):
    snapshot, policy = drawn(seed)
    plan = make_plan(snapshot, policy)
    hot = [shadow for shadow in plan.shadows if shadow.reason.code == "hot_key"]
    relieved = max((plan.lps_before[change.source] for change in (*plan.moves, *hot)), default=0.0)
    for target in {change.target for change in (*plan.moves, *plan.shadows)}:
        assert plan.lps_after[target] <= max(policy.high_water, plan.lps_before[target], relieved) + 1e-6


@LOOK
@given(SEEDS)
def test_moves_and_shadows_keep_the_hard_rules(drawn, seed):
    snapshot, policy = drawn(seed)
    plan = make_plan(snapshot, policy)
    index = {key: k for k, key in enumerate(snapshot.keys)}
    ids = [partition.partition_id for partition in snapshot.partitions]
    active = {p.partition_id for p in snapshot.partitions if p.state is PartitionState.ACTIVE}
    shadowed = {shadow.key for shadow in snapshot.shadows}
    for move, unit in moved_units(plan):
        key = index[unit]
        assert move.source == ids[snapshot.primary[key]] != move.target
        assert move.target in active
        by_rule = move.reason.code in RULES
        assert not snapshot.under_way[key] if by_rule else snapshot.movable[key]
        assert key not in shadowed
        lefts = {int(snapshot.last_source[index[unit]]) for unit in move.units}
        assert move.reason.facts["returns"] == (ids.index(move.target) in lefts)
    for shadow in plan.shadows:
        key = index[shadow.key]
        assert shadow.source == ids[snapshot.primary[key]] != shadow.target
        assert shadow.target in active
        assert 1 - snapshot.demand.read_share[key] <= policy.maximum_write_share
        assert (key, ids.index(shadow.target)) not in {(s.key, s.partition) for s in snapshot.shadows}
    assert len({unit for _, unit in moved_units(plan)}) == len(moved_units(plan))
    assert not {unit for _, unit in moved_units(plan)} & {shadow.key for shadow in plan.shadows}
    current = {shadow.shadow_id for shadow in snapshot.shadows}
    assert {removal.shadow_id for removal in plan.removals} <= current


@LOOK
@given(SEEDS)
def test_the_hours_limits_are_kept(drawn, seed):
    snapshot, policy = drawn(seed)
    plan = make_plan(snapshot, policy)
    size = dict(zip(snapshot.keys, snapshot.key_bytes, strict=True))
    assert len(plan.moves) <= policy.maximum_moves
    assert len(plan.shadows) <= policy.maximum_shadows
    assert (
        sum(size[key] for key in (*(unit for m in plan.moves for unit in m.units), *(s.key for s in plan.shadows)))
        <= policy.maximum_bytes
    )


@LOOK
@given(SEEDS)
def test_every_partition_above_its_mark_is_relieved_or_refused_with_a_reason(drawn, seed):
    snapshot, policy = drawn(seed)
    plan = make_plan(snapshot, policy)
    over = {name for name, lps in plan.lps_after.items() if lps > policy.high_water + 1e-6}
    kept = {
        refusal.partition_id for refusal in plan.refusals if refusal.reason.code not in {"against_rule", "drain_unfinished"}
    }
    assert over == kept
    for reason in (*(m.reason for m in plan.moves), *(s.reason for s in plan.shadows), *(r.reason for r in plan.refusals)):
        assert reason.code
        assert "\n" not in reason.sentence
        assert reason.facts


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_the_same_snapshot_gives_the_same_plan(drawn, seed):
    snapshot, policy = drawn(seed)
    assert make_plan(snapshot, policy) == make_plan(*drawn(seed))


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_relief_lowers_the_worst_score_among_the_partitions_it_changes_or_leaves_it_below_the_mark(drawn, seed):
    snapshot, policy = drawn(seed)
    snapshot = replace(snapshot, shadows=())
    plan = make_plan(snapshot, policy)
    relief = [m for m in plan.moves if m.reason.code in {"overload", "co_accessed"}]
    touched = {m.source for m in relief} | {m.target for m in relief}
    if touched and len(relief) == len(plan.moves) and not plan.shadows:
        after, before = (max(lps[name] for name in touched) for lps in (plan.lps_after, plan.lps_before))
        assert after < before or after <= policy.high_water + 1e-6


@LOOK
@given(SEEDS)
def test_placement_rules_hold_for_every_move_and_every_shadow(drawn, seed):
    snapshot, policy = drawn(seed)
    plan, rules = make_plan(snapshot, policy), snapshot.rules
    index = {key: k for k, key in enumerate(snapshot.keys)}
    place = {partition.partition_id: p for p, partition in enumerate(snapshot.partitions)}
    for move, unit in moved_units(plan):
        assert rules.home[rules.row[index[unit]], place[move.target]]
        assert not rules.fixed_keys[index[unit]]
    for shadow in plan.shadows:
        assert rules.copy[rules.row[index[shadow.key]], place[shadow.target]]


@LOOK
@given(SEEDS)
def test_a_key_that_violates_its_rule_is_moved_or_refused_with_a_reason(drawn, seed):
    snapshot, policy = drawn(seed)
    plan, rules = make_plan(snapshot, policy), snapshot.rules
    moved = {unit for _, unit in moved_units(plan)}
    told = {r.partition_id for r in plan.refusals if r.reason.code == "against_rule"}
    for key in np.flatnonzero(~rules.at_home(snapshot.primary) & ~snapshot.under_way):
        assert snapshot.keys[key] in moved or snapshot.partitions[snapshot.primary[key]].partition_id in told


@LOOK
@given(SEEDS)
def test_every_key_has_exactly_one_owner(drawn, seed):
    snapshot, policy = drawn(seed)
    plan = make_plan(snapshot, policy)
    ids = [partition.partition_id for partition in snapshot.partitions]
    owners = {key: [ids[p]] for key, p in zip(snapshot.keys, snapshot.primary, strict=True)}
    for move, unit in moved_units(plan):
        owners[unit].remove(move.source)
        owners[unit].append(move.target)
    assert all(len(owner) == 1 and owner[0] in ids for owner in owners.values())


@LOOK
@given(SEEDS)
def test_moves_are_ordered_by_urgency_with_their_finishing_times(drawn, seed):
    snapshot, policy = drawn(seed)
    plan = make_plan(snapshot, policy)
    facts = [move.reason.facts for move in plan.moves]
    assert all(fact["finished_by"] > snapshot.hour.isoformat() for fact in facts)
    late = {move.source for move in plan.moves if not move.reason.facts["in_time"] and move.reason.code not in RULES}
    assert late == {warning.partition_id for warning in plan.warnings}
    needed = list(zip(plan.moves, (fact["needed_by"] for fact in facts), strict=True))
    urgent = [min(by for other, by in needed if other.clump == move.clump) for move in plan.moves]
    assert urgent == sorted(urgent)
