"""Writes whose key is looked up by ``_id``, and pipelines that provably keep it."""

from __future__ import annotations

import pytest

from foreshard.errors import UnroutableOperation


@pytest.fixture
def placed(answerer):
    answerer.place("a", "alpha")
    answerer.place("b", "beta")
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
