"""Prepared routes agree with the table for every key, with and without changes over a packed table."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.slots import slot_map

from foreshard.errors import UnknownPartition
from foreshard.model import Placement, RequestKind, RoutingTable
from foreshard.model.key_space import SLOT_MARK
from foreshard.routing.decision import PRIMARY, RouteDecision
from foreshard.routing.packed import PackedPlacements, encoded, pack
from foreshard.routing.prepared import PreparedRoutes
from foreshard.routing.table import locate
from foreshard.sidecar._prepared_answers import PreparedAnswers

NAMES = ("a", "b", "c")
ADDRESSES = {name: ("place", f"mongodb://{name}") for name in NAMES}
RULE = slot_map(NAMES, (1.0, 2.0, 1.0))
KEYS = st.text(st.characters(exclude_characters=SLOT_MARK), min_size=1, max_size=6)
PLACEMENTS = st.dictionaries(
    KEYS,
    st.tuples(st.sampled_from(NAMES), st.sampled_from([(), ("b",), ("a", "c")]), st.integers(1, 5_000)),
    max_size=30,
)


def rows_of(drawn) -> dict[str, Placement]:
    return {key: Placement(key, primary, shadows, epoch) for key, (primary, shadows, epoch) in drawn.items()}


def answers_of(packed, changed=(), reasons=None) -> PreparedAnswers:
    """Prepared answers for these placements; ``reasons``: partition → reason of its decisions."""
    reasons = reasons or {}

    def decide(name: str, kind: RequestKind) -> RouteDecision:
        return RouteDecision(name, PRIMARY, 0, kind.value, reasons.get(name, "it is there"))

    table = RoutingTable(1, PackedPlacements(pack(packed, count(3)), dict(changed)), RULE, datetime(2025, 1, 1, tzinfo=UTC))
    return PreparedAnswers(PreparedRoutes(table, decide, ADDRESSES))


@given(PLACEMENTS, PLACEMENTS, KEYS)
@settings(max_examples=80, deadline=None)
def test_every_key_goes_where_the_table_says_except_reads_with_shadows(packed, changed, other):
    packed, changed = rows_of(packed), rows_of(changed)
    answers = answers_of(packed.values(), changed)
    routes, table = answers.routes, answers.routes.table
    for key in (*packed, *changed, other):
        placement = locate(table, key)
        epoch, route = routes.writes.route(key)
        assert (epoch, route.partition) == (placement.epoch, placement.primary)
        number, read = routes.reads.route(key)
        value, row = table.placements.find(encoded(key)) or answers.routes.slots.value(encoded(key)), changed.get(key)
        assert (read is None) == bool(placement.shadows)
        if read is None:
            assert number == (value if row is None else 0)
        else:
            assert (number, read.partition) == (placement.epoch, placement.primary)
        tail = answers.writes[value] if row is None else answers.writes.outside(key, row)
        expected = b'","partition":"%b","location":"place","role":"primary","epoch":%d,"table_version":1,"reason":"it is there"'
        assert tail.text.startswith(expected % (placement.primary.encode(), placement.epoch))


def test_requests_are_counted_by_partition_and_kind_until_the_routes_are_renewed():
    answers = answers_of([Placement("k", "a"), Placement("l", "a", (), 9), Placement("m", "b")])
    for key in ("k", "l", "m", "k"):
        answers.routes.writes.route(key)
    answers.routes.reads.route("k")
    for value in map(answers.placements.find, (b"k", b"l")):
        answers.writes[value].sent += 2
    assert {(kind.value, t.partition): t.sent for kind, t in answers.used()} == {
        ("write", "a"): 7, ("write", "b"): 1, ("read", "a"): 1,
    }  # fmt: skip
    answers.renew()
    assert not list(answers.used())


def test_a_renewed_route_has_the_current_reason():
    reasons = {"a": "calm"}
    answers = answers_of([Placement("k", "a")], reasons=reasons)
    _, first = answers.routes.writes.route("k")
    list(answers.used())
    answers.renew()
    assert answers.routes.writes.route("k")[1] is first
    reasons["a"] = "overloaded"
    list(answers.used())
    answers.renew()
    assert answers.routes.writes.route("k")[1].reason == "overloaded"
    assert b'"reason":"overloaded"' in answers.writes[answers.placements.find(b"k")].text


def test_a_key_on_an_unknown_partition_is_refused_each_time():
    answers = answers_of([Placement("k", "gone")])
    for _ in range(2):
        with pytest.raises(UnknownPartition):
            answers.routes.writes.route("k")
    assert not list(answers.used())


def test_routes_are_prepared_for_packed_tables_only():
    table = RoutingTable(1, {"k": Placement("k", "a")}, RULE, datetime(2025, 1, 1, tzinfo=UTC))
    with pytest.raises(TypeError, match="packed table"):
        PreparedRoutes(table, lambda *_: None, ADDRESSES)


def test_routes_may_be_used_by_threads_while_they_are_renewed():
    names = tuple(f"p{n}" for n in range(50))
    packed = PackedPlacements(pack([Placement(name, name) for name in names], count(3)))

    def decide(name: str, kind: RequestKind) -> RouteDecision:
        time.sleep(0)  # lets another thread run
        return RouteDecision(name, PRIMARY, 0, kind.value, "it is there")

    table = RoutingTable(1, packed, RULE, datetime(2025, 1, 1, tzinfo=UTC))
    routes = PreparedRoutes(table, decide, dict.fromkeys(names, ("place", "address")))
    with ThreadPoolExecutor(4) as threads:
        work = [threads.submit(lambda: [routes.writes.route(name) for name in names * 40]) for _ in range(4)]
        while not all(one.done() for one in work):
            for _, route in routes.used():
                time.sleep(0)
                assert route.sent
            routes.renew()
    assert all(route.partition == name for one in work for name, (_, route) in zip(names * 40, one.result(), strict=True))
