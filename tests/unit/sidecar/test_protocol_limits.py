"""Limits on the memory, time and connections of one client, so that the others are served."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.sidecar.conftest import table_as
from tests.unit.sidecar.conversation import Conversation, connections_of, request

from foreshard.sidecar import _limits as limits

WRITE = request("GET", "/v1/route/plain?op=write")
REFRESH = request("POST", "/v1/refresh")


@pytest.fixture
def table():
    return table_as("packed")


def test_all_bodies_together_are_limited_and_released(service, monkeypatch):
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


def test_a_client_that_does_not_read_is_not_read_from_and_loses_no_answer(service):
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


def test_the_number_of_clients_that_do_not_read_is_limited(service, monkeypatch):
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


def test_slow_idle_and_stalled_clients_are_dropped(service):
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
            await connections.check_all()
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
            await connections.check_all()
        assert [a.status for a in slow.answers()] == [408]

    asyncio.run(trickle())


def test_a_connection_over_the_limit_is_refused(service):
    async def many() -> None:
        connections = connections_of(service, maximum=2)
        kept, other, late = (Conversation(connections) for _ in range(3))
        await kept.say(WRITE)
        await late.say(WRITE)
        assert [a.json()["type"] for a in late.answers()] == ["urn:foreshard:problem:too-many-connections"]
        assert [a.status for a in kept.answers()] == [200]
        assert not other.transport.is_closing()

    asyncio.run(many())


def test_a_shutdown_answers_requests_in_progress_and_closes_the_other_connections(service):
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
