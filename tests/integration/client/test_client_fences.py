"""Writes to fenced keys on real servers: applied exactly once at the new owner, or reported."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from pymongo import DeleteMany, DeleteOne, InsertOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure, WriteError

from foreshard.client._routed_client import ClientOptions
from foreshard.errors import KeyInTransit, RoutingTableOld

WRITES = {
    "insert_one": lambda c: c.insert_one({"_id": 2, "station": "k", "n": 1}),
    "update_one": lambda c: c.update_one({"station": "k"}, {"$inc": {"n": 1}}),
    "upsert": lambda c: c.update_one({"station": "k", "_id": 5}, {"$inc": {"n": 1}}, upsert=True),
    "update_many": lambda c: c.update_many({"station": "k"}, {"$inc": {"n": 1}}),
    "replace_one": lambda c: c.replace_one({"_id": 1}, {"station": "k", "n": 2}),
    "find_one_and_update": lambda c: c.find_one_and_update({"station": "k"}, {"$inc": {"n": 1}}),
    "find_one_and_replace": lambda c: c.find_one_and_replace({"_id": 1}, {"station": "k", "n": 2}),
    "delete_one": lambda c: c.delete_one({"station": "k"}),
    "delete_many": lambda c: c.delete_many({"station": "k"}),
    "find_one_and_delete": lambda c: c.find_one_and_delete({"station": "k"}),
    "insert_many": lambda c: c.insert_many([{"_id": 2, "station": "k", "n": 1}, {"_id": 3, "station": "k", "n": 1}]),
    "bulk_write of deletes": lambda c: c.bulk_write([DeleteOne({"station": "k"}), DeleteMany({"station": "k"})]),
    "bulk_write": lambda c: c.bulk_write(
        [UpdateMany({"station": "k"}, {"$inc": {"n": 1}}), InsertOne({"_id": 4, "station": "k"})]
    ),
}


@pytest.mark.parametrize("verb", WRITES)
def test_a_stale_write_is_refused_by_the_old_owner_and_applied_once_at_the_new_one(things, stand, answerer, move, verb) -> None:
    answerer.place("k", "alpha")
    things.insert_one({"_id": 1, "station": "k", "n": 1})
    move("k", "alpha", "beta")  # published, but the sidecar answers the old partition until it is refreshed
    before = list(stand["alpha"].find())
    WRITES[verb](things)
    assert list(stand["alpha"].find()) == before
    alone = stand["gamma"]
    alone.insert_one({"_id": 1, "station": "k", "n": 1})
    WRITES[verb](alone)
    assert list(stand["beta"].find().sort("_id")) == list(alone.find().sort("_id"))


def test_a_write_waits_for_a_key_that_is_still_being_moved(things, stand, answerer, fences) -> None:
    answerer.place("k", "alpha")
    things.insert_one({"_id": 1, "station": "k", "n": 0})
    fences["alpha"].fence(["k"])
    waiting = threading.Event()

    def finish() -> None:
        while answerer.refreshes < 3:
            waiting.wait(0.005)
        stand["beta"].insert_many(list(stand["alpha"].find()))
        answerer.publish("k", "beta")

    mover = threading.Thread(target=finish)
    mover.start()
    assert things.update_one({"station": "k"}, {"$inc": {"n": 1}}).modified_count == 1
    mover.join()
    assert (stand["alpha"].find_one()["n"], stand["beta"].find_one()["n"]) == (0, 1)


def test_a_fence_that_outlasts_the_deadline_is_reported_and_nothing_is_applied(make_things, stand, answerer, fences) -> None:
    things = make_things(ClientOptions(deadline=0.2))
    answerer.place("k", "alpha")
    things.insert_many([{"_id": 1, "station": "k", "n": 0}, {"_id": 2, "station": "other", "n": 0}])
    fences["alpha"].fence(["k"])
    with pytest.raises(KeyInTransit) as late:
        things.update_one({"station": "k"}, {"$inc": {"n": 1}})
    assert (late.value.key, late.value.partition_id) == ("k", "alpha")
    with pytest.raises(BulkWriteError) as bulk:
        things.bulk_write([UpdateOne({"station": s}, {"$inc": {"n": 1}}) for s in ("other", "k", "other")], ordered=False)
    assert bulk.value.details["nModified"] == 2
    assert [(e["index"], e["code"]) for e in bulk.value.details["writeErrors"]] == [(1, 121)]
    assert {d["_id"]: d["n"] for d in stand["alpha"].find()} == {1: 0, 2: 2}


def test_the_apps_own_validation_error_is_unchanged_with_and_without_a_fence(things, stand, answerer, fences) -> None:
    answerer.place("k", "alpha")
    things.insert_one({"_id": 1, "station": "k", "n": 1})
    stand["alpha"].database.command("collMod", "things", validator={"n": {"$gte": 0}})
    for fenced in ([], ["someone else"]):
        fences["alpha"].fence(fenced)
        refreshes = answerer.refreshes
        with pytest.raises(WriteError) as refused:
            things.update_one({"station": "k"}, {"$set": {"n": -1}})
        assert refused.value.code == 121
        assert answerer.refreshes == refreshes + 1
        with pytest.raises(OperationFailure):
            things.find_one_and_update({"station": "k"}, {"$set": {"n": -1}})
        with pytest.raises(BulkWriteError) as bulk:
            things.insert_many([{"station": "k", "n": 1}, {"station": "k", "n": -1}, {"station": "k", "n": 1}])
        assert [e["index"] for e in bulk.value.details["writeErrors"]] == [1]


def test_after_a_fence_only_the_unapplied_part_of_a_run_is_resent(things, stand, answerer, move) -> None:
    for key in ("k", "m"):
        answerer.place(key, "alpha")
    things.insert_many([{"_id": key, "station": key, "n": 0} for key in "km"])
    move("k", "alpha", "beta")
    raises = [UpdateOne({"station": key}, {"$inc": {"n": 1}}) for key in "mmkmkkm"]
    done = things.bulk_write(raises)
    assert done.modified_count == 7
    move("m", "alpha", "gamma")
    done = things.bulk_write(
        [*raises, InsertOne({"_id": "new", "station": "m"}), DeleteOne({"_id": "new", "station": "m"})], False
    )
    assert (done.modified_count, done.inserted_count) == (14 - 7, 1)
    assert stand["beta"].find_one({"_id": "k"})["n"] == 6
    assert stand["gamma"].find_one({"_id": "m"})["n"] == 8
    assert stand["alpha"].find_one({"_id": "k"})["n"] == 0


def test_documents_of_a_moved_key_are_seen_once_while_the_old_copy_exists(things, stand, answerer, move) -> None:
    answerer.place("k", "alpha")
    things.insert_many([{"_id": i, "station": "k" if i % 2 else "m", "n": i} for i in range(10)])
    move("k", "alpha", "beta")
    things.update_many({"station": "k"}, {"$inc": {"n": 100}})
    assert sorted(d["n"] for d in things.find()) == [0, 2, 4, 6, 8, 101, 103, 105, 107, 109]
    assert things.count_documents({}) == 10


def test_an_update_or_delete_without_a_match_asks_for_the_route_again(make_things, stand, answerer, fences) -> None:
    things = make_things(ClientOptions(keep_routes=60.0))
    answerer.place("k", "alpha")
    things.insert_one({"_id": 1, "station": "k", "n": 0})
    stand["beta"].insert_many(list(stand["alpha"].find()))
    stand["alpha"].delete_many({})  # long after the move: the old copy is gone, and the client still has the old route
    answerer.place("k", "beta")
    assert things.update_one({"station": "k"}, {"$inc": {"n": 1}}).modified_count == 1
    assert things.delete_one({"station": "k"}).deleted_count == 1


def test_moves_back_and_forth_under_writers_neither_lose_nor_repeat_a_write(things, stand, answerer, move) -> None:
    keys = [f"key {i}" for i in range(6)]
    places = dict.fromkeys(keys, "alpha")
    for key in keys:
        answerer.place(key, "alpha")
    things.insert_many([{"_id": key, "station": key, "n": 0} for key in keys])
    stop = threading.Event()
    raised: list[Counter[str]] = []
    inserted: list[list[str]] = []
    failures: list[Exception] = []
    done_so_far: list[int] = []

    def write(worker: int) -> None:
        count, mine = Counter[str](), []
        turn = 0
        with suppress_into(failures):
            while not stop.is_set():
                turn += 1
                done_so_far.append(turn)
                key = keys[(turn * 7 + worker) % len(keys)]
                match turn % 3:
                    case 0:
                        things.update_one({"_id": key, "station": key}, {"$inc": {"n": 1}})
                        count[key] += 1
                    case 1:
                        done = things.bulk_write(
                            [UpdateOne({"_id": k, "station": k}, {"$inc": {"n": 1}}) for k in keys], turn % 2 == 0
                        )
                        assert done.modified_count == len(keys)
                        count.update(keys)
                    case _:
                        batch = [{"_id": f"{worker}-{turn}-{k}", "station": k} for k in keys]
                        things.insert_many(batch)
                        mine += [d["_id"] for d in batch]
        raised.append(count)
        inserted.append(mine)

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for writer in writers:
        writer.start()
    for turn in range(5 * len(keys)):
        key = keys[turn % len(keys)]
        target = ("beta", "gamma", "alpha")[turn // len(keys) % 3]
        move(key, places[key], target)
        places[key] = target
        seen = len(done_so_far)
        while len(done_so_far) < seen + 8 and not failures:
            stop.wait(0.001)
    stop.set()
    for writer in writers:
        writer.join()
    assert failures == []
    total = sum(raised, Counter[str]())
    assert total.total() > 100
    assert {key: stand[places[key]].find_one({"_id": key})["n"] for key in keys} == dict(total)
    wanted = sorted(one for mine in inserted for one in mine)
    assert sorted(d["_id"] for d in things.find({"n": {"$exists": False}}, {"_id": 1})) == wanted
    for key in keys:
        assert stand[places[key]].count_documents({"station": key}) == sum(one.endswith(f"-{key}") for one in wanted) + 1


def suppress_into(failures: list[Exception]):
    class Catch:
        def __enter__(self) -> None: ...

        def __exit__(self, _kind: object, error: Exception | None, _trace: object) -> bool:
            if error is not None:
                failures.append(error)
            return True

    return Catch()


def test_a_client_without_a_table_asks_the_partition_while_its_sidecar_is_cut_off(things, stand, answerer, move) -> None:
    answerer.place("k", "alpha")
    things.insert_many([{"_id": i, "station": "k"} for i in range(5)])
    move("k", "alpha", "beta")
    stand["alpha"].delete_many({})
    answerer.age = 60.0  # it can't refresh either
    for verb in (
        lambda: things.find_one({"station": "k"}),
        lambda: things.count_documents({"station": "k"}),
        lambda: things.count_documents({"_id": 1}),
        lambda: things.update_one({"station": "k"}, {"$set": {"n": 1}}),
        lambda: things.delete_one({"station": "k"}),
    ):
        with pytest.raises(RoutingTableOld, match="'k' has left partition alpha"):
            verb()
    answerer.age = 0.0
    answerer.answered = dict(answerer.published)
    assert things.count_documents({"station": "k"}) == 5
