"""Writes whose key is looked up by ``_id``, and pipelines that provably keep it."""

from __future__ import annotations

import re

import pytest
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne

from foreshard.errors import UnroutableOperation


@pytest.fixture
def placed(answerer):
    answerer.place("a", "alpha")
    answerer.place("b", "beta")
    answerer.place("c", "gamma")
    return answerer


@pytest.mark.parametrize(
    "pipeline",
    [
        [{"$replaceWith": {"_id": "$_id", "n": 9, "station": "$station"}}],
        [{"$replaceWith": {"$mergeObjects": [{"n": 3, "station": "z"}, "$$ROOT", {"m": "$n"}]}}],
        [{"$project": {"station": 1, "n": {"$add": ["$n", 1]}}}],
        [{"$project": {"n": 0}}],
    ],
)
def test_a_pipeline_that_keeps_the_key_is_sent(things, stand, placed, pipeline) -> None:
    alone = stand["gamma"].database["alone"]
    for collection in (things, alone):
        collection.insert_many([{"_id": key, "station": key, "n": 1} for key in "ab"])
        assert collection.update_one({"station": "b"}, pipeline).modified_count == 1
    assert list(things.find(sort="_id")) == list(alone.find(sort=[("_id", 1)]))


def test_a_write_by_id_finds_the_key(things, stand, placed) -> None:
    for number, key in enumerate("abab"):
        things.insert_one({"_id": number, "station": key, "n": 0})
    assert things.update_one({"_id": 1, "n": 0}, {"$set": {"n": 1}}).raw_result["nModified"] == 1
    assert things.update_one({"_id": 1, "n": 0}, {"$set": {"n": 2}}).matched_count == 0
    assert things.find_one_and_update({"_id": 2}, {"$inc": {"n": 5}}, return_document=True) == {
        "_id": 2,
        "station": "a",
        "n": 5,
    }
    assert things.find_one_and_delete({"_id": 3}) == {"_id": 3, "station": "b", "n": 0}
    assert things.delete_one({"_id": 0}).deleted_count == 1
    assert (things.delete_one({"_id": 0}).deleted_count, things.find_one_and_delete({"_id": 0})) == (0, None)
    assert things.update_one({"_id": 0}, {"$set": {"n": 1}}).matched_count == 0
    assert [(d["_id"], d["n"]) for d in things.find(sort="_id")] == [(1, 1), (2, 5)]
    done = things.update_one({"_id": 9}, {"$set": {"station": "b", "n": 9}}, upsert=True)
    assert (done.upserted_id, stand["beta"].find_one({"_id": 9})["n"]) == (9, 9)
    assert things.update_one({"_id": 9}, {"$set": {"station": "b", "n": 10}}, upsert=True).modified_count == 1
    for refused in (
        lambda: things.update_one({"_id": 10}, {"$set": {"n": 9}}, upsert=True),
        lambda: things.update_one({"_id": 9}, {"$set": {"station": "a"}}, upsert=True),
        lambda: things.update_one({"_id": {"$gt": 1}}, {"$set": {"n": 9}}),
    ):
        with pytest.raises(UnroutableOperation):
            refused()
    stand["gamma"].insert_one({"_id": 9, "station": "c"})
    placed.place("c", "gamma")
    with pytest.raises(UnroutableOperation, match="2 documents have this _id"):
        things.delete_one({"_id": 9})


@pytest.mark.parametrize("ordered", [True, False])
def test_a_bulk_write_by_id_finds_the_keys(things, placed, ordered: bool) -> None:
    things.insert_many([{"_id": number, "station": key, "n": 0} for number, key in enumerate("abcab")])
    done = things.bulk_write(
        [
            UpdateOne({"_id": 1}, {"$set": {"n": 1}}),
            InsertOne({"_id": 7, "station": "c", "n": 7}),
            DeleteOne({"_id": 2}),
            UpdateOne({"_id": 99}, {"$set": {"n": 1}}),
            ReplaceOne({"_id": 3.0}, {"station": "a", "n": 33}),
            UpdateOne({"_id": 4, "station": "b"}, {"$inc": {"n": 4}}),
            UpdateOne({"_id": 8}, {"$set": {"station": "a", "n": 8}}, upsert=True),
        ],
        ordered=ordered,
    )
    counted = (done.matched_count, done.modified_count, done.inserted_count, done.deleted_count, done.upserted_ids)
    assert counted == (3, 3, 1, 1, {6: 8})
    found = [(d["_id"], d["station"], d["n"]) for d in things.find(sort="_id")]
    assert found == [(0, "a", 0), (1, "b", 1), (3, "a", 33), (4, "b", 4), (7, "c", 7), (8, "a", 8)]


def test_a_bulk_write_by_id_knows_what_its_earlier_requests_insert(things, placed) -> None:
    requests = [InsertOne({"_id": 5, "station": "a"}), UpdateOne({"_id": 5}, {"$set": {"n": 1}}), DeleteOne({"_id": 6})]
    assert things.bulk_write(requests).modified_count == 1
    moved = [DeleteOne({"_id": 5}), InsertOne({"_id": 5, "station": "c"}), UpdateOne({"_id": 5}, {"$set": {"n": 2}})]
    assert things.bulk_write(moved).modified_count == 1
    assert things.find_one({"_id": 5}) == {"_id": 5, "station": "c", "n": 2}
    nothing = things.bulk_write([DeleteOne({"_id": 50}), UpdateOne({"_id": 51}, {"$set": {"n": 1}})])
    assert (nothing.deleted_count, nothing.matched_count) == (0, 0)


def test_a_bulk_write_by_id_that_is_not_sure_of_a_key_sends_nothing(things, stand, placed) -> None:
    things.insert_many([{"_id": 1, "station": "a"}, {"_id": 2, "station": "b"}, {"_id": "x1", "station": "a"}])
    stand["gamma"].insert_one({"_id": 1, "station": "c"})
    for request in (
        UpdateOne({"_id": 1}, {"$set": {"n": 9}}),
        UpdateOne({"_id": re.compile("x")}, {"$set": {"n": 9}}),
        UpdateOne({"_id": {"$gt": 1}}, {"$set": {"n": 9}}),
        UpdateOne({"_id": 3}, {"$set": {"n": 9}}, upsert=True),
        ReplaceOne({"_id": 2}, {"station": "a"}),
        ReplaceOne({"_id": 3}, {"station": "a"}, upsert=True),
    ):
        with pytest.raises(UnroutableOperation) as refused:
            things.bulk_write([InsertOne({"_id": 70, "station": "a"}), request])
        assert "\n" not in str(refused.value)
    assert [d for d in things.find({"_id": 70})] == []  # noqa: C416
