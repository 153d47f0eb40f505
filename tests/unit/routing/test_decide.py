"""The decision: writes, reads, staleness, overload, unknown locations, each with its reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sidecar_config import CONFIG

from foreshard.measure.distance import Distances, great_circle_km
from foreshard.measure.geography import distance_matrix
from foreshard.model import Location, Partition, PartitionLoad, Placement, RequestKind
from foreshard.routing._reads import cost_ms
from foreshard.routing.decide import decide
from foreshard.routing.decision import RouteDecision, RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook

NOW = 1_700_000_000.0
PLACES = (Location("sf", 37.789, -122.401), Location("sj", 37.336, -121.890), Location("ny", 40.713, -74.006))
PARTITIONS = {
    "sf-1": Partition("sf-1", "sf", 10.0),
    "sf-2": Partition("sf-2", "sf", 10.0),
    "sj-1": Partition("sj-1", "sj", 10.0),
    "ny-1": Partition("ny-1", "ny", 20.0),
    "lost": Partition("lost", "Atlantis", 10.0),
}
READ, WRITE = RequestKind.READ, RequestKind.WRITE


def context_of(caught_up: dict[tuple[str, str], float] | None = None, home: str | None = None) -> RoutingContext:
    fresh = {("k", name): NOW - 1.0 for name in PARTITIONS}
    return RoutingContext(PARTITIONS, Distances(PLACES), fresh if caught_up is None else caught_up, 10.0, home)


def book(*, unreachable: tuple[str, ...] = (), age: float = 1.0, **utilisation: float) -> LoadBook:
    decision = LoadBook(CONFIG.loads)
    decision.register({name: p.capacity for name, p in PARTITIONS.items()})
    at = datetime.fromtimestamp(NOW - age, UTC)
    loads = {name.replace("_", "-"): u * PARTITIONS[name.replace("_", "-")].capacity for name, u in utilisation.items()}
    decision.report([PartitionLoad(name, load, True, at) for name, load in loads.items()], NOW - age)
    decision.report([PartitionLoad(name, 0.0, False, at) for name in unreachable], NOW - age)
    return decision


def ask(placement: Placement, loads: LoadBook, kind=READ, origin="sf", seed=1, context=None, **extra) -> RouteDecision:
    request = RouteRequest("k", kind, origin, **extra)
    return decide(request, placement, context or context_of(), loads, NOW, Random(seed))


ONE = Placement("k", "sf-1", (), 3)
TWO = Placement("k", "sf-1", ("ny-1",), 4)


def test_a_write_goes_to_the_primary_even_when_a_shadow_is_nearer_and_idle():
    decision = ask(TWO, book(sf_1=2.0, ny_1=0.0), WRITE, origin="ny")
    assert (decision.partition, decision.role, decision.epoch) == ("sf-1", "primary", 4)
    assert decision.code == "write_primary_overloaded"
    assert "200%" in decision.sentence


def test_a_write_to_an_unreachable_primary_says_so():
    assert ask(TWO, book(unreachable=("sf-1",)), WRITE).code == "write_primary_unreachable"


@pytest.mark.parametrize(
    ("loads", "code"),
    [
        ({"sf_1": 0.5}, "only_copy"),
        ({}, "only_copy"),
        ({"sf_1": 0.9}, "only_copy_overloaded"),
        ({"unreachable": ("sf-1",)}, "only_copy_unreachable"),
    ],
)
def test_the_only_copy_is_read_and_the_reason_shows_overload(loads, code):
    decision = ask(ONE, book(**loads))
    assert (decision.partition, decision.code) == ("sf-1", code)


def test_a_read_goes_to_the_nearest_copy_with_room():
    decision = ask(TWO, book(sf_1=0.2, ny_1=0.1), origin="ny")
    assert (decision.partition, decision.role, decision.code) == ("ny-1", "shadow", "nearest_with_room")
    assert ask(TWO, book(sf_1=0.2, ny_1=0.1), origin="sf").partition == "sf-1"


def test_reads_move_from_an_overloaded_partition_to_a_copy_with_room_and_the_reason_says_why():
    loads = book(sf_1=1.6, ny_1=0.1)
    decision = [ask(TWO, loads, seed=seed) for seed in range(200)]
    left = [m for m in decision if m.partition == "ny-1"]
    assert 10 < len(left) < 100
    assert {m.code for m in left} == {"nearer_overloaded"}
    assert left[0].sentence.startswith("sf-1 is nearer, but at 160% of its capacity; ny-1 (shadow, ")
    assert {m.code for m in decision if m.partition == "sf-1"} == {"nearest_overloaded"}


def test_the_reads_of_an_unreachable_partition_go_to_a_fresh_copy():
    decision = ask(TWO, book(ny_1=0.1, unreachable=("sf-1",)))
    assert (decision.partition, decision.code) == ("ny-1", "nearer_unreachable")


def test_a_copy_that_is_too_stale_for_the_request_is_left_out():
    stale = context_of({("k", "ny-1"): NOW - 5.0})
    loads = book(sf_1=0.1, ny_1=0.1)
    assert ask(TWO, loads, origin="ny", context=stale).partition == "ny-1"
    decision = ask(TWO, loads, origin="ny", context=stale, max_staleness=4.9)
    assert (decision.partition, decision.code) == ("sf-1", "nearer_stale")
    assert "5.0 s behind" in decision.sentence


def test_a_shadow_of_unknown_age_is_not_fresh():
    decision = ask(TWO, book(sf_1=0.1, ny_1=0.1), origin="ny", context=context_of({}))
    assert (decision.partition, decision.code) == ("sf-1", "nearer_stale")


def test_the_default_limit_is_waived_if_the_primary_does_not_answer_and_a_requested_limit_is_not():
    loads, stale = book(unreachable=("sf-1",)), context_of({("k", "ny-1"): NOW - 60.0})
    decision = ask(TWO, loads, context=stale)
    assert (decision.partition, decision.code) == ("ny-1", "primary_unreachable_stale_shadow")
    strict = ask(TWO, loads, context=stale, max_staleness=10.0)
    assert (strict.partition, strict.code) == ("sf-1", "no_fresh_copy_reachable")


def test_when_no_copy_answers_the_primary_is_named():
    decision = ask(TWO, book(unreachable=("sf-1", "ny-1")))
    assert (decision.partition, decision.code) == ("sf-1", "no_copy_reachable")


def test_when_all_copies_are_overloaded_the_reason_says_so():
    loads = book(sf_1=2.0, ny_1=2.0)
    codes = {ask(TWO, loads, seed=seed).code for seed in range(300)}
    assert "all_overloaded" in codes


def test_an_old_report_counts_as_unknown_and_not_as_idle():
    loads = book(sf_1=0.1, age=60.0)
    decision = ask(TWO, loads)
    assert (decision.partition, decision.code) == ("sf-1", "nearest_load_unknown")
    assert loads.pressure("sf-1", NOW).utilisation is None
    near = Placement("k", "sf-1", ("sf-2",))
    picks = [ask(near, book(sf_2=0.4), seed=seed).partition for seed in range(400)]
    assert picks.count("sf-2") > 220


def test_an_expired_report_of_an_unreachable_partition_is_ignored():
    assert ask(ONE, book(unreachable=("sf-1",), age=60.0)).code == "only_copy"


@pytest.mark.parametrize(
    ("origin", "home", "partition", "note"),
    [
        ("Mars", None, "sf-1", "location 'Mars' is unknown: taken as sf"),
        (None, None, "sf-1", "no location given: taken as sf"),
        (None, "ny", "ny-1", "no location given: taken as ny"),
    ],
)
def test_an_unknown_location_is_replaced_and_the_reason_says_so(origin, home, partition, note):
    decision = ask(TWO, book(sf_1=0.1, ny_1=0.1), origin=origin, context=context_of(home=home))
    assert decision.partition == partition
    assert note in decision.sentence


def test_a_partition_at_an_unknown_location_is_the_last_choice():
    decision = ask(Placement("k", "lost", ("ny-1",)), book(lost=0.1, ny_1=0.1), origin="sf")
    assert decision.partition == "ny-1"


def test_a_shadow_on_an_unregistered_partition_is_left_out():
    decision = ask(Placement("k", "sf-1", ("gone",)), book(sf_1=0.1), explain=True)
    assert [c.partition for c in decision.copies] == ["sf-1"]


def test_an_explanation_has_a_verdict_for_every_copy():
    decision = ask(Placement("k", "sf-1", ("sj-1", "ny-1")), book(sf_1=0.1, sj_1=0.2, unreachable=("ny-1",)), explain=True)
    assert {c.partition: c.verdict for c in decision.copies} == {
        "sf-1": "taken",
        "sj-1": "not needed",
        "ny-1": "does not answer",
    }
    assert ask(TWO, book()).copies == ()


def test_the_less_loaded_of_equally_near_copies_is_chosen_more_often_but_not_always():
    near = Placement("k", "sf-1", ("sf-2",))
    loads = book(sf_1=0.6, sf_2=0.2)
    picks = [ask(near, loads, seed=seed).partition for seed in range(1000)]
    assert 640 < picks.count("sf-2") < 760


def test_a_diverted_read_goes_to_the_copy_with_the_lowest_cost():
    three = Placement("k", "sf-1", ("sj-1", "ny-1"))
    loads = book(sf_1=8.0, sj_1=0.1, ny_1=0.0)
    assert {ask(three, loads, seed=s).partition for s in range(100)} == {"sf-1", "sj-1"}
    busy = book(sf_1=8.0, sj_1=0.79, ny_1=0.0)
    assert cost_ms(1.05, 0.79) < cost_ms(62.0, 0.0)
    assert {ask(three, busy, seed=s).partition for s in range(100)} == {"sf-1", "sj-1"}


@given(
    placement=st.lists(st.sampled_from(sorted(PARTITIONS)), min_size=1, max_size=4, unique=True),
    utilisation=st.dictionaries(st.sampled_from(sorted(PARTITIONS)), st.floats(0, 3)),
    dead=st.sets(st.sampled_from(sorted(PARTITIONS))),
    ages=st.dictionaries(st.sampled_from(sorted(PARTITIONS)), st.floats(0, 100)),
    origin=st.sampled_from(["sf", "sj", "ny", "Mars", None]),
    limit=st.one_of(st.none(), st.floats(0, 100)),
    seed=st.integers(0, 5),
)
@settings(max_examples=100)
def test_a_read_goes_to_a_usable_copy_if_there_is_one(placement, utilisation, dead, ages, origin, limit, seed):
    where = Placement("k", placement[0], tuple(placement[1:]), 2)
    loads = book(unreachable=tuple(dead), **{n.replace("-", "_"): u for n, u in utilisation.items() if n not in dead})
    fresh = context_of({("k", name): NOW - age for name, age in ages.items()})
    decision = ask(where, loads, origin=origin, seed=seed, context=fresh, max_staleness=limit)
    allowed = 10.0 if limit is None else limit
    usable = {
        name
        for name in placement
        if name not in dead and (name == placement[0] or (name in ages and NOW - (NOW - ages[name]) <= allowed))
    }
    assert decision.partition in (usable or set(placement))
    assert decision.role == ("primary" if decision.partition == placement[0] else "shadow")
    assert decision.sentence
    if limit is not None and not usable:
        assert decision.partition == placement[0]
    assert ask(where, loads, WRITE).partition == placement[0]


def test_the_same_random_source_gives_the_same_decision():
    loads = book(sf_1=1.2, ny_1=0.9)
    assert [ask(TWO, loads, seed=s) for s in range(20)] == [ask(TWO, loads, seed=s) for s in range(20)]


@given(*[st.builds(Location, st.just(n), st.floats(-90, 90), st.floats(-180, 180)) for n in ("a", "b")])
@settings(max_examples=100)
def test_distances_are_those_of_the_planner(a, b):
    planned = distance_matrix(["a"], ["b"], {"a": a, "b": b})[0, 0]
    assert great_circle_km(a, b) == pytest.approx(planned, abs=1e-6)
    assert Distances([a, b]).km("a", "b") == pytest.approx(planned, abs=1e-6)


def test_unknown_locations_have_no_distance_except_to_themselves():
    distances = Distances(PLACES)
    assert distances.km("Atlantis", "Atlantis") == 0.0
    assert distances.km("sf", "Atlantis") is None
    assert distances.km("Atlantis", "sf") is None


def measured(*trips: tuple[str, str, float]) -> RoutingContext:
    """The usual context, with measured round trips (origin, destination, ms)."""
    places = tuple(replace(p, round_trips=tuple((to, ms) for origin, to, ms in trips if origin == p.name)) for p in PLACES)
    return replace(context_of(), distances=Distances(places))


def test_a_measured_round_trip_replaces_the_great_circle_and_the_reason_shows_it():
    slow_way = measured(("sf", "sf", 0.4), ("sf", "sj", 0.2))
    placement = Placement("k", "sf-1", ("sj-1",), 1)
    assert ask(placement, book(sf_1=0.1, sj_1=0.1)).partition == "sf-1"
    decision = ask(placement, book(sf_1=0.1, sj_1=0.1), context=measured(("sf", "sf", 9.0), ("sf", "sj", 2.0)))
    assert (decision.partition, decision.code) == ("sj-1", "nearest_with_room")
    assert "2.0 ms" in decision.sentence
    views = {c.partition: c for c in ask(placement, book(), context=slow_way, explain=True).copies}
    assert (views["sj-1"].ms, views["sj-1"].measured) == (0.2, True)
    assert views["sj-1"].km == pytest.approx(68, abs=3)


def test_a_round_trip_counts_in_both_directions_and_to_an_unknown_location():
    distances = measured(("ny", "sf", 70.0), ("sf", "Atlantis", 5.0)).distances
    assert distances.round_trip("sf", "ny").ms == distances.round_trip("ny", "sf").ms == 70.0
    assert distances.round_trip("sf", "Atlantis") == (5.0, True, None)
    assert distances.round_trip("ny", "Atlantis") is None
    assert distances.round_trip("sf", "sj").measured is False
    decision = ask(Placement("k", "lost", ("ny-1",)), book(), context=measured(("sf", "Atlantis", 5.0)))
    assert decision.partition == "lost"


def test_a_diverted_read_avoids_a_slow_server_even_with_a_low_load():
    loads = book(sf_1=2.0, sf_2=0.1)
    at = datetime.fromtimestamp(NOW, UTC)
    loads.report([PartitionLoad("sj-1", 1.0, True, at, 40.0)], NOW)
    placement = Placement("k", "sf-1", ("sf-2", "sj-1"))
    far = measured(("sf", "sf", 0.1), ("sf", "sj", 3.0))
    for one in (loads,):
        for _ in range(60):  # the primary's admission falls
            at += timedelta(seconds=1)
            one.report([PartitionLoad("sf-1", 20.0, True, at)], NOW)
    seen = {ask(placement, loads, seed=seed, context=far).partition for seed in range(40)}
    assert "sf-2" in seen
    assert "sj-1" not in seen
    assert cost_ms(3.0, 0.1, 40.0) == 43.0
