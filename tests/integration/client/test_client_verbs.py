"""pymongo's verbs through the routed client, each on the partition of its key, and reads over all partitions."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime

import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from foreshard.client import RequestScope
from foreshard.errors import UnroutableOperation


@pytest.fixture
def placed(answerer):
    """Keys a, d on alpha; b, e on beta; c on gamma."""
    for key, partition in {"a": "alpha", "b": "beta", "c": "gamma", "d": "alpha", "e": "beta"}.items():
        answerer.place(key, partition)
    return answerer


def test_each_verb_of_one_document_acts_on_the_owner_of_its_key(things, stand, placed) -> None:
    things.insert_one({"_id": 1, "station": "b", "n": 1})
    assert stand["beta"].find_one({"_id": 1}) == {"_id": 1, "station": "b", "n": 1}
    assert things.update_one({"station": "b"}, {"$inc": {"n": 1}}).modified_count == 1
    assert things.find_one_and_update({"station": "b"}, {"$inc": {"n": 1}}, return_document=ReturnDocument.AFTER)["n"] == 3
    assert things.replace_one({"_id": 1, "station": "b"}, {"station": "b", "n": 10}).modified_count == 1
    assert things.find_one_and_replace({"station": "b"}, {"station": "b", "n": 11})["n"] == 10
    assert things.find_one({"station": "b"})["n"] == 11
    assert things.update_one({"station": "c", "_id": 9}, {"$set": {"n": 5}}, upsert=True).upserted_id == 9
    assert stand["gamma"].find_one({"_id": 9}) == {"_id": 9, "station": "c", "n": 5}
    assert things.find_one_and_delete({"station": "c"})["n"] == 5
    assert things.delete_one({"station": "b"}).deleted_count == 1
    assert [c.count_documents({}) for c in stand.values()] == [0, 0, 0]


def test_verbs_of_many_documents_reach_every_partition_they_name(things, stand, placed) -> None:
    done = things.insert_many([{"_id": i, "station": "abcde"[i % 5], "n": i} for i in range(50)])
    assert done.inserted_ids == list(range(50))
    assert {name: c.count_documents({}) for name, c in stand.items()} == {"alpha": 20, "beta": 20, "gamma": 10}
    changed = things.update_many({"station": {"$in": ["a", "b"]}, "n": {"$gte": 25}}, {"$set": {"late": True}})
    assert (changed.matched_count, changed.modified_count) == (10, 10)
    assert things.count_documents({"late": True}) == 10
    assert things.delete_many({"$or": [{"station": "a"}, {"station": "c"}]}).deleted_count == 20
    assert things.count_documents({}) == 30


def test_update_many_upserts_and_reports_one_error_as_pymongo_does(things, stand, placed) -> None:
    made = things.update_many({"station": "a", "_id": 7}, {"$set": {"n": 1}}, upsert=True)
    assert (made.upserted_id, made.matched_count) == (7, 0)
    stand["alpha"].create_index("code", unique=True, sparse=True)
    things.insert_many([{"station": "a", "code": 1}, {"station": "a", "n": 1}])
    with pytest.raises(DuplicateKeyError):
        things.update_many({"station": "a", "n": 1}, {"$set": {"code": 1}})


def test_bulk_write_keeps_order_and_counts_like_pymongo(things, placed) -> None:
    done = things.bulk_write(
        [
            InsertOne({"_id": 1, "station": "a"}),
            InsertOne({"_id": 2, "station": "b"}),
            UpdateOne({"station": "a"}, {"$set": {"n": 1}}),
            UpdateMany({"station": {"$in": ["a", "b"]}}, {"$inc": {"m": 1}}),
            ReplaceOne({"_id": 2, "station": "b"}, {"station": "b", "new": True}),
            UpdateOne({"_id": 3, "station": "c"}, {"$set": {"n": 3}}, upsert=True),
            DeleteOne({"station": "a"}),
            DeleteMany({"station": "a"}),
        ]
    )
    counts = (done.inserted_count, done.matched_count, done.modified_count, done.deleted_count)
    assert counts == (2, 4, 4, 1)
    assert done.upserted_ids == {5: 3}
    assert list(things.find({}, sort=[("_id", 1)])) == [
        {"_id": 2, "station": "b", "new": True},
        {"_id": 3, "station": "c", "n": 3},
    ]


def test_an_ordered_insert_stops_at_its_first_error_and_an_unordered_one_does_not(things, placed) -> None:
    things.insert_one({"_id": "x", "station": "b"})
    documents = [{"_id": 1, "station": "a"}, {"_id": "x", "station": "b"}, {"_id": 2, "station": "c"}]
    with pytest.raises(BulkWriteError) as ordered:
        things.insert_many([dict(d) for d in documents])
    assert (ordered.value.details["nInserted"], ordered.value.details["writeErrors"][0]["index"]) == (1, 1)
    assert things.count_documents({}) == 2
    things.delete_many({"station": "a"})
    with pytest.raises(BulkWriteError) as unordered:
        things.insert_many([dict(d) for d in documents], ordered=False)
    assert (unordered.value.details["nInserted"], unordered.value.details["writeErrors"][0]["index"]) == (2, 1)


def test_reads_over_all_partitions_see_each_document_once_despite_other_copies(things, stand, placed) -> None:
    things.insert_many([{"_id": i, "station": "abcde"[i % 5], "n": i} for i in range(20)])
    stand["gamma"].insert_many([{"_id": i, "station": "a", "n": -1} for i in (0, 5)])  # a shadow, stale
    stand["beta"].insert_many([{"_id": 2, "station": "c", "n": -1}])  # left behind by a move
    stand["gamma"].insert_one({"_id": "no key", "n": 100})  # no key: never moved
    assert sorted(str(d["_id"]) for d in things.find()) == sorted([*map(str, range(20)), "no key"])
    assert things.count_documents({}) == 21
    assert things.count_documents({}, skip=5, limit=7) == 7
    assert things.count_documents({"n": {"$lt": 0}}) == 0
    assert things.find_one({"_id": 2})["n"] == 2
    assert things.distinct("station") == ["a", "b", "c", "d", "e"]
    stand["beta"].insert_one({"_id": "bad key", "station": "refused"})  # written by another client; read where it is
    assert things.count_documents({}) == 22


def test_a_sorted_read_over_all_partitions_is_sorted_skipped_and_limited_as_one(things, placed) -> None:
    things.insert_many([{"_id": i, "station": "abcde"[i % 5], "n": i * 7 % 10, "deep": {"x": -i}} for i in range(40)])
    by_n = list(things.find({}, {"_id": 1, "station": 1}).sort([("n", -1), ("_id", 1)]).skip(3).limit(10))
    expected = sorted(range(40), key=lambda i: (-(i * 7 % 10), i))[3:13]
    assert by_n == [{"_id": i, "station": "abcde"[i % 5]} for i in expected]
    assert [d["_id"] for d in things.find({"station": {"$in": ["a", "b"]}}).sort("deep.x").limit(3)] == [36, 35, 31]
    some = things.find({}, {"deep": 0}).sort("_id")
    assert some.to_list(2) == [{"_id": 0, "station": "a", "n": 0}, {"_id": 1, "station": "b", "n": 7}]
    assert next(some)["_id"] == 2
    assert len(some.rewind().to_list()) == 40


def test_values_of_all_types_are_merged_in_the_servers_order(things, stand, placed) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    values = [
        MinKey(), None, float("nan"), -5, Int64(2**60), 2.5, Decimal128("2.4"), Decimal128("1E30"), float("-inf"), "", "a", "é",
        "\U0001f600", "\uffff", "Z", {}, {"a": 1}, {"a": 1, "b": 0}, {"b": 0}, {"a": "x"}, b"", b"zz", b"abc",
        Binary(b"abc", 128), ObjectId(), False, True, moment, Timestamp(5, 1), Regex("a", 2), Regex("b"), MaxKey(),
        [3, 1], ["x", None],
    ]  # fmt: skip
    random.Random(7).shuffle(values)
    documents = [{"_id": i, "station": "abc"[i % 3], "v": value} for i, value in enumerate(values)]
    things.insert_many(documents)
    stand["alpha"].database["whole"].insert_many(documents)
    for way in (1, -1):
        expected = [d["_id"] for d in stand["alpha"].database["whole"].find().sort([("v", way), ("_id", 1)])]
        assert [d["_id"] for d in things.find().sort([("v", way), ("_id", 1)])] == expected


def test_a_collation_sorts_over_all_partitions(things, placed) -> None:
    things.insert_many([{"_id": i, "station": "abcde"[i], "v": value} for i, value in enumerate(["ß", "Ä", "a", "z", "B"])])
    found = things.find().collation({"locale": "de", "strength": 2}).sort("v")
    assert [d["v"] for d in found] == ["a", "Ä", "B", "ß", "z"]


PIPELINES = [
    [{"$group": {"_id": "$kind", "n": {"$sum": 1}, "mean": {"$avg": "$n"}, "top": {"$max": "$n"}}}, {"$sort": {"_id": 1}}],
    [
        {"$group": {"_id": "$kind", "all": {"$addToSet": "$station"}}},
        {"$set": {"all": {"$size": "$all"}}},
        {"$sort": {"_id": 1}},
    ],
    [{"$match": {"n": {"$gt": 4}}}, {"$count": "n"}],
    [{"$match": {"n": {"$gt": 1000}}}, {"$count": "n"}],
    [{"$sort": {"n": -1, "_id": 1}}, {"$skip": 2}, {"$limit": 5}, {"$project": {"n": 1}}],
    [{"$group": {"_id": None, "n": {"$count": {}}, "mean": {"$avg": "$nothing"}}}, {"$project": {"_id": 0}}],
    [{"$project": {"price": {"$concat": ["$$ROOT.station", "$kind"]}}}, {"$sort": {"price": 1, "_id": 1}}, {"$limit": 3}],
    [{"$facet": {"few": [{"$match": {"n": {"$lt": 3}}}, {"$count": "n"}], "most": [{"$sort": {"n": -1}}, {"$limit": 1}]}}],
    [{"$unwind": "$tags"}, {"$sortByCount": "$tags"}, {"$sort": {"count": -1, "_id": 1}}],
    [{"$bucket": {"groupBy": "$n", "boundaries": [0, 10, 20, 100], "output": {"n": {"$sum": 1}}}}],
]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: "-".join(next(iter(stage)) for stage in pipeline))
def test_an_aggregation_over_all_partitions_equals_one_on_a_single_server(things, stand, placed, pipeline) -> None:
    documents = [
        {"_id": i, "station": "abcde"[i % 5], "n": i, "kind": f"$k{i % 3}", "tags": [f"t{i % 2}", f"t{i % 4}"]}
        for i in range(30)
    ]
    things.insert_many(documents)
    whole = stand["alpha"].database["whole"]
    whole.insert_many(documents)
    assert list(things.aggregate(pipeline)) == list(whole.aggregate(pipeline))


def test_an_aggregation_of_one_key_runs_on_its_partition(things, placed) -> None:
    things.insert_many([{"_id": i, "station": "ab"[i % 2], "n": i} for i in range(10)])
    numbered = {"$setWindowFields": {"sortBy": {"_id": 1}, "output": {"at": {"$documentNumber": {}}}}}
    found = list(things.aggregate([{"$match": {"station": "a"}}, numbered, {"$sample": {"size": 9}}, {"$sort": {"_id": 1}}]))
    assert [(d["_id"], d["at"]) for d in found] == [(0, 1), (2, 2), (4, 3), (6, 4), (8, 5)]
    with pytest.raises(UnroutableOperation, match=r"\$sample can't run over several partitions"):
        things.aggregate([{"$sample": {"size": 9}}])
    with pytest.raises(UnroutableOperation, match=r"\$out bypasses the routing"):
        things.aggregate([{"$match": {"station": "a"}}, {"$out": "elsewhere"}])


def test_reads_may_go_to_a_shadow_and_writes_never(things, stand, placed, make_client) -> None:
    stand["alpha"].insert_one({"_id": 1, "station": "a", "n": "primary"})
    stand["gamma"].insert_one({"_id": 1, "station": "a", "n": "shadow"})
    placed.reads["a"] = "gamma"
    assert things.find_one({"station": "a"})["n"] == "shadow"
    things.update_one({"station": "a"}, {"$set": {"n": "changed"}})
    assert stand["alpha"].find_one()["n"] == "changed"
    assert stand["gamma"].find_one()["n"] == "shadow"
    assert [d["n"] for d in things.find({})] == ["changed"]


def test_a_client_reads_its_own_writes_unless_it_says_otherwise(things, stand, placed) -> None:
    things.insert_one({"_id": 1, "station": "a", "n": 0})
    things.insert_one({"_id": 2, "station": "b", "n": 0})
    for key in ("a", "b"):
        stand["gamma"].insert_one({"_id": f"shadow of {key}", "station": key, "n": -1})
        placed.reads[key] = "gamma"
    for number in range(1, 20):
        if number % 2:
            things.update_one({"station": "a"}, {"$inc": {"n": 1}})
        else:
            things.bulk_write([UpdateOne({"station": "a"}, {"$inc": {"n": 1}})])
        assert things.find_one({"station": "a"})["n"] == number
        assert [d["n"] for d in things.find({"station": {"$in": ["a", "b"]}}, sort="_id")] == [number, 0]
    careless = RequestScope(own_writes=False)
    assert things.find_one({"station": "a"}, request=careless)["n"] == -1
    assert things.count_documents({"station": "a", "n": -1}, request=careless) == 1


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("update_one", ({"n": 1}, {"$set": {"n": 2}})),
        ("update_many", ({}, {"$set": {"n": 2}})),
        ("delete_many", ({},)),
        ("delete_one", ({"station": {"$in": ["a", "b"]}},)),
        ("insert_one", ({"n": 1},)),
        ("insert_one", ({"station": 5},)),
        ("replace_one", ({"station": "a"}, {"station": "b"})),
        ("replace_one", ({"station": "a"}, {"n": 1})),
        ("update_one", ({"station": "a"}, {"$set": {"station": "b"}})),
        ("update_one", ({"station": "a"}, [{"$replaceWith": {"n": 1}}])),
        ("find_one_and_delete", ({"n": 1},)),
        ("bulk_write", ([DeleteOne({"n": 1})],)),
    ],
)
def test_a_write_that_can_not_be_routed_is_refused_before_anything_is_sent(things, stand, placed, verb, arguments) -> None:
    things.insert_one({"_id": 1, "station": "a", "n": 1})
    asked = len(placed.asked)
    with pytest.raises(UnroutableOperation) as refused:
        getattr(things, verb)(*arguments)
    assert "\n" not in str(refused.value)
    assert len(placed.asked) == asked
    assert stand["alpha"].find_one() == {"_id": 1, "station": "a", "n": 1}


def test_sessions_and_bypassed_validation_are_refused(things, partition_clients, placed) -> None:
    with partition_clients["alpha"].start_session() as session, pytest.raises(UnroutableOperation, match="session"):
        things.find_one({"station": "a"}, session=session)
    with pytest.raises(UnroutableOperation, match="pass the fence"):
        things.insert_one({"station": "a"}, bypass_document_validation=True)
    with pytest.raises(UnroutableOperation, match="pass the fence"):  # pymongo hands this one to the server as it is
        things.find_one_and_update({"station": "a"}, {"$set": {"n": 1}}, bypassDocumentValidation=True)


def test_an_operation_that_the_server_refuses_fails_as_with_pymongo(things, placed) -> None:
    with pytest.raises(OperationFailure):
        things.find_one({"station": "a", "$nonsense": 1})


def test_odd_keys_are_routed_and_found(things, placed) -> None:
    keys = ["a/b", "..", "%2F", "ü ñ", "\U0001f6b2", "key?op=x&from=y", "with\nnewline", "x" * 1_000, "#"]
    things.insert_many([{"station": key} for key in keys])
    assert [things.count_documents({"station": key}) for key in keys] == [1] * len(keys)


def test_threads_share_one_client(things, placed) -> None:
    things.insert_many([{"station": key, "n": 0} for key in "abcde"])

    def raise_all() -> None:
        for key in "abcde" * 10:
            things.update_one({"station": key}, {"$inc": {"n": 1}})

    threads = [threading.Thread(target=raise_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {d["station"]: d["n"] for d in things.find({})} == dict.fromkeys("abcde", 40)
