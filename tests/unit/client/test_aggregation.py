"""Splitting an aggregation over several partitions."""

from __future__ import annotations

from foreshard.client._aggregation import Split, keys_of_pipeline, obstacle, split
from foreshard.model import ShardedCollection

K = ShardedCollection("app", "things", "k")


def test_stages_on_single_documents_run_only_on_the_partitions() -> None:
    stages = ({"$match": {"n": 1}}, {"$project": {"n": 1}}, {"$unwind": "$n"})
    assert split(stages) == Split(stages, ())


def test_the_first_stage_across_documents_and_all_later_ones_run_once() -> None:
    lead, group, last = {"$match": {"n": 1}}, {"$group": {"_id": "$k", "all": {"$push": "$n"}}}, {"$match": {"x": 1}}
    assert split([lead, group, last]) == Split((lead,), (group, last))


def test_sums_counts_extremes_and_means_are_grouped_on_the_partitions_first() -> None:
    halves = split(
        [{"$group": {"_id": "$k", "n": {"$sum": "$x"}, "low": {"$min": "$x"}, "c": {"$count": {}}, "m": {"$avg": "$x"}}}]
    )
    part = halves.partition[0]["$group"]
    assert part["n"] == {"$sum": "$x"}
    assert part["c"] == {"$sum": 1}
    assert "m" not in part
    merge = halves.merge[0]["$group"]
    assert (merge["_id"], merge["n"], merge["low"], merge["c"]) == ("$_id", {"$sum": "$n"}, {"$min": "$low"}, {"$sum": "$c"})
    assert [next(iter(stage)) for stage in halves.merge] == ["$group", "$set", "$unset"]


def test_a_sorted_page_is_limited_on_the_partitions_and_again_after_merging() -> None:
    sort, skip, limit = {"$sort": {"n": 1}}, {"$skip": 10}, {"$limit": 5}
    assert split([sort, skip, limit]) == Split((sort, {"$limit": 15}), (sort, skip, limit))
    assert split([limit]) == Split((limit,), (limit,))
    assert split([sort]) == Split((), (sort,))
    assert split([skip]) == Split((), (skip,))


def test_counts_are_added_up() -> None:
    halves = split([{"$match": {"n": 1}}, {"$count": "many"}])
    assert halves.partition == ({"$match": {"n": 1}}, {"$count": "many"})
    assert halves.merge[0] == {"$group": {"_id": None, "many": {"$sum": "$many"}}}


def test_stages_that_write_or_read_other_documents_are_found() -> None:
    assert obstacle([{"$match": {}}, {"$out": "x"}], several=False) == "$out"
    assert obstacle([{"$lookup": {}}], several=False) is None
    assert obstacle([{"$lookup": {}}], several=True) == "$lookup"
    assert obstacle([{"$facet": {"a": [{"$unionWith": "x"}]}}], several=True) == "$unionWith"


def test_the_leading_match_stages_name_the_keys() -> None:
    assert keys_of_pipeline([{"$match": {"n": 1}}, {"$match": {"k": "a"}}, {"$limit": 1}], K) == ("a",)
    assert keys_of_pipeline([{"$limit": 1}, {"$match": {"k": "a"}}], K) is None
    assert keys_of_pipeline([], K) is None
