"""Prepared decisions are the decisions, for every key of a packed table, with and without changes over it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.errors import UnknownPartition
from foreshard.model import DefaultRule, Placement, RequestKind, RoutingTable
from foreshard.routing.decision import PRIMARY, RouteDecision
from foreshard.routing.packed import PackedPlacements, pack
from foreshard.routing.simple import RouteTarget, SimpleRoutes, simple_routes
from foreshard.routing.table import locate

NAMES = ("a", "b", "c")
RULE = DefaultRule(NAMES, (1.0, 2.0, 1.0))
PLACEMENTS = st.dictionaries(
    st.text(min_size=1, max_size=6),
    st.tuples(st.sampled_from(NAMES), st.sampled_from([(), ("b",), ("a", "c")]), st.integers(1, 5_000)),
    max_size=30,
)


def rows_of(drawn) -> dict[str, Placement]:
    return {key: Placement(key, primary, shadows, epoch) for key, (primary, shadows, epoch) in drawn.items()}


def routes_of(packed, changed=(), sentences=None) -> tuple[SimpleRoutes, RoutingTable]:
    said = sentences or {}

    def decide(name: str, kind: RequestKind) -> RouteDecision:
        return RouteDecision(name, PRIMARY, 0, kind.value, said.get(name, "it is there"))

    def prepare(name: str, made: RouteDecision) -> RouteTarget:
        if name not in NAMES:
            raise UnknownPartition(name, NAMES)
        return RouteTarget(made, "place", "address", 1, f"<{name} {made.code}>".encode(), made.sentence.encode())

    table = RoutingTable(1, PackedPlacements(pack(packed, count(3)), dict(changed)), RULE, datetime(2025, 1, 1, tzinfo=UTC))
    simple = simple_routes(table, decide, prepare)
    assert simple is not None
    return simple, table


@given(PLACEMENTS, PLACEMENTS, st.text(min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_every_key_goes_where_the_table_says_and_a_read_with_shadows_is_left_to_the_decision(packed, changed, other):
    packed, changed = rows_of(packed), rows_of(changed)
    simple, table = routes_of(packed.values(), changed)
    for key in (*packed, *changed, other):
        placement = locate(table, key)
        write, read = simple.write(key), simple.read(key)
        assert (write.key, write.epoch, write.target.partition) == (key, placement.epoch, placement.primary)
        assert (read is None) == bool(placement.shadows)
        assert read is None or (read.epoch, read.target.partition) == (placement.epoch, placement.primary)
        value, row = table.placements.find(key), changed.get(key)
        tail = simple.writes[value] if value and row is None else simple.writes.elsewhere(key, row)
        assert tail.text == b"<%b write>%dit is there" % (placement.primary.encode(), placement.epoch)


def test_what_is_sent_is_counted_by_partition_and_kind_until_it_is_renewed():
    simple, _ = routes_of([Placement("k", "a"), Placement("l", "a", (), 9), Placement("m", "b")])
    for key in ("k", "l", "m", "k"):
        simple.write(key)
    simple.read("k")
    for value in map(simple.placements.find, ("k", "l")):
        simple.writes[value].sent += 2
    assert {(kind.value, t.partition): t.sent for kind, t in simple.used()} == {
        ("write", "a"): 7, ("write", "b"): 1, ("read", "a"): 1,
    }  # fmt: skip
    simple.renew()
    assert not list(simple.used())


def test_a_renewed_target_says_what_there_is_to_say_now():
    said = {"a": "calm"}
    simple, _ = routes_of([Placement("k", "a")], sentences=said)
    first = simple.write("k").target
    list(simple.used())
    simple.renew()
    assert simple.write("k").target is first
    said["a"] = "overloaded"
    list(simple.used())
    simple.renew()
    assert simple.write("k").target.reason == "overloaded"
    assert simple.writes[simple.placements.find("k")].text.endswith(b"overloaded")


def test_a_key_on_an_unknown_partition_is_refused_each_time():
    simple, _ = routes_of([Placement("k", "gone")])
    for _ in range(2):
        with pytest.raises(UnknownPartition):
            simple.write("k")
    assert not list(simple.used())


def test_tables_that_are_not_packed_have_no_prepared_decisions():
    table = RoutingTable(1, {"k": Placement("k", "a")}, RULE, datetime(2025, 1, 1, tzinfo=UTC))
    assert simple_routes(table, lambda *_: None, lambda *_: None) is None
