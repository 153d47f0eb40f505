"""The fence on a real mongod: which writes are refused, what is kept, and what survives concurrency."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from pymongo import MongoClient
from pymongo.errors import WriteError
from tests.integration.fences import FENCE_TIMEOUT, in_force, listed, nothing, refused

from foreshard.errors import FenceRefused, FenceTimedOut
from foreshard.model import ShardedCollection
from foreshard.stores.partition.fences.fence import MongoFence


def options(client: MongoClient, trips: ShardedCollection) -> dict:
    return next(iter(client[trips.database].list_collections(filter={"name": trips.collection})))["options"]


def test_a_fenced_key_is_refused_for_any_client_and_others_are_not(alpha, trips):
    fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
    fence.fence(["$odd key\u00e9", "b"])
    assert in_force(fence) == {"$odd key\u00e9", "b"}
    assert refused(alpha, trips, {"station": "b"})
    assert refused(alpha, trips, {"station": "$odd key\u00e9"})
    assert not refused(alpha, trips, {"station": "c"})
    assert not refused(alpha, trips, {"other": 1})
    fence.unfence(["b"])
    assert not refused(alpha, trips, {"station": "b"})
    assert in_force(fence) == listed(fence) == {"$odd key\u00e9"}


def test_an_update_that_brings_a_document_into_a_fenced_key_is_refused(alpha, trips):
    collection = alpha[trips.database][trips.collection]
    collection.insert_one({"_id": 1, "station": "a"})
    MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT).fence(["b"])
    with pytest.raises(WriteError, match="failed validation"):
        collection.update_one({"_id": 1}, {"$set": {"station": "b"}})


@pytest.mark.parametrize(
    ("level", "action", "enforced"), [("strict", "error", True), ("strict", "warn", False), ("off", "error", False)]
)
def test_the_apps_own_validator_is_kept_and_restored_when_the_list_empties(alpha, trips, level, action, enforced):
    own = {"$jsonSchema": {"bsonType": "object", "required": ["bikes"]}}
    alpha[trips.database].create_collection(trips.collection, validator=own, validationLevel=level, validationAction=action)
    before = options(alpha, trips)
    fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
    fence.fence(["a"])
    fence.fence(["b"])
    assert refused(alpha, trips, {"station": "a", "bikes": 1})
    assert refused(alpha, trips, {"station": "c"}) is enforced
    assert not refused(alpha, trips, {"station": "c", "bikes": 1})
    fence.unfence(["a"])
    fence.unfence(["b"])
    assert options(alpha, trips) == before


def test_a_moderate_validator_is_refused_in_one_line_and_left_as_it_was(alpha, trips):
    alpha[trips.database].create_collection(trips.collection, validator={"bikes": 1}, validationLevel="moderate")
    before = options(alpha, trips)
    with pytest.raises(FenceRefused, match="moderate"):
        MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT).fence(["a"])
    assert options(alpha, trips) == before
    assert listed(MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)) == frozenset()


def test_a_validator_set_by_the_app_over_a_fence_is_composed_with_it_by_repair(alpha, trips):
    fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
    fence.fence(["a"])
    alpha[trips.database].command("collMod", trips.collection, validator={"bikes": {"$exists": True}})
    assert in_force(fence) == frozenset()
    fence.repair()
    assert refused(alpha, trips, {"station": "a", "bikes": 1})
    assert refused(alpha, trips, {"station": "b"})
    fence.unfence(["a"])
    assert options(alpha, trips)["validator"] == {"bikes": {"$exists": True}}


def test_an_app_that_only_weakens_the_action_is_noticed(alpha, trips):
    fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
    fence.fence(["a"])
    alpha[trips.database].command("collMod", trips.collection, validationAction="warn")
    assert in_force(fence) == frozenset()
    fence.repair()
    assert in_force(fence) == {"a"}


def test_fencing_gives_up_cleanly_behind_an_open_transaction(alpha, trips):
    collection = alpha[trips.database][trips.collection]
    collection.insert_one({"_id": 1, "station": "a"})
    fence = MongoFence(alpha, trips, expected=nothing, timeout=timedelta(seconds=0.5))
    with alpha.start_session() as session, session.start_transaction():
        collection.update_one({"_id": 1}, {"$set": {"bikes": 1}}, session=session)
        with pytest.raises(FenceTimedOut, match="open transactions"):
            fence.fence(["a"])
    assert in_force(fence) == listed(fence) == frozenset()
    fence.fence(["a"])
    assert in_force(fence) == {"a"}


def test_processes_that_fence_and_unfence_at_once_lose_none_of_each_others_keys(alpha, trips):
    errors: list[Exception] = []

    def worker(number: int) -> None:
        fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
        try:
            for turn in range(5):
                fence.fence([f"k{number}.{turn}"])
                assert f"k{number}.{turn}" in in_force(fence)
                if turn % 2:
                    fence.unfence([f"k{number}.{turn}"])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    expected = {f"k{number}.{turn}" for number in range(6) for turn in (0, 2, 4)}
    fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
    assert in_force(fence) == listed(fence) == expected


def test_a_late_collmod_of_an_old_list_is_repaired_by_the_one_who_sent_it(alpha, trips, monkeypatch):
    slow, quick = (
        MongoFence(alpha, trips, expected=nothing, timeout=timedelta(seconds=0.3)),
        MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT),
    )
    impose, calls = slow.impose, []

    def late(*arguments):
        if not calls:
            calls.append(1)
            alpha["foreshard"]["fences"].update_one({"_id": trips.namespace}, [{"$set": {"until": "$$NOW"}}])
            quick.fence(["b"])
        return impose(*arguments)

    monkeypatch.setattr(slow, "impose", late)
    slow.fence(["a"])
    assert in_force(slow) == listed(slow) == {"a", "b"}


def test_a_lost_list_is_taken_from_the_validator(alpha, trips):
    MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT).fence(["a"])
    alpha["foreshard"]["fences"].delete_one({"_id": trips.namespace})
    fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
    fence.fence(["b"])
    assert in_force(fence) == listed(fence) == {"a", "b"}


def test_a_guard_that_raises_leaves_the_fence_as_it_was(alpha, trips):
    def forbid(session) -> None:
        raise RuntimeError("superseded")

    with pytest.raises(RuntimeError, match="superseded"):
        MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT, guard=forbid).fence(["a"])
    assert listed(MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)) == frozenset()
