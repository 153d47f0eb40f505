"""Deletes and fences on real servers: a fence stops a routed client's deletes, although a validator does not see them."""

from __future__ import annotations

import threading

import pytest
from pymongo import DeleteOne
from pymongo.errors import BulkWriteError

from foreshard.errors import KeyInTransit


@pytest.mark.parametrize(
    "delete",
    [
        lambda c: c.delete_one({"station": "k"}).deleted_count,
        lambda c: c.delete_many({"station": "k"}).deleted_count,
        lambda c: c.find_one_and_delete({"station": "k"}) and 1,
        lambda c: c.bulk_write([DeleteOne({"station": "m"}), DeleteOne({"station": "k"})]).deleted_count - 1,
        lambda c: c.bulk_write([DeleteOne({"station": "m"}), DeleteOne({"station": "k"})], ordered=False).deleted_count - 1,
    ],
    ids=["one", "many", "find and delete", "ordered bulk", "unordered bulk"],
)
def test_a_delete_waits_for_a_key_that_is_still_being_moved(things, stand, answerer, fences, delete) -> None:
    answerer.place("k", "alpha")
    things.insert_many([{"_id": 1, "station": "k"}, {"_id": 2, "station": "m"}])
    fences["alpha"].fence(["k"])
    waiting = threading.Event()
    seen: list[int] = []

    def finish() -> None:
        while answerer.refreshes < 3:
            waiting.wait(0.005)
        seen.append(stand["alpha"].count_documents({"station": "k"}))
        stand["beta"].insert_many(list(stand["alpha"].find({"station": "k"})))
        answerer.publish("k", "beta")

    mover = threading.Thread(target=finish)
    mover.start()
    assert delete(things) == 1
    mover.join()
    assert seen == [1]
    assert [d["_id"] for d in stand["alpha"].find({"station": "k"})] == [1]
    assert list(stand["beta"].find()) == []


def test_a_delete_is_not_committed_once_a_fence_is_armed_and_imposed(things, stand, answerer, fences) -> None:
    answerer.place("k", "alpha")
    things.insert_one({"_id": 1, "station": "k"})
    assert things.delete_one({"station": "k", "_id": "none"}).deleted_count == 0  # the client knows the lists now
    armed = fences["alpha"].arm(lambda lists: lists.fence(["k"]))
    assert things.delete_one({"station": "k", "_id": "none"}).deleted_count == 0  # armed, and still accepted
    armed.impose()
    with pytest.raises(KeyInTransit):
        things.delete_one({"station": "k"})
    armed.end()
    fences["alpha"].unfence(["k"])
    assert things.delete_one({"station": "k"}).deleted_count == 1


def test_a_delete_waits_for_another_transaction_that_has_written_the_document(things, stand, answerer) -> None:
    answerer.place("k", "alpha")
    things.insert_one({"_id": 1, "station": "k"})
    deleted: list[int] = []
    waiting = threading.Thread(target=lambda: deleted.append(things.delete_one({"station": "k"}).deleted_count))
    with stand["alpha"].database.client.start_session() as session, session.start_transaction():
        stand["alpha"].update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(10)
    assert deleted == [1]


def test_a_delete_of_many_documents_is_whole_and_its_count_is_exact(things, stand, answerer) -> None:
    answerer.place("k", "alpha")
    things.insert_many([{"_id": n, "station": "k", "odd": n % 2} for n in range(4_100)])
    assert things.delete_many({"station": "k", "odd": 1}).deleted_count == 2_050
    assert stand["alpha"].count_documents({}) == 2_050
    assert things.delete_many({"station": "k"}).deleted_count == 2_050


def test_deletes_that_do_not_fail_are_applied_beside_one_that_does(things, stand, answerer) -> None:
    answerer.place("k", "alpha")
    wrong = DeleteOne({"station": "k", "_id": {"$unknown": 1}})
    for ordered, left in ((True, [2, 3]), (False, [2])):
        stand["alpha"].delete_many({})
        things.insert_many([{"_id": n, "station": "k"} for n in range(4)])
        deletes = [DeleteOne({"station": "k", "_id": n}) for n in (0, 1)]
        with pytest.raises(BulkWriteError) as refused:
            things.bulk_write([*deletes, wrong, DeleteOne({"station": "k", "_id": 3})], ordered=ordered)
        assert [e["index"] for e in refused.value.details["writeErrors"]] == [2]
        assert refused.value.details["nRemoved"] == 4 - len(left)
        assert [d["_id"] for d in stand["alpha"].find().sort("_id")] == left
