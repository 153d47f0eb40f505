"""Splitting an aggregation over several partitions."""

from __future__ import annotations

from foreshard.client.aggregation.splitting import SORT_KEY, Page, Split, keys_of_pipeline, obstacle, page_of, split
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
    assert list(part.values()) == [
        "$k", {"$sum": "$x"}, {"$min": "$x"}, {"$sum": 1}, {"$sum": "$x"}, {"$sum": {"$cond": [{"$isNumber": ["$x"]}, 1, 0]}}
    ]  # fmt: skip
    group, named = halves.merge
    assert list(group["$group"].values()) == [
        "$_id",
        {"$sum": "$r0"},
        {"$min": "$r1"},
        {"$sum": "$r2"},
        {"$sum": "$r3"},
        {"$sum": "$r4"},
    ]
    assert list(named["$replaceWith"]) == ["_id", "n", "low", "c", "m"]


def test_a_group_that_the_server_would_refuse_is_left_to_the_server() -> None:
    for group in ({"n": {"$sum": 1}}, {"_id": 1, "n": {"$sum": 1, "$avg": 1}}, {"_id": 1, "n": "$x"}):
        assert split([{"$group": group}]) == Split((), ({"$group": group},))


def test_a_page_is_merged_while_it_is_read() -> None:
    match, sort, project = {"$match": {"n": 1}}, {"$sort": {"n": -1, "k": 1}}, {"$project": {"n": 1}}
    key = {"$addFields": {SORT_KEY: {"$meta": "sortKey"}}}
    order = (("n", -1), ("k", 1))
    assert page_of([match, sort]) == Page((match, sort, key), order, 0, 0)
    skip, limit = {"$skip": 10}, {"$limit": 5}
    assert page_of([sort, skip, limit, project]) == Page((sort, {"$limit": 15}, project, key), order, 10, 5)
    assert page_of([sort, limit, {"$skip": 2}]) == Page((sort, {"$limit": 5}, key), order, 2, 3)
    assert page_of([match, limit]) == Page((match, limit), (), 0, 5)
    assert page_of([sort, limit, skip]) is None
    assert page_of([sort, {"$group": {"_id": 1}}]) is None
    assert page_of([sort, match]) is page_of([project, sort]) is page_of([sort, {"$replaceWith": "$a"}]) is None


def test_a_sorted_page_is_limited_on_the_partitions_and_again_after_merging() -> None:
    sort, skip, limit = {"$sort": {"n": 1}}, {"$skip": 10}, {"$limit": 5}
    assert split([sort, skip, limit]) == Split((sort, {"$limit": 15}), (sort, skip, limit))
    assert split([limit]) == Split((limit,), (limit,))
    assert split([sort]) == Split((), (sort,))
    assert split([skip]) == Split((), (skip,))


def test_counts_are_added_up() -> None:
    halves = split([{"$match": {"n": 1}}, {"$count": "many"}])
    assert halves.partition == ({"$match": {"n": 1}}, {"$count": "many"})
    assert halves.merge == ({"$group": {"_id": None, "n": {"$sum": "$many"}}}, {"$replaceWith": {"many": "$n"}})


def test_stages_that_write_or_read_other_documents_are_found() -> None:
    assert obstacle([{"$match": {}}, {"$out": "x"}], several=False) == "$out"
    assert obstacle([{"$lookup": {}}], several=False) == obstacle([{"$lookup": {}}], several=True) == "$lookup"
    assert obstacle([{"$geoNear": {}}], several=False) is None
    assert obstacle([{"$geoNear": {}}], several=True) == "$geoNear"
    assert obstacle([{"$facet": {"a": [{"$unionWith": "x"}]}}], several=True) == "$unionWith"


def test_the_leading_match_stages_name_the_keys() -> None:
    assert keys_of_pipeline([{"$match": {"n": 1}}, {"$match": {"k": "a"}}, {"$limit": 1}], K) == ("a",)
    assert keys_of_pipeline([{"$limit": 1}, {"$match": {"k": "a"}}], K) is None
    assert keys_of_pipeline([], K) is None
