"""The fence by slots on a real mongod: exactly the refused keys, and short answers to refused writes."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.errors import WriteError
from tests.integration.fences import FENCE_TIMEOUT, in_force, listed, nothing, refused

from foreshard.client.writing.write_errors import fenced
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeySpace, KeyType, slot_unit
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.bson_codec import key_value
from foreshard.stores.partition.fences.fence import MongoFence


def refusal(client: MongoClient, trips: ShardedCollection, document: dict) -> dict[str, Any]:
    """Return the details of a refused insert."""
    with pytest.raises(WriteError) as refused:
        client[trips.database][trips.collection].insert_one(document)
    return dict(refused.value.details or {})


def test_the_client_tells_the_fence_from_the_apps_own_rules(alpha, trips):
    own = {
        "bikes": {"$gte": 0},
        "$and": [{"bikes": {"$lt": 9}}, {"bikes": {"$lt": 8}}, {"bikes": {"$lt": 8}}, {"bikes": {"$ne": 7}}],
    }
    alpha[trips.database].create_collection(trips.collection, validator=own)
    assert fenced(refusal(alpha, trips, {"station": "free", "bikes": 7}), "station") is False
    fence, space = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT), KeySpace()
    names = [f"station {number}" for number in range(700)]
    fence.fence([slot_unit(space.slot_of("a")), slot_unit(space.slot_of("b"))])
    for keys in ([], names[:1], names[:400]):
        fence.fence(keys)
        assert fenced(refusal(alpha, trips, {"station": "a", "bikes": 1}), "station") is True
        assert fenced(refusal(alpha, trips, {"station": "free", "bikes": -1}), "station") is False
        assert all(fenced(refusal(alpha, trips, {"station": key, "bikes": 1}), "station") for key in keys[::50])
    fence.fence([slot_unit(slot) for slot in range(space.slots)], names[400:])
    assert fenced(refusal(alpha, trips, {"station": names[0], "bikes": 1}), "station") is True
    assert fenced(refusal(alpha, trips, {"station": names[500], "bikes": 7}), "station") is False


def answer(client: MongoClient, trips: ShardedCollection, document: dict) -> int:
    """Return the size of the server's answer to a refused insert, in bytes."""
    return len(bson.encode(refusal(client, trips, document)))


def test_the_answer_to_a_refused_write_stays_short_however_many_keys_have_moved(alpha, trips):
    space = KeySpace()
    units = [slot_unit(slot) for slot in range(0, space.slots, 2)]
    fenced, free = [], []
    for number in range(12_000):
        key = f"station {number}"
        (free if space.slot_of(key) % 2 else fenced).append(key)
    fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
    fence.fence([*units, *free[:5_000]], fenced[:100])
    assert refused(alpha, trips, {"station": fenced[100]})
    assert answer(alpha, trips, {"station": fenced[100]}) <= 2_048
    assert answer(alpha, trips, {"station": free[2_500]}) <= 2_048
    assert not refused(alpha, trips, {"station": fenced[99]})
    assert not refused(alpha, trips, {"station": free[5_000]})


@pytest.mark.parametrize("key_type", list(KeyType))
@pytest.mark.parametrize("slots", [2, 64])
def test_the_server_refuses_exactly_what_the_lists_refuse(alpha, unique_name, key_type, slots):
    trips = ShardedCollection(unique_name, "trips", "at.station", key_type=key_type)
    space = KeySpace(key_type, slots)
    texts = {
        KeyType.STRING: [f"é {n}" for n in range(600)],
        KeyType.INT: [str(n * n * n - 10**6) for n in range(600)],
        KeyType.OBJECT_ID: [f"{n * 7919:024x}" for n in range(600)],
        KeyType.UUID: [f"{n * 7919:08x}-0000-4000-8000-{n:012x}" for n in range(600)],
    }[key_type]
    here, elsewhere = texts[:300], texts[300:330]
    fence = MongoFence(alpha, trips, expected=lambda: FenceLists(space), timeout=FENCE_TIMEOUT)
    fence.fence(elsewhere)
    fence.fence([slot_unit(slot) for slot in range(0, slots, 2)], [*here, *elsewhere])
    lists = fence.in_force().lists
    assert lists == fence.listed()
    assert len(lists.here) > 128
    found = {key: refused(alpha, trips, {"at": {"station": key_value(key, key_type)}}) for key in texts}
    assert found == {key: lists.refuses(key) for key in texts}
    assert not any(refused(alpha, trips, document) for document in other_documents(key_type))


def other_documents(key_type: KeyType) -> list[dict[str, Any]]:
    """Documents without a key of the wanted type."""
    odd: list[Any] = [None, True, {"a": 1}, 0.5, bson.Binary(b"1"), bson.MinKey()]
    odd += ["text"] if key_type is not KeyType.STRING else [7]
    return [{}, {"at": 1}, *({"at": {"station": value}} for value in odd)]


def test_the_first_fence_begins_with_what_the_table_prescribes(alpha, trips):
    space = KeySpace(slots=4)
    prescribed = FenceLists(space, frozenset({0, 1}), frozenset(), frozenset())
    fence = MongoFence(alpha, trips, expected=lambda: prescribed, timeout=FENCE_TIMEOUT)
    fence.fence([slot_unit(2)])
    assert fence.in_force().lists.slots == {0, 1, 2}


def test_lists_of_an_older_version_are_read_and_rewritten(alpha, trips):
    marker = {"$comment": {"foreshard": {"revision": 3, "level": "strict", "action": "error", "validator": None}}}
    validator = {"$and": [{"station": {"$nin": ["a", "b"]}}, marker]}
    alpha[trips.database].create_collection(trips.collection, validator=validator)
    alpha["foreshard"]["fences"].insert_one({"_id": trips.namespace, "keys": ["a", "b"], "revision": 3, "holder": None})
    space = KeySpace(slots=4)
    prescribed = FenceLists(space, frozenset({space.slot_of("a")}))
    fence = MongoFence(alpha, trips, expected=lambda: prescribed, timeout=FENCE_TIMEOUT)
    assert in_force(fence) == listed(fence) == {"a", "b"}
    mark = fence.fence(["c"])
    assert mark.revision > 3
    assert "keys" not in alpha["foreshard"]["fences"].find_one({"_id": trips.namespace})
    assert fence.in_force().lists == fence.listed() == prescribed.fence(["a", "b", "c"])
