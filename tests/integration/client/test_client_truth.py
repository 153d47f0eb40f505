"""Reads over several partitions answer what one server would answer, or are refused. Compared with one plain collection."""

from __future__ import annotations

import itertools

import pytest
from pymongo import ReplaceOne
from pymongo.collation import Collation

from foreshard.errors import UnroutableOperation

ACCUMULATORS = {
    "count": {"$count": {}},
    "sum": {"$sum": "$n"},
    "min": {"$min": "$n"},
    "max": {"$max": "$n"},
    "avg": {"$avg": "$n"},
}
HELPERS = [
    "m",
    "m__total",
    "m__number",
    "total",
    "number",
    "0",
    "1",
    "f0",
    "f1",
    "n",
    "station",
    "sum",
    "id",
    "value",
    "__foreshard",
]
CASELESS = Collation("en", strength=2)


@pytest.fixture
def placed(answerer):
    """Keys that differ by case and accents only, on three partitions."""
    for number, key in enumerate(["A", "a", "á", "B", "b", "C"]):
        answerer.place(key, ["alpha", "beta", "gamma"][number % 3])
    return answerer


@pytest.fixture
def filled(things, stand, placed):
    """The routed collection, and a plain one with the same documents."""
    documents = [{"_id": i, "station": "AaáBbC"[i % 6], "n": i * 7 % 23, "x": {"y": i % 4}, "m__total": i} for i in range(60)]
    things.insert_many(documents)
    alone = stand["alpha"].database["alone"]
    alone.insert_many(documents)
    return things, alone


@pytest.mark.parametrize("other", ACCUMULATORS)
def test_no_field_name_of_the_app_collides_with_a_helper_of_a_split_group(filled, other) -> None:
    things, alone = filled
    for field in HELPERS:
        group = {"_id": {"$mod": ["$n", 3]}, "m": {"$avg": "$n"}, field: ACCUMULATORS[other]}
        pipeline = [{"$group": group}, {"$sort": {"_id": 1}}]
        assert list(things.aggregate(pipeline)) == list(alone.aggregate(pipeline)), field


def test_a_projected_field_with_any_name_survives_a_merged_sort(filled) -> None:
    things, _ = filled
    things.insert_one({"_id": "new", "station": "A", "n": 99, "__foreshard_sort_key": 7})
    assert things.find({}, sort=[("n", -1)], limit=1).to_list() == [
        {"_id": "new", "station": "A", "n": 99, "__foreshard_sort_key": 7}
    ]


JOINS = {
    "$lookup": {"from": "things", "localField": "n", "foreignField": "n", "as": "same"},
    "$graphLookup": {"from": "things", "startWith": "$n", "connectFromField": "n", "connectToField": "n", "as": "same"},
    "$unionWith": "things",
}


@pytest.mark.parametrize("stage", JOINS)
def test_a_stage_that_reads_another_collection_is_refused_wherever_the_documents_are(filled, stage) -> None:
    things, _ = filled
    inner = ([{stage: JOINS[stage]}], [{"$facet": {"a": [{stage: JOINS[stage]}]}}])
    for match, pipeline in itertools.product(({"station": "A"}, {}), inner):
        with pytest.raises(UnroutableOperation, match=r"\$"):
            things.aggregate([{"$match": match}, *pipeline])


def test_a_collation_finds_the_documents_of_all_keys_that_it_treats_as_equal(filled) -> None:
    things, alone = filled
    for filter in ({"station": "a"}, {"station": {"$in": ["a", "b"]}}, {"station": {"$gt": "a"}}, {}):
        expected = list(alone.find(filter, collation=CASELESS).sort("_id"))
        assert list(things.find(filter, collation=CASELESS).sort("_id")) == expected
        assert things.count_documents(filter, collation=CASELESS) == len(expected)
        grouped = [{"$match": filter}, {"$group": {"_id": "$x.y", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
        assert list(things.aggregate(grouped, collation=CASELESS)) == list(alone.aggregate(grouped, collation=CASELESS))


def test_distinct_values_are_distinct_under_a_collation_too(filled) -> None:
    things, alone = filled
    found, expected = things.distinct("station", collation=CASELESS), alone.distinct("station", collation=CASELESS)
    assert [value.lower() for value in found] == [value.lower() for value in expected]
    assert things.distinct("x.y", {"station": "a"}, collation=CASELESS) == alone.distinct(
        "x.y", {"station": "a"}, collation=CASELESS
    )


@pytest.mark.parametrize("verb", ["replace_one", "find_one_and_replace", "bulk_write"])
def test_an_upsert_that_names_no_key_is_refused(filled, stand, verb) -> None:
    things, _ = filled
    before = [list(c.find().sort("_id")) for c in stand.values()]
    arguments = {"bulk_write": ([ReplaceOne({"_id": 1}, {"station": "b"}, upsert=True)],)}.get(
        verb, ({"_id": 1}, {"station": "b"})
    )
    options = {} if verb == "bulk_write" else {"upsert": True}
    with pytest.raises(UnroutableOperation, match="unique"):
        getattr(things, verb)(*arguments, **options)
    assert [list(c.find().sort("_id")) for c in stand.values()] == before


SORTED = [
    [{"$sort": {"n": -1, "_id": 1}}],
    [{"$match": {"n": {"$gt": 3}}}, {"$sort": {"x.y": 1, "_id": -1}}, {"$skip": 3}, {"$limit": 20}, {"$skip": 1}],
    [{"$sort": {"n": 1, "_id": 1}}, {"$project": {"x": 1}}, {"$set": {"z": {"$add": ["$_id", 1]}}}, {"$unset": "x"}],
    [{"$sort": {"station": 1, "_id": 1}}, {"$limit": 9}, {"$project": {"_id": 0, "station": 1}}],
    [{"$project": {"m": {"$multiply": ["$n", 2]}}}, {"$sort": {"m": 1, "_id": 1}}, {"$limit": 7}],
    [{"$sort": {"_id": 1}}, {"$limit": 5}, {"$skip": 9}],
]


@pytest.mark.parametrize("pipeline", SORTED, ids=str)
def test_a_sorted_aggregation_equals_one_on_a_single_server(filled, pipeline) -> None:
    things, alone = filled
    assert list(things.aggregate(pipeline)) == list(alone.aggregate(pipeline))
    assert list(things.aggregate(pipeline, collation=CASELESS)) == list(alone.aggregate(pipeline, collation=CASELESS))


def test_a_sorted_aggregation_of_many_megabytes_is_merged_while_it_is_read(things, placed) -> None:
    things.insert_many([{"_id": i, "station": "AaáBbC"[i % 6], "n": -i, "pad": "x" * 250_000} for i in range(90)])
    assert [d["_id"] for d in things.aggregate([{"$match": {}}, {"$sort": {"n": 1}}])] == [*range(89, -1, -1)]


@pytest.mark.parametrize("verb", ["replace_one", "find_one_and_replace"])
def test_a_replacement_of_a_document_of_another_key_is_refused(filled, stand, verb) -> None:
    things, _ = filled
    with pytest.raises(UnroutableOperation, match="another key"):
        getattr(things, verb)({"_id": 1}, {"station": "b"})  # document 1 has key a
    assert things.count_documents({"station": "b"}) == 10
    assert getattr(things, verb)({"_id": "nobody"}, {"station": "b"}) is None or verb == "replace_one"
    assert things.find_one({"_id": 4})["station"] == "b"
    getattr(things, verb)({"_id": 4}, {"station": "b", "new": True})
    assert things.find_one({"_id": 4}) == {"_id": 4, "station": "b", "new": True}


def test_a_collection_with_a_collation_of_its_own_is_refused(things, stand, placed) -> None:
    for collection in stand.values():
        collection.database.create_collection("things", collation=CASELESS)
    for verb in (
        lambda: things.find_one({"station": "a"}),
        lambda: list(things.find({"station": "a"})),
        lambda: things.count_documents({"station": "a"}),
        lambda: things.insert_one({"station": "a"}),
        lambda: things.update_one({"station": "a"}, {"$set": {"n": 1}}),
        lambda: things.delete_one({"station": "a"}),
        lambda: things.insert_many([{"station": key} for key in "AaáBbC" * 3]),
    ):
        with pytest.raises(UnroutableOperation, match="it has the collation en"):
            verb()
