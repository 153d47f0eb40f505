"""Answers as bytes: status line, headers, body."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from foreshard.sidecar._problems import Problem

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"

_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE, KEEP = b"connection: close\r\n", b"connection: keep-alive\r\n"


class Answer:
    """One answer. ``extra`` holds complete header lines."""

    __slots__ = ("body", "content_type", "extra", "status")

    def __init__(self, body: bytes, content_type: bytes = JSON, status: int = 200, extra: bytes = b"") -> None:
        self.body, self.content_type, self.status, self.extra = body, content_type, status, extra

    def bytes(self, connection: bytes = b"", *, head_only: bool = False) -> bytes:
        """The answer on the wire. ``connection`` is a complete header line."""
        head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n"
        written = head % (_LINES[self.status], self.content_type, len(self.body), self.extra, connection)
        return written if head_only else written + self.body


def encode(value: Any) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def problem_answer(problem: Problem) -> Answer:
    """The answer with a problem document."""
    extra = b""
    if problem.status == 503:
        extra = b"retry-after: 1\r\n"
    elif problem.status == 401:
        extra = b"www-authenticate: Bearer\r\n"
    elif problem.allow:
        extra = b"allow: %b\r\n" % problem.allow.encode()
    return Answer(encode(problem.document()), PROBLEM_JSON, problem.status, extra)


LONGEST_PREPARED = 2_048
ROUTE_HEADS = tuple(
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n{"key":"' % (size + len('{"key":"'))
    for size in range(LONGEST_PREPARED)
)
"""The start of a route's answer up to the key, by the number of bytes that follow."""
