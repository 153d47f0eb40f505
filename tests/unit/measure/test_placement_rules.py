"""Which placement rules apply to a key, and where its copies may be."""

from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.measure.placement_rules import Bounds, PlacementRules
from foreshard.model import Partition, PlacementRule, RuleKind

PARTITIONS = (Partition("fra-1", "Frankfurt", 1.0), Partition("par-1", "Paris", 1.0), Partition("sj-1", "San Jose", 1.0))


def pin(selector, partition=None, prefix=False):
    return PlacementRule(RuleKind.PIN, selector, prefix, partition)


def reside(selector, *locations, prefix=False):
    return PlacementRule(RuleKind.RESIDENCY, selector, prefix, None, locations)


def allowed(rules, key, **how):
    return {p.partition_id for p in PARTITIONS if not rules.broken(key, p, **how)}


class TestRules:
    def test_a_key_without_rules_may_be_anywhere(self):
        assert allowed(PlacementRules(), "a") == {"fra-1", "par-1", "sj-1"}

    def test_residency_applies_to_every_copy_and_a_pin_only_to_the_primary(self):
        rules = PlacementRules([reside("eu-", "Frankfurt", "Paris", prefix=True), pin("hot", "sj-1")])
        assert allowed(rules, "eu-1") == allowed(rules, "eu-1", shadow=True) == {"fra-1", "par-1"}
        assert allowed(rules, "hot") == {"sj-1"}
        assert allowed(rules, "hot", shadow=True) == {"fra-1", "par-1", "sj-1"}

    def test_the_most_specific_rule_of_each_kind_applies(self):
        rules = PlacementRules(
            [reside("eu-", "Frankfurt", prefix=True), reside("eu-fr-", "Paris", prefix=True), reside("eu-fr-1", "San Jose")]
        )
        assert [allowed(rules, key) for key in ("eu-1", "eu-fr-2", "eu-fr-1")] == [{"fra-1"}, {"par-1"}, {"sj-1"}]

    def test_both_kinds_apply_together(self):
        rules = PlacementRules([reside("k", "Frankfurt", "Paris"), pin("k", "fra-1")])
        assert allowed(rules, "k") == {"fra-1"}
        assert allowed(rules, "k", shadow=True) == {"fra-1", "par-1"}

    def test_a_key_pinned_to_its_current_partition_may_not_move_anywhere(self):
        rules = PlacementRules([pin("k", prefix=True)])
        assert allowed(rules, "k1") == set()
        assert allowed(rules, "k1", moving=False) == {"fra-1", "par-1", "sj-1"}


class TestBounds:
    def test_keys_without_rules_share_row_zero(self):
        bounds = PlacementRules([pin("b", "par-1")]).bounds(("a", "b", "c"), PARTITIONS)
        assert bounds.row.tolist()[0] == bounds.row.tolist()[2] == 0
        assert bounds.home[bounds.row].tolist() == [[True] * 3, [False, True, False], [True] * 3]
        assert bounds.copy.all()
        assert bounds.claim(int(bounds.row[1])) == "is pinned to par-1"

    def test_rules_that_apply_to_no_key_leave_every_key_free(self):
        bounds = PlacementRules([pin("z", "par-1")]).bounds(("a", "b"), PARTITIONS)
        assert not bounds.any_rules
        assert bounds.home.tolist() == Bounds.free(2, 3).home.tolist()

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.text("ab", max_size=4), unique=True),
        st.lists(
            st.tuples(
                st.sampled_from(RuleKind), st.text("ab", max_size=3), st.booleans(), st.sampled_from([None, "fra-1", "sj-1"])
            )
        ),
    )
    def test_bounds_agree_with_the_rules_of_each_key(self, keys, drawn):
        rules = PlacementRules(
            {
                rule.rule_id: rule
                for kind, selector, prefix, where in drawn
                for rule in [
                    PlacementRule(kind, selector, prefix, where)
                    if kind is RuleKind.PIN
                    else PlacementRule(kind, selector, prefix, None, ("Paris", where or "San Jose"))
                ]
            }.values()
        )
        keys = sorted(keys)
        bounds = rules.bounds(keys, PARTITIONS)
        for index, key in enumerate(keys):
            row = bounds.row[index]
            assert bounds.rules[row] == rules.of(key)
            may = [rules.broken(key, p, moving=False) is None for p in PARTITIONS]
            shadows = [rules.broken(key, p, shadow=True) is None for p in PARTITIONS]
            assert bounds.home[row].tolist() == may
            assert bounds.copy[row].tolist() == shadows
            assert bounds.fixed_keys[index] == any(r.kind is RuleKind.PIN and r.partition_id is None for r in rules.of(key))


def test_rules_name_keys_by_themselves_and_by_a_prefix_but_not_by_the_empty_one():
    rules = PlacementRules(
        [
            PlacementRule(RuleKind.PIN, "tenant-7", partition_id="a"),
            PlacementRule(RuleKind.RESIDENCY, "eu-", is_prefix=True, locations=("west",)),
            PlacementRule(RuleKind.RESIDENCY, "", is_prefix=True, locations=("west",)),
        ]
    )
    assert rules.naming(["us-1", "eu-1", "eu", "tenant-7", "tenant-70", "eu-2"]) == {"eu-1", "eu-2", "tenant-7"}
    assert PlacementRules().naming(["a"]) == frozenset()
