"""Routes of keys that are integers, ObjectIds or UUIDs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.unit.sidecar.conftest import RULE, table_as
from tests.unit.sidecar.conversation import ask

from foreshard.model import Placement
from foreshard.model.key_space import KeySpace, KeyType
from foreshard.routing.packed import PackedPlacements, pack
from foreshard.routing.slots import first_slots

HEX, DASHED = "64b00000000000000000000a", "0d54a85f-02c9-4b59-a5c0-a4a6bbd4be26"
KEYS = {KeyType.INT: ("5", "-7"), KeyType.OBJECT_ID: (HEX, HEX[:-1] + "b"), KeyType.UUID: (DASHED, DASHED[:-1] + "7")}


@pytest.fixture(params=list(KEYS))
def key_type(request) -> KeyType:
    return request.param


@pytest.fixture(params=["rows", "packed"])
def table(request, key_type):
    """The first key is listed on sj-1; the second one is where its slot is."""
    slots = first_slots(KeySpace(key_type), {"sf-1": 1.0})
    rows = {KEYS[key_type][0]: Placement(KEYS[key_type][0], "sj-1", (), 4)}
    placements = rows if request.param == "rows" else PackedPlacements(pack(rows.values(), iter([1, 2, 3])))
    return replace(table_as("rows"), placements=placements, slots=slots)


def test_listed_and_unlisted_keys_are_routed_one_by_one_and_together(service, key_type) -> None:
    listed, unlisted = KEYS[key_type]
    for _ in range(2):
        for key, partition in ((listed, "sj-1"), (unlisted, "sf-1"), (listed.upper(), "sj-1")):
            answer = ask(service, "GET", f"/v1/route/{key}?op=write").json()
            assert (answer["key"], answer["partition"]) == (key.lower(), partition)
    body = json.dumps({"keys": [listed.upper(), unlisted], "op": "write"}).encode()
    routes = ask(service, "POST", "/v1/routes", content=body).json()["routes"]
    assert [(r["key"], r["partition"]) for r in routes] == [(listed, "sj-1"), (unlisted, "sf-1")]


def test_a_text_that_is_no_key_of_the_type_is_refused_in_one_line(service) -> None:
    for _ in range(2):
        answer = ask(service, "GET", "/v1/route/five")
        assert answer.status == 400
        assert answer.json()["type"] == "urn:foreshard:problem:invalid-key"
        assert answer.json()["detail"].startswith("the key is not a")
    batch = ask(service, "POST", "/v1/routes", content=b'{"keys": ["five"]}')
    assert batch.status == 400
    assert batch.json()["detail"].startswith("key number 0 is not a")


@pytest.mark.parametrize("table", [replace(table_as("rows"), slots=RULE)], ids=["strings"])
def test_the_mark_of_slots_is_refused(service) -> None:
    answer = ask(service, "GET", "/v1/route/%1f5")
    assert (answer.status, "U+001F" in answer.json()["detail"]) == (400, True)
    assert ask(service, "POST", "/v1/routes", content=b'{"keys": ["\\u001f5"]}').status == 400
