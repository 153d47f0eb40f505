"""Bulk writes whose keys change partition at every request: sent together, and ordered all the same."""

from __future__ import annotations

import threading

import pytest
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from foreshard.client.bulk import together
from foreshard.errors import AmbiguousWrite

PLACES = dict(zip("abcdef", ["alpha", "beta", "gamma"] * 2, strict=True))


@pytest.fixture
def placed(answerer):
    for key, partition in PLACES.items():
        answerer.place(key, partition)
    return answerer


def documents(count: int) -> list[dict]:
    return [{"_id": i, "station": "abcdef"[i % 6], "n": i} for i in range(count)]


def everything(stand) -> list[dict]:
    return sorted((d for c in stand.values() for d in c.find()), key=lambda d: d["_id"])


def test_an_ordered_insert_over_partitions_takes_one_command_for_each(things, stand, placed, monkeypatch) -> None:
    rounds: list[int] = []
    whole = together.send_together

    async def counted(writer, parts, options):
        rounds.append(len(parts))
        return await whole(writer, parts, options)

    monkeypatch.setattr("foreshard.client.bulk.bulk_write.send_together", counted)
    assert things.insert_many(documents(300)).inserted_ids == list(range(300))
    assert everything(stand) == documents(300)
    assert rounds == [3]


def test_the_first_error_ends_an_ordered_write_and_nothing_behind_it_is_applied(things, stand, placed) -> None:
    for name, collection in stand.items():
        collection.insert_one({"_id": f"there on {name}"})
    stand["beta"].insert_one({"_id": 31, "station": "b"})
    with pytest.raises(BulkWriteError) as failed:
        things.insert_many(documents(60))
    assert failed.value.details["nInserted"] == 31
    assert [e["index"] for e in failed.value.details["writeErrors"]] == [31]
    assert sorted(d["_id"] for c in stand.values() for d in c.find({"n": {"$exists": True}})) == [*range(31)]


def test_every_kind_of_request_counts_as_with_one_server(things, stand, placed) -> None:
    requests = []
    for i in range(36):
        key = "abcdef"[i % 6]
        requests += [
            InsertOne({"_id": i, "station": key, "n": i}),
            UpdateOne({"station": key, "_id": i}, {"$inc": {"n": 1}}),
            UpdateOne({"station": key, "_id": i + 1000}, {"$set": {"n": 0}}, upsert=True),
            UpdateMany({"station": {"$in": ["a", key]}}, {"$inc": {"m": 1}}),
            ReplaceOne({"station": key, "_id": i}, {"station": key, "n": -i}),
            DeleteOne({"station": key, "_id": i + 1000}),
        ]
    requests.append(DeleteMany({"station": {"$in": ["a", "b", "f"]}}))
    alone = stand["alpha"].database["alone"]
    counts = ("inserted_count", "matched_count", "modified_count", "deleted_count", "upserted_count", "upserted_ids")
    done, expected = things.bulk_write(requests), alone.bulk_write(requests)
    assert [getattr(done, name) for name in counts] == [getattr(expected, name) for name in counts]
    assert everything(stand) == list(alone.find().sort("_id"))


def test_a_move_in_the_middle_aborts_and_the_rest_is_sent_in_order(things, stand, placed, move) -> None:
    things.insert_many(documents(12))
    move("b", "beta", "gamma")  # published, but the sidecar still answers the old partition
    things.bulk_write([UpdateOne({"station": "abcdef"[i % 6]}, {"$inc": {"hits": 1}}) for i in range(36)])
    assert sum(d.get("hits", 0) for d in things.find()) == 36
    assert [d.get("hits") for d in stand["beta"].find({"station": "b"})] == [None, None]


def test_an_update_of_many_is_whole_or_sent_document_by_document(things, stand, placed, move) -> None:
    things.insert_many([{"_id": i, "station": "a", "n": 0} for i in range(500)])
    done = things.update_many({"station": "a"}, {"$inc": {"n": 1}})
    assert (done.matched_count, done.modified_count) == (500, 500)
    move("a", "alpha", "beta")
    assert things.update_many({"station": "a"}, {"$inc": {"n": 1}}).modified_count == 500
    assert {d["n"] for d in stand["beta"].find()} == {2}
    assert {d["n"] for d in stand["alpha"].find()} == {1}


def test_writers_of_the_same_documents_lose_no_update(things, placed) -> None:
    things.insert_many(documents(6))
    failures: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(10):
                things.bulk_write([UpdateOne({"station": key}, {"$inc": {"hits": 1}}) for key in "abcdef"])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [d["hits"] for d in things.find()] == [40] * 6


def test_a_commit_whose_answer_is_lost_is_in_doubt(things, placed, monkeypatch) -> None:
    commit = together._commit

    async def lose(part):
        await commit(part)
        if part.route.partition == "beta":
            part.error = OperationFailure("lost", 91)

    monkeypatch.setattr(together, "_commit", lose)
    with pytest.raises(AmbiguousWrite) as lost:
        things.insert_many(documents(12))
    assert (lost.value.partition_id, lost.value.confirmed, lost.value.in_doubt) == ("beta", 8, (1, 4, 7, 10))


def test_an_unordered_write_reports_all_errors_of_all_partitions(things, stand, placed) -> None:
    for at, name in ((1, "beta"), (2, "gamma"), (6, "alpha")):
        stand[name].insert_one({"_id": at, "station": "abcdef"[at % 6], "old": True})
    with pytest.raises(BulkWriteError) as failed:
        things.insert_many(documents(60), ordered=False)
    assert failed.value.details["nInserted"] == 57
    assert [e["index"] for e in failed.value.details["writeErrors"]] == [1, 2, 6]
