"""HTTP on one connection: order, pieces, limits; slow clients, clients that don't read, and other protocols."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sidecar_config import CONFIG
from tests.unit.sidecar.conftest import table_as
from tests.unit.sidecar.conversation import Conversation, Received, connections_of, read_answers, request

from foreshard.model import PartitionLoad, RequestKind
from foreshard.routing.decision import RouteRequest

FREE = replace(CONFIG, read_cost=0.0, write_cost=0.0)
"""Requests that add no load."""


@pytest.fixture
def table():
    return table_as("packed")


def talk(service, *pieces: bytes, methods: tuple[str, ...] = (), **more) -> list[Received]:
    """Send these pieces on one connection; return the answers."""

    async def once() -> list[Received]:
        conversation = Conversation(connections_of(service, **more))
        await conversation.say(*pieces)
        return conversation.answers(methods)

    return asyncio.run(once())


WRITE = request("GET", "/v1/route/plain?op=write")
BATCH = request("POST", "/v1/routes", json.dumps({"keys": ["plain", "hot", "new"] * 200, "op": "write"}).encode())
REFRESH = request("POST", "/v1/refresh")


def test_pipelined_requests_are_answered_in_their_order(service):
    keys = [f"k{n}" for n in range(60)]
    sent = b"".join(request("GET", f"/v1/route/{key}") + (REFRESH if n % 20 == 7 else b"") for n, key in enumerate(keys))
    answers = [answer.json() for answer in talk(service, sent)]
    assert [a["key"] for a in answers if "key" in a] == keys
    assert [n for n, a in enumerate(answers) if a == {"table_version": 8}] == [8, 29, 50]


def test_the_answers_do_not_depend_on_how_the_bytes_are_cut(service):
    service.config = FREE
    sent = WRITE + request("GET", "/v1/route/a%2Fb?from=x") + BATCH + REFRESH + request("GET", "/v1/route/") + WRITE
    whole = talk(service, sent)
    assert [a.status for a in whole] == [200, 200, 200, 200, 400, 200]
    for cut in range(1, len(sent)):
        if cut > 1500 and cut % 97:
            continue
        assert talk(service, sent[:cut], sent[cut:]) == whole, cut
    assert talk(service, *(sent[at : at + 1] for at in range(len(sent)))) == whole


@pytest.mark.parametrize(
    ("bad", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid-http"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid-http"),
        (b"GET /v1/route/a b HTTP/1.1\r\n\r\n", 400, "invalid-http"),
        (b"GET /v1/route/\xff HTTP/1.1\r\n\r\n", 400, "invalid-http"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "invalid-http"),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400, "invalid-http"),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid-http"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400, "invalid-http"),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", 414, "target-too-long"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 60_000, 431, "headers-too-large"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000, 431, "headers-too-large"),
        (b"POST /v1/routes HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 17_000_000, 413, "body-too-large"),
        (
            b"POST /v1/routes HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 300,
            413,
            "body-too-large",
        ),
    ],
)
def test_invalid_bytes_are_refused_after_the_earlier_answers_and_close_the_connection(service, bad, status, code):
    good, refused = talk(service, WRITE + bad)
    assert (good.status, good.json()["partition"]) == (200, "sf-1")
    assert (refused.status, refused.json()["type"]) == (status, f"urn:foreshard:problem:{code}")
    assert refused.headers["connection"] == "close"
    (alone,) = talk(service, bad, WRITE)
    assert alone == refused


def test_invalid_bytes_behind_a_pending_request_are_refused_after_its_answer(service):
    assert [a.status for a in talk(service, REFRESH + WRITE + b"nonsense\r\n\r\n" + WRITE)] == [200, 200, 400]


def test_connections_are_kept_or_closed_as_the_client_asks(service):
    modern, old = b"GET /healthz HTTP/1.1\r\nhost: x\r\n", b"GET /healthz HTTP/1.0\r\n"
    for sent, connection in (
        (modern + b"\r\n", None),
        (modern + b"Connection: close\r\n\r\n", "close"),
        (old + b"\r\n", "close"),
        (old + b"Connection: keep-alive\r\n\r\n", "keep-alive"),
        (modern + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "close"),
    ):
        first, *more = talk(service, sent + sent)
        assert (first.status, first.headers.get("connection")) == (200, connection)
        assert len(more) == (connection != "close")


def test_nothing_is_written_after_the_last_answer_of_a_connection(service):
    async def close() -> None:
        conversation = Conversation(connections_of(service))
        await conversation.say(WRITE, request("GET", "/v1/route/plain", None, "connection: close"), WRITE)
        assert len(conversation.answers()) == 2
        assert conversation.transport.ended
        assert conversation.protocol.eof_received() is False

    asyncio.run(close())


def test_a_head_request_has_no_body_and_other_methods_list_the_allowed_ones(service):
    head, get = talk(service, request("HEAD", "/v1/table") + request("GET", "/v1/table"), methods=("HEAD", "GET"))
    assert (head.status, head.headers["content-length"]) == (200, str(len(get.body)))
    (wrong,) = talk(service, request("DELETE", "/v1/table"))
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD")


def test_a_client_that_expects_100_continue_gets_it(service):
    body = b'{"keys":["plain"]}'
    head = b"POST /v1/routes HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert [a.status for a in talk(service, head, body)] == [100, 200]
    assert [a.status for a in talk(service, head + body)] == [200]


@pytest.mark.parametrize("cut", [5, 40, 70, -20, -3, -2, -1])
def test_an_expectation_that_is_split_over_packets_is_answered(service, cut):
    body = b'{"keys":["plain"]}'
    head = b"POST /v1/routes HTTP/1.1\r\nhost: x\r\nExpect: 100-Continue\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert [a.status for a in talk(service, head[:cut], head[cut:], body)] == [100, 200]
    every = [head[at : at + 1] for at in range(len(head))]
    assert [a.status for a in talk(service, *every, body)] == [100, 200]
    assert [a.status for a in talk(service, WRITE + head, body)] == [200, 100, 200]


def test_a_body_that_is_too_large_or_not_trusted_is_refused_instead_of_awaited(service):
    head = b"POST /v1/routes HTTP/1.1\r\nhost: %b\r\nexpect: 100-continue\r\ncontent-length: %b\r\n\r\n"
    for length in (b"16777217", b"999999999999999999", b"0" * 9_000 + b"16777217"):
        assert [a.status for a in talk(service, head % (b"x", length))] == [413]
    assert [a.status for a in talk(service, head % (b"x", b"9" * 40))] == [400]
    assert [a.status for a in talk(service, head % (b"evil.example", b"2"))] == [403]
    assert [a.status for a in talk(service, head % (b"x", b"16777216"))] == [100]


def test_a_proxys_absolute_target_and_a_body_behind_a_get_are_understood(service):
    absolute = request("GET", "http://sidecar:7788/v1/route/plain?op=write")
    assert talk(service, absolute + WRITE)[0].body == talk(service, WRITE)[0].body
    assert [a.status for a in talk(service, WRITE + request("GET", "/v1/route/plain", b"body") + WRITE)] == [200, 200, 200]


def test_a_half_closed_client_still_gets_its_answer(service):
    async def half() -> None:
        conversation = Conversation(connections_of(service))
        conversation.protocol.data_received(REFRESH + WRITE)
        assert conversation.protocol.eof_received() is True
        await conversation.settle()
        assert [a.status for a in conversation.answers()] == [200, 200]
        assert conversation.transport.closed

    asyncio.run(half())


def test_an_internal_error_is_answered_as_a_problem(service, monkeypatch, caplog):
    monkeypatch.setattr(service, "describe_partitions", lambda: 1 / 0)
    monkeypatch.setattr(service, "prepare", lambda: 1 / 0)
    broken, after = talk(service, request("GET", "/v1/partitions") + WRITE)
    assert (broken.status, broken.json()["type"], after.status) == (500, "urn:foreshard:problem:internal", 500)
    assert "ZeroDivisionError" in caplog.text


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["plain", "hot", "lost", "new", "ü", "a/b", 'say "x"', "a\\b"]), st.sampled_from(RequestKind)
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 400),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_answer_equals_the_decision_however_the_bytes_are_cut(service, asked, size):
    service.config = FREE  # earlier requests must not change the decision
    sent = b"".join(request("GET", f"/v1/route/{quote(key, safe='')}?op={kind}&from=San%20Jose") for key, kind in asked)
    answers = talk(service, *(sent[at : at + size] for at in range(0, len(sent), size)))
    for (key, kind), answer in zip(asked, answers, strict=True):
        if key == "lost":
            assert answer.status == 503
            continue
        document = answer.json()
        made, expected = service.route(RouteRequest(key, kind, "San Jose"))
        assert (document, document["reason_code"]) == (expected, made.code)


def test_prepared_answers_are_counted_and_add_to_the_load(service, clock):
    async def ask_often() -> None:
        connections = connections_of(service)
        conversation = Conversation(connections)
        service.apply_reports(clock[0])
        before = service.book.pressure("sf-1", clock[0]).utilisation
        await conversation.say(*[WRITE * 25] * 40)
        service.expire_prepared()
        assert connections.endpoints.figures.routes["write", "primary", "write_primary"] == 1_000
        connections.times.count_rest()
        assert sum(connections.times.counts) == 1_000
        assert service.book.pressure("sf-1", clock[0]).utilisation > before + 10

    asyncio.run(ask_often())


def test_a_reported_overload_shows_in_the_next_prepared_answer(service, clock):
    async def report() -> list[str]:
        conversation = Conversation(connections_of(service))
        await conversation.say(WRITE, WRITE)
        service.install_loads([PartitionLoad("sf-1", 20.0, True, datetime.fromtimestamp(clock[0], UTC))])
        await conversation.say(WRITE)
        service.install_loads([PartitionLoad("sf-1", 20.0, False, datetime.fromtimestamp(clock[0] + 1, UTC))])
        await conversation.say(WRITE)
        return [a.json()["reason_code"] for a in conversation.answers()]

    assert asyncio.run(report()) == [
        "write_primary", "write_primary", "write_primary_overloaded", "write_primary_unreachable",
    ]  # fmt: skip


def test_truncated_answers_are_not_taken_for_complete_ones():
    with pytest.raises((AssertionError, ValueError, KeyError)):
        read_answers(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc")
