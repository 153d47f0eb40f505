"""The app's own ``pymongo.timeout`` holds for every verb, and is not taken for a partition that does not answer."""

from __future__ import annotations

import time

import pymongo
import pytest
from pymongo.errors import PyMongoError

from foreshard.client import ClientOptions
from foreshard.errors import AmbiguousWrite, KeyInTransit

SLEEP = {"body": "function() { sleep(3000); return true; }", "args": [], "lang": "js"}
SLOW = {"$expr": {"$function": SLEEP}}
READS = {
    "find": lambda c: list(c.find(SLOW)),
    "find_one": lambda c: c.find_one({"station": "a", **SLOW}),
    "count": lambda c: c.count_documents(SLOW),
    "distinct": lambda c: c.distinct("n", SLOW),
    "aggregate": lambda c: list(c.aggregate([{"$match": {"n": 1}}, {"$set": {"x": {"$function": SLEEP}}}])),
}


@pytest.fixture
def client(make_client, answerer):
    for key, partition in zip("abc", ("alpha", "beta", "gamma"), strict=True):
        answerer.place(key, partition)
    return make_client(ClientOptions(deadline=5.0))


@pytest.fixture
def things(client, sharded):
    made = client[sharded.database][sharded.collection]
    made.insert_many([{"station": key, "n": 1} for key in "abc"])
    return made


@pytest.mark.parametrize("verb", READS)
def test_a_read_ends_at_the_apps_deadline_and_no_partition_counts_as_bad(things, client, monkeypatch, verb) -> None:
    avoided: list[str] = []
    monkeypatch.setattr(client._router, "avoid", avoided.append)
    begun = time.monotonic()
    with pytest.raises(PyMongoError) as late, pymongo.timeout(0.5):
        READS[verb](things)
    assert late.value.timeout
    assert time.monotonic() - begun < 2.0
    assert avoided == []


def test_a_write_to_a_fenced_key_ends_at_the_apps_deadline_and_is_not_applied(things, fences, stand) -> None:
    fences["alpha"].fence(["a"])
    begun = time.monotonic()
    with pytest.raises(KeyInTransit), pymongo.timeout(0.5):
        things.update_one({"station": "a"}, {"$set": {"n": 2}})
    assert time.monotonic() - begun < 2.0
    assert stand["alpha"].find_one({"station": "a"})["n"] == 1


def test_a_slow_write_that_ends_at_the_apps_deadline_is_in_doubt(things) -> None:
    with pytest.raises(AmbiguousWrite), pymongo.timeout(0.5):
        things.update_one({"station": "a", **SLOW}, {"$set": {"n": 2}})
