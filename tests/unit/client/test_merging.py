"""Merging the results of several partitions, and MongoDB's sort order."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from bson import Decimal128, MaxKey, MinKey
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.client._driving import run
from foreshard.client._merging import SORT_KEY, Merged, Stream, directions, part_limit, rank_of, sort_rank, with_sort_key

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(-2, 2),
        st.just(math.nan),
        st.text("ab\U0001f600é", max_size=3),
        st.binary(max_size=3),
        st.just(Decimal128("1.5")),
        st.just(datetime(2024, 5, 1, tzinfo=UTC)),
        st.sampled_from([MinKey(), MaxKey()]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)),
    max_leaves=5,
)


@given(st.lists(VALUES, max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_two_values_can_be_compared_and_sorting_does_not_depend_on_the_input_order(values) -> None:
    ranks = sorted(rank_of(value) for value in values)
    assert ranks == sorted(rank_of(value) for value in reversed(values))


def test_types_sort_in_mongodbs_order() -> None:
    ladder = [MinKey(), None, math.nan, -1, 2.5, "a", {}, [], b"", False, True, datetime(2024, 1, 1, tzinfo=UTC), MaxKey()]
    ranks = [rank_of(value) for value in ladder]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)
    assert rank_of(1) == rank_of(1.0) == rank_of(Decimal128("1"))
    assert rank_of(datetime(2024, 1, 1)) == rank_of(datetime(2024, 1, 1, tzinfo=UTC))


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(TypeError, match="no sort order for object"):
        rank_of(object())


def merge(parts, sort, skip, limit):
    merged = Merged([Stream(part) for part in parts], sort, skip, limit)
    while (document := run(merged.next())) is not None:
        yield document


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.text("ab", max_size=1)), max_size=12)


@given(st.lists(PAIRS, max_size=4), st.sampled_from([1, -1]), st.sampled_from([1, -1]), st.integers(0, 5), st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_merged_parts_equal_one_sorted_list(parts, first, second, skip, limit) -> None:
    sort = [("a", first), ("b", second)]

    def rank(pair: tuple[int, str]) -> object:
        return sort_rank(pair, (first, second))

    bound = part_limit(skip, limit) or None
    documents = [[{"a": a, "b": b, SORT_KEY: [a, b]} for a, b in sorted(part, key=rank)[:bound]] for part in parts]
    whole = sorted((pair for part in parts for pair in part), key=rank)[skip : skip + limit if limit else None]
    assert [(d["a"], d["b"]) for d in merge(documents, sort, skip, limit)] == whole


def test_without_a_sort_parts_are_concatenated_then_skipped_and_limited() -> None:
    parts = [[{"n": 1}, {"n": 2}], [], [{"n": 3}, {"n": 4}]]
    assert [d["n"] for d in merge(parts, [], 1, 2)] == [2, 3]
    assert [d["n"] for d in merge(parts, [("$natural", -1)], 0, 0)] == [1, 2, 3, 4]


def test_the_sort_key_is_added_to_any_projection_and_removed_again() -> None:
    meta = {"$meta": "sortKey"}
    assert with_sort_key(None) == {SORT_KEY: meta}
    assert with_sort_key({"a": 0}) == {"a": 0, SORT_KEY: meta}
    assert with_sort_key(["a"]) == {"a": 1, SORT_KEY: meta}
    assert with_sort_key([]) == with_sort_key({}) == {SORT_KEY: meta}
    assert list(merge([[{"a": 1, SORT_KEY: [1]}]], [("a", 1)], 0, 0)) == [{"a": 1}]
    assert directions([("score", {"$meta": "textScore"}), ("a", 1)]) == [-1, 1]
