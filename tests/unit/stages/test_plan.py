"""The plan stage, with every port in memory."""

from datetime import timedelta

import pytest
from tests.unit.stages.fakes import (
    HOUR,
    Forecasts,
    Gates,
    Planning,
    Plans,
    Ports,
    Registry,
    Routing,
    Rules,
    Scores,
    Series,
    Tallies,
    forecast,
    key_load,
)

from foreshard.errors import GateFailed
from foreshard.model import Move, Partition, Placement, PlacementRule, Plan, Reason, RuleKind
from foreshard.model.recent import RecentMove
from foreshard.move.pacer import NoLimits
from foreshard.settings import PlanSettings, Settings
from foreshard.stages.plan import gate_plan, plan_hour

TWO = (Partition("alpha", "west", 1.0), Partition("beta", "west", 1.0))
KEYS = {f"k{n}": Placement(f"k{n}", "alpha") for n in range(12)}


def ports(planning=None, rules=(), load=None, **plan):
    settings = Settings(plan=PlanSettings(reserve=0.0, **plan))
    return Ports(
        settings,
        forecasts=Forecasts({HOUR: forecast(**dict.fromkeys(KEYS, 360.0))}),
        plans=Plans(),
        registry=Registry(*TWO),
        routing=Routing(KEYS),
        tallies=Tallies(key_load(48, **dict.fromkeys(KEYS, 360.0)) if load is None else load),
        series=Series(),
        planning=planning or Planning(),
        placement_rules=Rules(*rules),
        gates=Gates(),
        scores=Scores(),
        migration_limits=NoLimits(),
    )


def test_a_full_partition_is_relieved_and_the_plan_saved():
    at = ports()
    summary = plan_hour(at, HOUR)
    assert summary.worst_lps_before > 0.95 > summary.worst_lps_after
    assert summary.moves == len(at.plans[HOUR].moves) > 0
    assert {(move.source, move.target) for move in at.plans[HOUR].moves} == {("alpha", "beta")}
    assert not at.plans[HOUR].dry_run


def test_a_dry_run_is_saved_as_one():
    at = ports()
    assert plan_hour(at, HOUR, dry_run=True).dry_run
    assert at.plans[HOUR].dry_run


def test_an_hour_older_than_the_newest_counted_one_is_a_dry_run_unless_asked_for():
    later = [(HOUR + timedelta(hours=1), *row[1:]) for row in key_load(1, k0=1.0)]
    at = ports(load=[*key_load(48, k0=360.0), *later])
    assert plan_hour(at, HOUR).dry_run
    assert not plan_hour(at, HOUR, act_on_old_hours=True).dry_run


def test_a_plan_that_has_begun_is_returned_unchanged():
    at = ports()
    at.planning.begun = True
    at.plans[HOUR] = Plan(HOUR, 7, (Move("m", ("k0",), "alpha", "beta", 1, "k0", Reason("hot", "why")),))
    assert plan_hour(at, HOUR).moves == 1
    assert at.plans[HOUR].table_version == 7


def test_keys_that_have_just_been_moved_are_moved_again_only_if_others_do_not_suffice():
    moves = [RecentMove(key, "beta", "alpha", False, HOUR) for key in list(KEYS)[:6]]
    at = ports(Planning(moves))
    plan_hour(at, HOUR)
    assert {unit for move in at.plans[HOUR].moves for unit in move.units} <= set(list(KEYS)[6:])


def test_a_pinned_key_stays():
    pins = [PlacementRule(RuleKind.PIN, key, partition_id="alpha") for key in KEYS if key != "k3"]
    at = ports(rules=pins)
    plan_hour(at, HOUR)
    assert {move.units[0] for move in at.plans[HOUR].moves} <= {"k3"}


def test_the_gate_saves_its_result_and_stops_a_plan_that_breaks_a_rule():
    at = ports()
    plan_hour(at, HOUR)
    gate_plan(at, HOUR)
    moved = at.plans[HOUR].moves[0].units[0]
    at.placement_rules.save(PlacementRule(RuleKind.PIN, moved, partition_id="alpha"))
    with pytest.raises(GateFailed, match=moved):
        gate_plan(at, HOUR)
    assert [result.passed for result in at.gates.results] == [True, False]
