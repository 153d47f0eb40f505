"""Requests that a web page could have made in a browser are refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.sidecar.conversation import Conversation, connections_of

from foreshard.sidecar import _requests

ROUTE = b"GET /v1/route/plain HTTP/1.1\r\n"
PATHS = [
    ROUTE,
    b"GET /v1/partitions HTTP/1.1\r\n",
    b"POST /v1/refresh HTTP/1.1\r\n",
    b"POST /v1/routes HTTP/1.1\r\ncontent-length: 2\r\n",
]


def said(service, *requests: bytes) -> list:
    """The answers to requests on one connection."""

    async def talk() -> list:
        conversation = Conversation(connections_of(service))
        await conversation.say(*requests)
        return conversation.answers()

    return asyncio.run(talk())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        (b"Host: evil.example:7788\r\n", "unknown-host"),
        (b"host: 127.0.0.1.evil.example\r\n", "unknown-host"),
        (b"Host: 127.0.0.1:7788\r\nOrigin: http://evil.example\r\n", "foreign-origin"),
        (b"Host: localhost:7788\r\noRiGiN: null\r\n", "foreign-origin"),
        (b"Host: localhost:7788\r\nOrigin: http://localhost:1234\r\n", "foreign-origin"),
    ],
)
def test_a_page_of_another_origin_is_refused_and_its_connection_is_closed(service, path, headers, problem) -> None:
    (answer,) = said(service, path + headers + b"\r\n" + (b"{}" if b"routes" in path else b""))
    assert (answer.status, answer.json()["type"]) == (403, f"urn:foreshard:problem:{problem}")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:7788", "[::1]:7788", "10.1.2.3", "localhost", "LOCALHOST:1", "sidecar:7788", "a.localhost"]
)
def test_addresses_localhost_and_names_without_a_dot_are_trusted(service, host) -> None:
    request = ROUTE + f"Host: {host}\r\n\r\n".encode()
    assert [answer.status for answer in said(service, request, request, request)] == [200, 200, 200]
    own = ROUTE + f"Host: {host}\r\nOrigin: http://{host}\r\n\r\n".encode()
    assert [answer.status for answer in said(service, own)] == [200]


def test_a_configured_name_is_trusted(service) -> None:
    request = ROUTE + b"Host: Sidecar.Internal:7788\r\n\r\n"
    assert [answer.status for answer in said(service, request)] == [403]
    service.config = replace(service.config, names=("sidecar.internal",))
    assert [answer.status for answer in said(service, request)] == [200]


def test_every_request_of_a_connection_is_checked(service) -> None:
    good = ROUTE + b"Host: localhost\r\n\r\n"
    for bad in (b"Host: localhost\r\nOrigin: http://evil.example\r\n\r\n", b"Host: evil.example\r\n\r\n", b"\r\n"):
        answers = said(service, good + good + ROUTE + bad)
        assert [answer.status for answer in answers][:2] == [200, 200]
        assert answers[2].status == (400 if bad == b"\r\n" else 403)
        assert len(answers) == 3


TOKEN = "t0ken-of-16-signs"
BEARER = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
WRONG = [
    b"Host: localhost\r\n",
    b"Host: localhost\r\nAuthorization: Bearer wrong\r\n",
    b"Host: localhost\r\nAuthorization: Basic " + TOKEN.encode() + b"\r\n",
    b"Host: localhost\r\nAuthorization: " + TOKEN.encode() + b"\r\n",
]


@pytest.fixture
def guarded(service):
    """A service that wants a token."""
    service.config = replace(service.config, token=TOKEN)
    return service


@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize("path", [*PATHS, b"GET /metrics HTTP/1.1\r\n", b"GET /readyz?x HTTP/1.1\r\n"])
def test_a_request_without_the_token_is_refused_where_the_sidecar_has_one(guarded, path, headers) -> None:
    (answer,) = said(guarded, path + headers + b"\r\n" + (b"{}" if b"routes" in path else b""))
    assert (answer.status, answer.json()["type"]) == (401, "urn:foreshard:problem:no-token")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.body.decode()


def test_every_request_with_the_token_is_answered(guarded) -> None:
    right = ROUTE + BEARER + b"\r\n"
    lower = right.replace(b"Authorization: Bearer", b"authorization: bearer")
    assert [answer.status for answer in said(guarded, right, right, lower, lower, right + right)] == [200] * 6


def test_probes_need_no_token_and_open_no_other_path(guarded) -> None:
    bare = b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = said(guarded, *[b"GET /readyz" + bare, b"GET /healthz" + bare] * 2, b"GET /v1/route/plain" + bare)
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 401]
    answers = said(guarded, ROUTE + BEARER + b"\r\n", b"GET /healthz" + bare, b"GET /v1/partitions" + bare)
    assert [answer.status for answer in answers] == [200, 200, 401]


@pytest.mark.parametrize(
    "headers",
    [
        BEARER + b"authorization: Bearer other\r\n",
        b"Host: localhost\r\nHost: localhost\r\n",
        b"Host: evil.example\r\nhost: localhost\r\n",
        b"Host: localhost\r\nHOST: evil.example\r\n",
        b"Host: localhost\r\nOrigin: http://evil.example\r\nOrigin: http://localhost\r\n",
    ],
)
def test_a_header_that_decides_about_trust_may_be_sent_only_once(service, headers) -> None:
    good = ROUTE + b"Host: localhost\r\n\r\n"
    answers = said(service, good, ROUTE + headers + b"\r\n")
    assert [answer.status for answer in answers] == [200, 400]
    assert answers[1].json()["type"] == "urn:foreshard:problem:repeated-header"
    assert answers[1].headers["connection"] == "close"


def test_the_headers_of_a_client_are_examined_once(service, monkeypatch) -> None:
    examined = []
    monkeypatch.setattr(_requests, "refused_headers", lambda *found, **_: examined.append(found))
    good = ROUTE + b"Host: localhost\r\nAccept: */*\r\n\r\n"
    post = b"POST /v1/routes HTTP/1.1\r\nHost: localhost\r\ncontent-length: 18\r\n\r\n"
    answers = said(service, good, good, good[:30], good[30:], good, post, b'{"keys":["plain"]}', good, good + good, good)
    assert [answer.status for answer in answers] == [200] * 9
    assert len(examined) == 5  # the first one, the one in two pieces, the one with a body, and the two in one piece
