"""The prepared choice among near copies equals the decision."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.routing.test_decide import NOW, PARTITIONS, READ, book, context_of

from foreshard.model import Placement
from foreshard.routing.decide import decide
from foreshard.routing.decision import RouteRequest
from foreshard.routing.near import near_choice

ADDRESSES = {name: (p.geographic_location, f"mongodb://{name}") for name, p in PARTITIONS.items()}
NAMES = st.sampled_from(sorted(PARTITIONS))
ROOMY = Placement("k", "sf-1", ("sf-2",), 3)


def choice_of(placement: Placement, loads, context=None, origin="sf", **extra):
    request = RouteRequest("another", READ, origin, **extra)
    return near_choice(request, placement, context or context_of(), loads, NOW, ADDRESSES)


@given(
    placement=st.lists(NAMES, min_size=2, max_size=4, unique=True),
    utilisation=st.dictionaries(NAMES, st.floats(0, 1.5)),
    dead=st.sets(NAMES, max_size=1),
    ages=st.dictionaries(NAMES, st.floats(0, 20)),
    origin=st.sampled_from(["sf", "sj", "Mars", None]),
    limit=st.one_of(st.none(), st.floats(0, 20)),
    seed=st.integers(0, 50),
)
@settings(max_examples=300)
def test_the_prepared_choice_equals_the_decision_with_the_same_draws(placement, utilisation, dead, ages, origin, limit, seed):
    where = Placement("k", placement[0], tuple(placement[1:]), 2)
    loads = book(unreachable=tuple(dead), **{n.replace("-", "_"): u for n, u in utilisation.items() if n not in dead})
    fresh = context_of({("k", name): NOW - age for name, age in ages.items()})
    choice = choice_of(where, loads, fresh, origin, max_staleness=limit)
    taken = choice.take("k", NOW, Random(seed)) if choice is not None else None
    if taken is not None:
        decision = decide(RouteRequest("k", READ, origin, limit), where, fresh, loads, NOW, Random(seed))
        assert (taken.partition, taken.role, taken.reason) == (decision.partition, decision.role, decision.sentence)
        assert (taken.location, taken.address) == ADDRESSES[decision.partition]


def test_choices_are_prepared_only_for_copies_with_room_or_unknown_load():
    assert len(choice_of(ROOMY, book(sf_1=0.5, sf_2=0.7)).copies) == 2
    assert len(choice_of(ROOMY, book()).copies) == 2
    assert len(choice_of(Placement("k", "sf-1", ("ny-1",)), book(sf_1=0.5, ny_1=9.0)).copies) == 1
    assert choice_of(ROOMY, book(sf_1=0.5, sf_2=1.5)) is None
    assert choice_of(ROOMY, book(sf_1=0.5, unreachable=("sf-2",))) is None
    assert near_choice(RouteRequest("k", READ, "sf"), ROOMY, context_of(), book(), NOW, {}) is None


def test_a_key_with_a_stale_near_shadow_is_left_to_the_decision():
    context = context_of({("fresh", "sf-2"): NOW - 9.0, ("stale", "sf-2"): NOW - 11.0})
    choice = choice_of(ROOMY, book(sf_1=0.5, sf_2=0.5), context)
    assert choice.take("fresh", NOW, Random(1)) is not None
    assert choice.take("stale", NOW, Random(1)) is None
    assert choice.take("unheard of", NOW, Random(1)) is None


def test_reads_prefer_the_less_loaded_copy_and_are_counted():
    choice, random = choice_of(ROOMY, book(sf_1=0.1, sf_2=0.7)), Random(3)
    for _ in range(1000):
        choice.take("k", NOW, random)
    first, second = choice.copies
    assert first.sent + second.sent == 1000
    assert 750 < first.sent < 850


def test_three_equally_near_copies_are_all_drawn():
    where = Placement("k", "sf-1", ("sf-2", "sf-3"), 3)
    context = context_of({("k", name): NOW for name in ("sf-2", "sf-3")})
    partitions = {**PARTITIONS, "sf-3": PARTITIONS["sf-2"]}
    world = type(context)(partitions, context.distances, context.caught_up_at)
    choice = near_choice(RouteRequest("k", READ, "sf"), where, world, book(), NOW, ADDRESSES | {"sf-3": ("sf", "")})
    random = Random(5)
    assert {choice.take("k", NOW, random).partition for _ in range(50)} == {"sf-1", "sf-2", "sf-3"}
