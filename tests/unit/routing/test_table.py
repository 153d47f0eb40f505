"""The routing table: listed keys, the default rule, publications."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.errors import NoDefaultPartition, TableGap
from foreshard.model import DefaultRule, Placement, PlacementChange, RoutingTable
from foreshard.routing.table import apply_changes, default_partition, locate

NOW = datetime(2025, 1, 1, tzinfo=UTC)
RULE = DefaultRule(("a", "b", "c", "d"), (1.0, 1.0, 2.0, 4.0))
ids = st.text(min_size=1, max_size=8)


def table(*placements: Placement, version: int = 1, rule: DefaultRule = RULE) -> RoutingTable:
    return RoutingTable(version, {p.key: p for p in placements}, rule, NOW)


def test_a_listed_key_is_where_the_table_says():
    listed = Placement("k", "b", ("c",), 7)
    assert locate(table(listed), "k") is listed


def test_an_unlisted_key_is_placed_by_the_default_rule_at_epoch_0():
    found = locate(table(), "new key")
    assert found == Placement("new key", default_partition(RULE, "new key"), (), 0)


def test_default_placement_is_the_documented_formula_and_does_not_change_between_versions():
    assert [default_partition(RULE, key) for key in ("", "k", "Steuart at Market", "日本", "a/b%20c", "\ud800")] == [
        "d",
        "a",
        "d",
        "d",
        "a",
        "c",
    ]


def test_each_partition_gets_a_share_of_unlisted_keys_by_its_weight():
    owners = Counter(default_partition(RULE, f"key {n}") for n in range(40_000))
    for partition, weight in zip(RULE.partitions, RULE.weights, strict=True):
        expected = 40_000 * weight / 8
        assert abs(owners[partition] - expected) < 5 * (expected * (1 - weight / 8)) ** 0.5


@given(st.text(), st.dictionaries(ids, st.floats(0.01, 100), min_size=2, max_size=6), st.data())
@settings(max_examples=100)
def test_removing_a_partition_moves_only_its_own_keys(key, weights, data):
    rule = DefaultRule(tuple(weights), tuple(weights.values()))
    gone = data.draw(st.sampled_from(sorted(weights)))
    left = {name: weight for name, weight in weights.items() if name != gone}
    before, after = default_partition(rule, key), default_partition(DefaultRule(tuple(left), tuple(left.values())), key)
    assert after == before or before == gone


@given(st.text(), st.dictionaries(ids, st.floats(0, 100), min_size=1, max_size=6))
@settings(max_examples=100)
def test_the_order_of_partitions_does_not_matter_and_weight_0_gets_nothing(key, weights):
    names = sorted(weights)
    rule = DefaultRule(tuple(names), tuple(weights[n] for n in names))
    reverse = DefaultRule(tuple(reversed(names)), tuple(weights[n] for n in reversed(names)))
    if not any(weights.values()):
        with pytest.raises(NoDefaultPartition, match="publish a default rule"):
            default_partition(rule, key)
        return
    owner = default_partition(rule, key)
    assert owner == default_partition(reverse, key)
    assert weights[owner] > 0


def test_a_publication_that_does_not_follow_is_refused():
    with pytest.raises(TableGap, match="publication 3 does not follow routing table version 1"):
        apply_changes(table(), (), 3, NOW)


def test_a_publication_can_set_the_default_rule():
    rule = DefaultRule(("x",), (1.0,))
    changed = apply_changes(table(), (), 2, NOW, rule)
    assert changed.version == 2
    assert locate(changed, "anything").primary == "x"


changes = st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abcd")), max_size=8, unique_by=lambda c: c[0])


@given(st.integers(0, 30), st.lists(changes, max_size=12))
@settings(max_examples=100)
def test_publications_over_a_table_equal_a_plain_dictionary(listed, publications):
    first = table(*(Placement(str(n), "a") for n in range(listed)))
    now, plain = first, dict(first.placements)
    for number, rows in enumerate(publications):
        epochs = {str(k): plain[str(k)].epoch if str(k) in plain else 0 for k, _ in rows}
        made = [PlacementChange(str(k), p, (), epochs[str(k)], epochs[str(k)] + 1) for k, p in rows]
        now = apply_changes(now, made, 2 + number, NOW)
        plain |= {c.key: Placement(c.key, c.primary, c.shadows, c.new_epoch) for c in made}
    assert dict(now.placements) == plain
    assert len(now.placements) == len(plain)
    assert all(key in now.placements for key in plain)
    assert "missing" not in now.placements
    assert dict(first.placements) == {str(n): Placement(str(n), "a") for n in range(listed)}
