"""The HTTP interface, from bytes to bytes: answers, refusals, problem documents, metrics."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.sidecar.conftest import table_as
from tests.unit.sidecar.conversation import Conversation, ask, connections_of, request

from foreshard.sidecar._problems import Problem


@pytest.fixture(params=["rows", "packed", "changed"])
def table(request):
    """The answers must be the same for every form of the table."""
    return table_as(request.param)


def raw(service, path: bytes, query: bytes = b"", method: str = "GET") -> tuple[int, dict]:
    """Request a route; return the answer document."""
    answer = ask(service, method, path + (b"?" + query if query else b""))
    return answer.status, answer.json()


def test_an_answer_has_the_partition_the_role_and_the_reason(service):
    answer = ask(service, "GET", "/v1/route/plain?op=write&from=San%20Jose")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "key": "plain",
        "partition": "sf-1",
        "location": "San Francisco",
        "role": "primary",
        "epoch": 2,
        "table_version": 7,
        "reason": "writes go to the primary copy on sf-1",
        "reason_code": "write_primary",
        "uri": "mongodb://one:1,two:2/?replicaSet=sf-1&appName=x",
    }


def test_a_read_is_sent_to_the_nearest_fresh_copy(service):
    answer = ask(service, "GET", "/v1/route/hot?op=read&from=San+Jose&explain=1").json()
    assert (answer["partition"], answer["role"], answer["epoch"]) == ("sj-1", "shadow", 3)
    assert answer["reason_code"] == "nearest_with_room"
    assert [c["partition"] for c in answer["considered"]] == ["sf-1", "sj-1"]
    assert answer["considered"][1]["staleness_s"] == 0.5
    stale = ask(service, "GET", "/v1/route/hot?from=San+Jose&max_staleness_ms=400").json()
    assert (stale["partition"], stale["reason_code"]) == ("sf-1", "nearer_stale")


@pytest.mark.parametrize(
    "key", ["a/b", "a//b/", "100%", "%2F", "Zürich 日本 🚲", "a?b#c&d=e", "..", "../v1/table", " ", "\n\t", "+"]
)
def test_keys_may_have_any_characters(service, key):
    status, answer = raw(service, b"/v1/route/" + quote(key, safe="").encode())
    assert (status, answer["key"]) == (200, key)


def test_a_key_may_have_unescaped_slashes(service):
    assert raw(service, b"/v1/route/a/b//c/")[1]["key"] == "a/b//c/"


@given(
    st.text(min_size=1, max_size=50).filter(
        lambda k: "\0" not in k and k[0] != "\x1f" and k.encode("utf-8", "ignore").decode() == k
    )
)
@settings(max_examples=60)
def test_every_valid_key_comes_back_as_it_was_sent(key):
    from foreshard.sidecar._requests import parse_key

    assert parse_key(quote(key, safe="").encode()) == key


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        (b"", b"", "empty-key"),
        (b"x" * 10_240, b"", "key-too-long"),
        (quote("日" * 1_400).encode(), b"", "key-too-long"),
        (b"a%00b", b"", "invalid-key"),
        (b"%ff%fe", b"", "invalid-key"),
        (b"%ED%A0%80", b"", "invalid-key"),
        (b"plain", b"op=delete", "unknown-op"),
        (b"plain", b"op=", "unknown-op"),
        (b"plain", b"op=read&op=write", "repeated-parameter"),
        (b"plain", b"max_stalenes_ms=1", "unknown-parameter"),
        (b"plain", b"max_staleness_ms=-1", "invalid-staleness"),
        (b"plain", b"max_staleness_ms=nan", "invalid-staleness"),
        (b"plain", b"max_staleness_ms=soon", "invalid-staleness"),
        (b"plain", b"from=%ff", "invalid-query"),
        (b"plain", b"from=" + b"x" * 300, "invalid-location"),
        (b"plain", b"explain=maybe", "invalid-explain"),
        (b"plain", b"&".join(b"a%d=1" % n for n in range(100)), "invalid-query"),
    ],
)
def test_an_invalid_request_is_refused_with_a_problem_document(service, path, query, code):
    status, problem = raw(service, b"/v1/route/" + path, query)
    assert status == problem["status"] == 400
    assert problem["type"] == f"urn:foreshard:problem:{code}"
    assert problem["title"]
    assert 0 < len(problem["detail"]) < 500


def test_a_wrong_method_or_path_is_refused_with_a_problem_document(service):
    assert raw(service, b"/v1/route/plain", method="POST")[0] == 405
    for method, path, status in (("GET", "/v2/route/plain", 404), ("GET", "/v1/routes", 405), ("DELETE", "/v1/table", 405)):
        answer = ask(service, method, path)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status


def test_a_batch_is_answered_in_order_from_one_table(service):
    keys = ["plain", "hot", "nobody listed this", "plain"]
    answer = ask(service, "POST", "/v1/routes", document={"keys": keys, "op": "write", "from": "San Jose"}).json()
    assert answer["table_version"] == 7
    assert [a["key"] for a in answer["routes"]] == keys
    assert [a["epoch"] for a in answer["routes"]] == [2, 3, 1, 2]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid-body"),
        (b"[" * 100_000, 400, "invalid-body"),
        (b"[]", 400, "invalid-body"),
        (b'{"keys": "plain"}', 400, "invalid-body"),
        (b'{"keys": ["plain", 7]}', 400, "invalid-key"),
        (b'{"keys": ["plain", ""]}', 400, "empty-key"),
        (b'{"keys": ["\\ud800"]}', 400, "invalid-key"),
        (b'{"keys": ["a\\u0000b"]}', 400, "invalid-key"),
        (b'{"keys": ["plain"], "op": ["read"]}', 400, "unknown-op"),
        (b'{"keys": ["plain"], "form": "x"}', 400, "unknown-parameter"),
        (b'{"keys": ["plain"], "from": 7}', 400, "invalid-location"),
        (b'{"keys": ["plain"], "max_staleness_ms": true}', 400, "invalid-staleness"),
        (b'{"keys": ["plain"], "max_staleness_ms": "5"}', 400, "invalid-staleness"),
        (b'{"keys": ["plain"], "explain": 0}', 400, "invalid-explain"),
        (json.dumps({"keys": ["k"] * 10_001}).encode(), 413, "too-many-keys"),
        (b'{"keys": ["' + b"x" * 17_000_000 + b'"]}', 413, "body-too-large"),
        (b"\xff", 400, "invalid-body"),
    ],
)
def test_an_invalid_batch_is_refused(service, body, status, code):
    answer = ask(service, "POST", "/v1/routes", content=body)
    assert (answer.status, answer.json()["type"]) == (status, f"urn:foreshard:problem:{code}")


def test_ten_thousand_keys_are_routed_at_once(service):
    answer = ask(service, "POST", "/v1/routes", document={"keys": [f"k{n}" for n in range(10_000)]})
    assert len(answer.json()["routes"]) == 10_000


def test_a_refusal_in_a_batch_names_the_key_by_its_number(service):
    assert (
        ask(service, "POST", "/v1/routes", document={"keys": ["a", "b", ""]})
        .json()["detail"]
        .startswith("key number 2 is empty")
    )


def test_a_key_on_an_unregistered_partition_is_reported_as_such(service):
    status, problem = raw(service, b"/v1/route/lost", b"op=write")
    assert status == 503
    assert "unknown partition 'gone'" in problem["detail"]


def test_without_a_table_the_sidecar_is_healthy_but_not_ready(empty_service):
    assert ask(empty_service, "GET", "/healthz").status == 200
    for method, path, more in (
        ("GET", "/readyz", {}),
        ("GET", "/v1/route/plain", {}),
        ("GET", "/v1/table", {}),
        ("POST", "/v1/routes", {"document": {"keys": ["a"]}}),
    ):
        answer = ask(empty_service, method, path, **more)
        assert (answer.status, answer.json()["type"]) == (503, "urn:foreshard:problem:no-table")


def test_the_table_and_its_age_are_shown(service, clock):
    clock[0] += 30
    answer = ask(service, "GET", "/v1/table").json()
    assert (answer["version"], answer["keys"], answer["age_seconds"], answer["identity"]) == (7, 3, 30.0, "one")
    assert sum(answer["slots"].values()) == 4096
    assert set(answer["slots"]) == {"sf-1", "sj-1"}
    assert answer["key_type"] == "string"
    assert ask(service, "GET", "/readyz").status == 200


def test_a_table_that_was_not_confirmed_for_long_is_not_ready(service, clock):
    clock[0] += service.config.stale_after + 1
    answer = ask(service, "GET", "/readyz")
    assert (answer.status, answer.json()["type"]) == (503, "urn:foreshard:problem:stale-table")
    service.confirm(clock[0])
    assert ask(service, "GET", "/readyz").json()["age_seconds"] == 0.0
    assert ask(service, "GET", "/v1/route/plain").status == 200


def test_partitions_are_shown_with_their_loads_and_without_credentials(service):
    answer = ask(service, "GET", "/v1/partitions")
    assert "secret" not in answer.text
    first = answer.json()["partitions"][0]
    assert (first["partition"], first["location"], first["utilisation"]) == ("sf-1", "San Francisco", 0.2)
    assert first["uri"] == "mongodb://one:1,two:2/?replicaSet=sf-1&appName=x"


def test_a_refresh_returns_its_version_and_a_failed_one_is_a_problem(service):
    assert ask(service, "POST", "/v1/refresh").json() == {"table_version": 8}

    async def fails() -> int:
        raise Problem(503, "refresh-failed", "the table could not be refreshed", "start it")

    answer = ask(service, "POST", "/v1/refresh", refreshes=fails)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_figures_count_routes_refusals_and_ages(service, clock):
    clock[0] += 3

    async def talk() -> str:
        connections = connections_of(service)
        connections.endpoints.figures.refused_files = 1
        conversation = Conversation(connections)
        for target in ("/v1/route/plain?op=write", "/v1/route/plain?op=write", "/v1/route/plain?op=eat"):
            await conversation.say(request("GET", target))
        await conversation.say(request("POST", "/v1/refresh"), request("GET", "/metrics"))
        return conversation.answers()[-1].text

    figures = dict(line.rsplit(" ", 1) for line in asyncio.run(talk()).splitlines() if not line.startswith("#"))
    assert figures['foreshard_sidecar_requests_total{op="write",reason="write_primary",role="primary"}'] == "2.0"
    assert figures['foreshard_sidecar_problems_total{code="unknown-op",status="400"}'] == "1.0"
    assert figures['foreshard_sidecar_fence_refreshes_total{result="done"}'] == "1.0"
    assert figures['foreshard_sidecar_request_seconds_count{endpoint="route"}'] == "2.0"
    assert figures["foreshard_sidecar_table_version"] == "7.0"
    assert figures["foreshard_sidecar_table_age_seconds"] == "3.0"
    assert figures["foreshard_sidecar_refused_files_total"] == "1.0"
    assert figures['foreshard_sidecar_load_age_seconds{partition="sf-1"}'] == "4.0"
    assert figures["foreshard_sidecar_open_connections"] == "1.0"
