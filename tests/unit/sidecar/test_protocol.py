"""HTTP on one connection: order, pieces, limits, clients that are slow, that don't read, or that speak something else."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.sidecar.conftest import table_as
from tests.unit.sidecar.conversation import Conversation, Received, connections_of, read_answers, request

from foreshard.model import PartitionLoad, RequestKind
from foreshard.routing.decision import RouteRequest
from foreshard.sidecar import limits
from foreshard.sidecar.service import Costs


@pytest.fixture
def table():
    return table_as("packed")


def talk(service, *pieces: bytes, methods: tuple[str, ...] = (), **more) -> list[Received]:
    """What is answered to these pieces on one connection."""

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


def test_a_conversation_cut_at_every_byte_is_answered_alike(service):
    service.costs = Costs(0, 0)
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
def test_what_is_no_request_is_refused_behind_the_answers_before_it_and_the_connection_closed(service, bad, status, code):
    good, refused = talk(service, WRITE + bad)
    assert (good.status, good.json()["partition"]) == (200, "sf-1")
    assert (refused.status, refused.json()["type"]) == (status, f"urn:foreshard:problem:{code}")
    assert refused.headers["connection"] == "close"
    (alone,) = talk(service, bad, WRITE)
    assert alone == refused


def test_bytes_that_break_off_while_a_request_is_worked_on_are_refused_behind_its_answer(service):
    assert [a.status for a in talk(service, REFRESH + WRITE + b"nonsense\r\n\r\n" + WRITE)] == [200, 200, 400]


def test_all_bodies_together_are_limited_and_given_back(service, monkeypatch):
    monkeypatch.setattr(limits, "MAXIMUM_BODIES_BYTES", 3_000)

    async def crowd() -> None:
        connections = connections_of(service)
        begun = b"POST /v1/routes HTTP/1.1\r\ncontent-length: 5000\r\n\r\n" + b" " * 2_000
        first, second = Conversation(connections), Conversation(connections)
        await first.say(begun)
        await second.say(begun)
        assert [a.json()["type"] for a in second.answers()] == ["urn:foreshard:problem:busy"]
        first.transport.abort()
        assert connections.body_bytes == 0
        third = Conversation(connections)
        await third.say(request("POST", "/v1/routes", b'{"keys":["plain"]}' + b" " * 2_000))
        assert [a.status for a in third.answers()] == [200]
        assert connections.body_bytes == 0

    asyncio.run(crowd())


def test_a_client_that_takes_no_answers_is_read_no_more_and_loses_none(service):
    async def flood() -> None:
        connections = connections_of(service)
        conversation = Conversation(connections, takes=0)
        number = 0
        while conversation.transport.reading and number < 200:
            await conversation.say(WRITE * 50)
            number += 1
        assert number < 20
        assert len(conversation.transport.written) < 3 * limits.WRITE_AHEAD_BYTES
        conversation.protocol.data_received(WRITE * 500)
        before = len(conversation.transport.written)
        await asyncio.sleep(0)
        assert len(conversation.transport.written) == before
        conversation.transport.take_all()
        await conversation.settle()
        assert len(conversation.answers()) == number * 50 + 500
        assert conversation.transport.reading

    asyncio.run(flood())


def test_only_so_many_clients_may_leave_their_answers_untaken(service, monkeypatch):
    monkeypatch.setattr(limits, "MAXIMUM_STALLED", 3)

    async def flood() -> None:
        connections = connections_of(service)
        made = [Conversation(connections, takes=0) for _ in range(5)]
        for conversation in made:
            await conversation.say(*[WRITE * 50] * 10)
        assert [c.transport.aborted for c in made] == [True, True, False, False, False]
        assert len(connections) == 3
        assert connections.endpoints.figures.connections["stalled"] == 2

    asyncio.run(flood())


def test_who_is_slow_idle_or_stalled_is_let_go(service):
    async def wait() -> None:
        connections = connections_of(service)
        slow, idle, stalled, active = (Conversation(connections, takes=takes) for takes in (None, None, 0, None))
        await slow.say(b"GET /v1/route/pl")
        await stalled.say(*[WRITE * 50] * 10)
        for _ in range(limits.IDLE_SECONDS + 2):
            connections.tick += 1
            await active.say(WRITE)
            if connections.tick < limits.RECEIVE_SECONDS:
                await slow.say(b"a")
            await connections.look_around()
        assert [a.status for a in slow.answers()] == [408]
        assert slow.transport.is_closing()
        assert stalled.transport.aborted
        assert idle.transport.aborted
        assert not active.transport.is_closing()
        assert len(active.answers()) == limits.IDLE_SECONDS + 2
        assert dict(connections.endpoints.figures.connections) == {"accepted": 4, "slow": 1, "stalled": 1, "idle": 1}

    asyncio.run(wait())


def test_a_slow_trickle_of_bytes_does_not_keep_a_request_alive(service):
    async def trickle() -> None:
        connections = connections_of(service)
        slow = Conversation(connections)
        for _ in range(limits.RECEIVE_SECONDS + 2):
            connections.tick += 1
            if slow.transport.ended:
                break
            await slow.say(b"GET /v1/route/"[:14] if connections.tick == 1 else b"x")
            await connections.look_around()
        assert [a.status for a in slow.answers()] == [408]

    asyncio.run(trickle())


def test_connections_are_kept_or_closed_as_the_client_asks(service):
    modern, old = b"GET /healthz HTTP/1.1\r\n", b"GET /healthz HTTP/1.0\r\n"
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


def test_after_the_answer_that_closes_nothing_more_is_written_and_the_end_is_said(service):
    async def close() -> None:
        conversation = Conversation(connections_of(service))
        await conversation.say(WRITE, request("GET", "/v1/route/plain", None, "connection: close"), WRITE)
        assert len(conversation.answers()) == 2
        assert conversation.transport.ended
        assert conversation.protocol.eof_received() is False

    asyncio.run(close())


def test_a_head_request_has_no_body_and_others_say_what_is_allowed(service):
    head, get = talk(service, request("HEAD", "/v1/table") + request("GET", "/v1/table"), methods=("HEAD", "GET"))
    assert (head.status, head.headers["content-length"]) == (200, str(len(get.body)))
    (wrong,) = talk(service, request("DELETE", "/v1/table"))
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD")


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(service):
    body = b'{"keys":["plain"]}'
    head = b"POST /v1/routes HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert [a.status for a in talk(service, head, body)] == [100, 200]
    assert [a.status for a in talk(service, head + body)] == [200]


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


def test_one_connection_too_many_is_told_so(service):
    async def many() -> None:
        connections = connections_of(service, maximum=2)
        kept, other, late = (Conversation(connections) for _ in range(3))
        await kept.say(WRITE)
        await late.say(WRITE)
        assert [a.json()["type"] for a in late.answers()] == ["urn:foreshard:problem:too-many-connections"]
        assert [a.status for a in kept.answers()] == [200]
        assert not other.transport.is_closing()

    asyncio.run(many())


def test_leaving_answers_what_is_under_way_and_closes_the_rest(service):
    async def leave() -> None:
        going = asyncio.Event()

        async def refreshes() -> int:
            await going.wait()
            return 9

        connections = connections_of(service, refreshes=refreshes)
        idle, busy, reading = (Conversation(connections) for _ in range(3))
        busy.protocol.data_received(REFRESH)
        await reading.say(WRITE, WRITE[:20])
        leaving = asyncio.create_task(connections.leave(2.0))
        await asyncio.sleep(0.01)
        assert idle.transport.ended
        idle.transport.close()
        going.set()
        await reading.say(WRITE[20:])
        await asyncio.sleep(0.1)
        assert [a.headers.get("connection") for a in busy.answers()] == ["close"]
        assert [a.headers.get("connection") for a in reading.answers()] == [None, "close"]
        for conversation in (busy, reading):
            conversation.transport.close()
        await leaving
        assert len(connections) == 0

    asyncio.run(leave())


def test_a_failure_of_ours_is_a_problem_and_not_silence(service, monkeypatch, caplog):
    monkeypatch.setattr(service, "describe_partitions", lambda: 1 / 0)
    monkeypatch.setattr(service, "simple", lambda: 1 / 0)
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
def test_every_answer_is_the_decision_whatever_the_pieces(service, asked, size):
    service.costs = Costs(0, 0)  # what was sent before must not change the decision
    sent = b"".join(request("GET", f"/v1/route/{quote(key, safe='')}?op={kind}&from=San%20Jose") for key, kind in asked)
    answers = talk(service, *(sent[at : at + size] for at in range(0, len(sent), size)))
    for (key, kind), answer in zip(asked, answers, strict=True):
        if key == "lost":
            assert answer.status == 503
            continue
        document = answer.json()
        made, expected = service.route(RouteRequest(key, kind, "San Jose"))
        assert (document, document["reason_code"]) == (expected, made.code)


def test_what_is_answered_from_prepared_decisions_is_counted_and_weighs_on_the_partition(service, clock):
    async def ask_often() -> None:
        connections = connections_of(service)
        conversation = Conversation(connections)
        service.take_in(clock[0])
        before = service.book.pressure("sf-1", clock[0]).utilisation
        await conversation.say(*[WRITE * 25] * 40)
        service.settle()
        assert connections.endpoints.figures.routes["write", "primary", "write_primary"] == 1_000
        assert sum(connections.times.counts) == 1_000
        assert service.book.pressure("sf-1", clock[0]).utilisation > before + 10

    asyncio.run(ask_often())


def test_an_overload_that_a_report_brings_shows_in_the_next_prepared_answer(service, clock):
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


def test_answers_that_are_cut_short_are_not_mistaken_for_whole_ones():
    with pytest.raises((AssertionError, ValueError, KeyError)):
        read_answers(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc")
