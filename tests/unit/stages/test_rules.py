"""Placement rules, with every port in memory."""

import pytest
from tests.unit.stages.fakes import Ports, Registry, Routing, Rules

from foreshard.errors import PlacementRuleBroken, UnknownPartition, UnusableRule
from foreshard.model import Move, Partition, PartitionState, Placement, PlacementRule, Reason, RuleKind
from foreshard.stages.rules import allowed_moves, bounds_of, list_rules, remove_rule, require_allowed, set_rule

THREE = (Partition("alpha", "west", 1.0), Partition("beta", "east", 1.0), Partition("gamma", "east", 1.0))
TABLE = {
    "eu/a": Placement("eu/a", "alpha", ("gamma",)),
    "eu/b": Placement("eu/b", "beta"),
    "us/c": Placement("us/c", "alpha"),
}
EAST = PlacementRule(RuleKind.RESIDENCY, "eu/", is_prefix=True, locations=("east",))


def ports(*rules):
    return Ports(registry=Registry(*THREE), routing=Routing(TABLE), placement_rules=Rules(*rules))


def test_a_rule_is_saved_and_its_effect_counted():
    at = ports()
    effect = set_rule(at, EAST)
    assert (effect.keys, effect.primaries_elsewhere, effect.shadows_elsewhere) == (2, 1, 0)
    assert [found.rule for found in list_rules(at)] == [EAST]


def test_a_dry_run_counts_the_same_and_saves_nothing():
    at = ports()
    assert set_rule(at, EAST, dry_run=True) == set_rule(ports(), EAST)
    assert at.placement_rules.rules() == ()


def test_a_pin_without_a_partition_pins_the_key_where_it_is():
    assert set_rule(ports(), PlacementRule(RuleKind.PIN, "eu/b")).rule.partition_id == "beta"


def test_a_more_specific_rule_replaces_the_general_one_for_its_key():
    specific = PlacementRule(RuleKind.RESIDENCY, "eu/a", locations=("west", "east"))
    general, exact = list_rules(ports(EAST, specific))
    assert (general.keys, exact.keys) == (1, 1)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (PlacementRule(RuleKind.PIN, "x", partition_id="gone"), UnknownPartition),
        (PlacementRule(RuleKind.RESIDENCY, "x", locations=("mars",)), UnusableRule),
        (PlacementRule(RuleKind.RESIDENCY, "x"), UnusableRule),
        (PlacementRule(RuleKind.PIN, "eu/a", partition_id="alpha"), UnusableRule),
    ],
)
def test_a_rule_that_no_partition_can_keep_is_refused(rule, error):
    at = ports(EAST)
    with pytest.raises(error):
        set_rule(at, rule)
    assert at.placement_rules.rules() == (EAST,)


def test_a_removed_rule_no_longer_holds():
    at = ports(EAST)
    with pytest.raises(PlacementRuleBroken):
        require_allowed(at, ["eu/a"], "alpha")
    remove_rule(at, EAST)
    require_allowed(at, ["eu/a"], "alpha")


def test_the_bounds_of_a_key_leave_out_draining_partitions_but_not_its_own():
    at = ports(EAST)
    at.registry.set_state("gamma", PartitionState.DRAINING)
    bounds = bounds_of(at, "eu/b")
    assert (bounds.primary_may_be_on, bounds.shadows_may_be_on) == (("beta",), ())


def test_moves_that_a_later_rule_forbids_are_left_out():
    moves = [Move(f"m-{key}", (key,), "beta", "alpha", 1, key, Reason("hot", "why")) for key in ("eu/b", "us/c")]
    assert [move.units[0] for move in allowed_moves(ports(EAST), moves)] == ["us/c"]


def test_rules_and_partitions_are_read_once_for_any_number_of_units():
    class CountingRules(Rules):
        reads = 0

        def rules(self):
            self.reads += 1
            return super().rules()

    at = ports()
    at.placement_rules = CountingRules(EAST)
    keys = tuple(f"us/{n}" for n in range(100))
    assert allowed_moves(at, [Move("m", keys, "beta", "alpha", 1, "us/0", Reason("hot", "why"))])[0].units == keys
    assert at.placement_rules.reads == 1
