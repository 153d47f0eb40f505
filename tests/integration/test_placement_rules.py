"""Placement rules on a real control database: the command, the planner, and manual moves and shadows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from click.testing import CliRunner
from tests.slots import slot_map

from foreshard.cli.group import cli
from foreshard.errors import PlacementRuleBroken, UnknownPartition, UnknownRule, UnusableRule
from foreshard.model import (
    ForecastBatch,
    Location,
    Move,
    Partition,
    Placement,
    PlacementRule,
    Plan,
    Reason,
    RoutingTable,
    RuleKind,
)
from foreshard.model.move_state import MoveState
from foreshard.settings import CollectionSetting, ForecastSettings, Settings
from foreshard.stages.manual_moves import describe_move, move_units
from foreshard.stages.migrate import start_moves
from foreshard.stages.plan import gate_plan, plan_hour
from foreshard.stages.rules import list_rules, remove_rule, set_rule
from foreshard.stages.shadow import request_shadow
from foreshard.stages.snapshot import migration_rate
from foreshard.wiring import Wiring

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)
KEYS = ("eu-1", "eu-2", "us-1")
PLACES = {"alpha": "San Jose", "beta": "Frankfurt", "gamma": "San Jose"}


@pytest.fixture
def wiring(mongods, unique_name, work_folder):
    """Three keys on alpha, none of them hot; one shadow of eu-1 on gamma."""
    settings = Settings.load(
        control_uri=mongods[0].uri,
        control_database=unique_name,
        data_dir=work_folder,
        collections=(CollectionSetting(database=unique_name, collection="trips", key_field="station"),),
        forecast=ForecastSettings(history_days=2, horizon_hours=3),
    )
    with Wiring(settings) as built:
        uris = {mongod.name: mongod.uri for mongod in mongods[1:]}
        places = (Location("San Jose", 37.3, -121.9), Location("Frankfurt", 50.1, 8.7))
        built.registry.register([Partition(name, PLACES[name], 10.0, uris[name]) for name in PLACES], places)
        placements = {key: Placement(key, "alpha", ("gamma",) if key == "eu-1" else ()) for key in KEYS}
        built.routing.initialise(RoutingTable(1, placements, slot_map(("alpha",), (1.0,)), HOUR))
        mean = np.full((len(KEYS), 3), 3600.0)
        built.forecasts.begin(HOUR, 1)
        built.forecasts.save_chunk(0, ForecastBatch(HOUR, 0.9, KEYS, mean, mean / 10, mean, ("prophet",) * len(KEYS)))
        yield built


@pytest.fixture
def run(mongods, unique_name):
    environment = {"FORESHARD_CONTROL_URI": mongods[0].uri, "FORESHARD_CONTROL_DATABASE": unique_name, "COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(cli, ["rules", *arguments], env=environment)


def reside(selector, *locations, prefix=True):
    return PlacementRule(RuleKind.RESIDENCY, selector, prefix, None, locations)


class TestCommand:
    def test_rules_are_set_listed_checked_and_removed(self, wiring, run):
        assert run("list").output == "no placement rules\n"
        assert run("pin", "us-1", "--note", "big").output == "'us-1' is pinned to alpha (1 listed key)\n"
        done = run("reside", "eu-", "Frankfurt", "--prefix").output
        assert done == (
            "every key that begins with 'eu-' must stay in Frankfurt "
            "(2 listed keys, 2 are elsewhere, 1 shadows are elsewhere)\n"
            "the next plan moves the keys that break it, within the limits of one hour\n"
        )
        assert "'us-1' is pinned to alpha (1 listed key)  # big" in run("list").output
        asked = run("check", "eu-1").output
        assert "'eu-1' is on alpha\n  it must stay in Frankfurt (residency:prefix:eu-)" in asked
        assert "its primary copy may be on: beta\n" in asked
        assert "can't go to gamma" in str(run("check", "eu-1", "gamma").exception)
        assert run("release", "eu-", "--prefix").output == "residency:prefix:eu- is removed\n"
        assert run("unpin", "us-1").exit_code == 0
        assert run("list").output == "no placement rules\n"
        assert "no placement rule 'pin:key:us-1'" in str(run("unpin", "us-1").exception)

    def test_a_dry_run_counts_and_saves_nothing(self, wiring, run):
        assert run("pin", "eu-", "beta", "--prefix", "--dry-run").output == (
            "dry run, nothing saved: every key that begins with 'eu-' is pinned to beta (2 listed keys, 2 are elsewhere)\n"
        )
        assert not wiring.placement_rules.rules()


class TestErrors:
    def test_a_rule_that_no_partition_can_keep_is_refused_in_one_line(self, wiring):
        with pytest.raises(UnknownPartition, match="atlantis"):
            set_rule(wiring, PlacementRule(RuleKind.PIN, "eu-1", partition_id="atlantis"))
        with pytest.raises(UnusableRule, match=r"no partition is in 'Oslo'; partitions are in: Frankfurt, San Jose"):
            set_rule(wiring, reside("eu-", "Oslo"))
        with pytest.raises(UnknownRule):
            remove_rule(wiring, reside("eu-"))

    def test_a_pin_and_a_residency_that_contradict_are_refused_in_either_order(self, wiring):
        set_rule(wiring, reside("eu-", "Frankfurt"))
        with pytest.raises(UnusableRule, match="'eu-1' is pinned to alpha in San Jose, and must stay in Frankfurt"):
            set_rule(wiring, PlacementRule(RuleKind.PIN, "eu-1", partition_id="alpha"))
        set_rule(wiring, PlacementRule(RuleKind.PIN, "us-1", partition_id="alpha"))
        with pytest.raises(UnusableRule, match="'us-1' is pinned to alpha"):
            set_rule(wiring, reside("us-", "Frankfurt"))
        assert len(list_rules(wiring)) == 2

    def test_manual_moves_and_shadows_obey_the_rules(self, wiring):
        set_rule(wiring, reside("eu-", "Frankfurt"))
        with pytest.raises(PlacementRuleBroken, match="'eu-2' must stay in Frankfurt, so it can't go to gamma"):
            move_units(wiring, ["eu-2"], "gamma")
        with pytest.raises(PlacementRuleBroken):
            request_shadow(wiring, "eu-2", "gamma", None, "by hand")
        assert "must stay in Frankfurt" in str(describe_move(wiring, ["eu-2"], "gamma").problem)
        assert not wiring.move_journal.find()


class TestPlan:
    def test_the_next_plan_moves_keys_that_break_a_new_rule_and_its_gate_checks_the_rules(self, wiring):
        set_rule(wiring, reside("eu-", "Frankfurt"))
        plan_hour(wiring, HOUR)
        plan = wiring.plans.load(HOUR)
        assert {(move.units[0], move.target, move.reason.code) for move in plan.moves} == {("eu-2", "beta", "residency")}
        assert [(gone.key, gone.target, gone.reason.code) for gone in plan.removals] == [("eu-1", "gamma", "against_rule")]
        (refusal,) = plan.refusals
        assert (refusal.reason.code, refusal.reason.facts["obstacle"]) == ("against_rule", "shadowed")
        gate_plan(wiring, HOUR)

    def test_a_planned_move_that_a_newer_rule_forbids_is_not_started(self, wiring):
        why = Reason("test", "for the test")
        move = Move("m-1", ("us-1",), "alpha", "beta", 0, "us-1", why)
        wiring.plans.save(Plan(HOUR, 1, (move,)))
        set_rule(wiring, PlacementRule(RuleKind.PIN, "us-1", partition_id="alpha"))
        assert start_moves(wiring, HOUR) == ()

    def test_the_migration_rate_is_measured_from_the_journal(self, wiring, control, unique_name):
        assert migration_rate(wiring, HOUR).measured == 0
        now = datetime.now(UTC)
        for number in range(8):
            size = 2**20 * (number + 1)
            journal(control[unique_name], f"m-{number}", size, 4 + size / 2**21, now)
        journal(control[unique_name], "taken over", 2**20, 5000, now, leases=(1, 2))
        journal(control[unique_name], "long ago", 2**20, 5000, now - timedelta(days=30))
        rate = migration_rate(wiring, now)
        assert rate.measured == 8
        assert (rate.move_seconds, rate.bytes_per_second) == (pytest.approx(4, rel=0.01), pytest.approx(2**21, rel=0.01))


def journal(database, name, size, seconds, now, leases=(1, 1)):
    """A move that switched ``now``."""
    begun = now - timedelta(seconds=seconds)
    entries = [(MoveState.PLANNED, begun, 0), (MoveState.COPYING, begun, leases[0]), (MoveState.SWITCHED, now, leases[1])]
    history = [{"state": state.value, "event": "test", "at": at, "lease": lease} for state, at, lease in entries]
    more = {"key": name, "source": "alpha", "target": "beta", "state": MoveState.DONE.value, "planned_at": begun}
    database["moves"].insert_one({"_id": name, "counters": {"bytes": size}, "history": history, **more})
