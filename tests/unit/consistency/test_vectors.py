from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.consistency.vectors import Order, VersionVector

vectors = st.builds(VersionVector.of, st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)))
MIRRORED = {Order.BEFORE: Order.AFTER, Order.AFTER: Order.BEFORE, Order.EQUAL: Order.EQUAL, Order.CONCURRENT: Order.CONCURRENT}


def at_most(one, other):
    return one.compare(other) in (Order.BEFORE, Order.EQUAL)


@settings(max_examples=100, deadline=None)
@given(vectors, vectors)
def test_the_order_is_antisymmetric(one, other):
    assert one.compare(other) is MIRRORED[other.compare(one)]
    assert (one.compare(other) is Order.EQUAL) == (one == other)


@settings(max_examples=100, deadline=None)
@given(vectors, vectors, vectors)
def test_the_order_is_transitive(one, two, three):
    if at_most(one, two) and at_most(two, three):
        assert at_most(one, three)


@settings(max_examples=100, deadline=None)
@given(vectors, vectors, vectors)
def test_merge_is_the_least_upper_bound(one, two, three):
    merged = one.merge(two)
    assert at_most(one, merged)
    assert at_most(two, merged)
    if at_most(one, three) and at_most(two, three):
        assert at_most(merged, three)


@settings(max_examples=100, deadline=None)
@given(vectors, vectors, vectors)
def test_merge_is_associative_commutative_and_idempotent(one, two, three):
    assert one.merge(two).merge(three) == one.merge(two.merge(three))
    assert one.merge(two) == two.merge(one)
    assert one.merge(one) == one


def test_newer_and_concurrent_versions_are_distinguished():
    first = VersionVector.of({"a": 1})
    on_top, beside = first.advance("b", 1), first.advance("a", 2)
    assert on_top.compare(first) is Order.AFTER
    assert on_top.compare(beside) is Order.CONCURRENT
