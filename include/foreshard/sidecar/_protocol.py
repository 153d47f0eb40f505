"""HTTP/1.1 on one connection. httptools (llhttp) parses requests; prepared answers are written at once.

Several rules keep a client from taking more than its share. Nothing more is read from a client that does not read its answers,
or whose request is in progress. Received bytes are parsed in pieces. Requests and durations are limited
(:mod:`foreshard.sidecar._limits`); a client that exceeds a limit gets a problem document, and its connection is closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from time import perf_counter
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from foreshard.sidecar import _limits as limits
from foreshard.sidecar._answers import CLOSE, CONTINUE, KEEP, Answer
from foreshard.sidecar._open_connections import OpenConnections
from foreshard.sidecar._problems import BadRequest, Problem, TooLarge
from foreshard.sidecar._requests import CarefulParser

PIECE_BYTES = limits.PIECE_BYTES
SAMPLED_EVERY = 16  # one in this many prepared answers is timed; its duration counts for all of them


class SidecarProtocol(asyncio.Protocol):
    """One connection. ``connections`` is the state that all connections share."""

    def __init__(self, connections: OpenConnections) -> None:
        self.shared = connections
        self.since = connections.tick  # when the last request was answered or the current one began
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._lookups, self._times = connections.lookups, connections.times
        self._careful = CarefulParser(self, connections.service.config.names, connections.service.config.token)
        self._parser = HttpRequestParser(self)
        self._feed = self._parser.feed_data
        self._url, self._body = b"", cast("bytearray | None", None)
        self._received = 0  # bytes of the incomplete request
        self._quick = False  # whether prepared answers may be written: HTTP/1.1, and no other request in progress
        self._steady = True  # whether received bytes may be parsed at once; otherwise they are held
        self.answered, self._others = 0, False
        self._busy = self._full = self._gone = self._closing = False
        self._held, self._queue = bytearray(), cast("deque[tuple[bytes, bytes, bytes, bool]]", deque())
        self._refusal: Problem | None = None
        self._broken_by: Exception | None = None  # ends the connection once the requests before it are answered

    # called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, or refuse it if there are too many."""
        self.transport = cast(asyncio.Transport, transport)
        self._write = self.transport.write
        self.transport.set_write_buffer_limits(high=limits.WRITE_AHEAD_BYTES)
        if not self.shared.add(self):
            self._refuse(Problem(503, "too-many-connections", "too many connections", "close some, or start another worker"))

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes, and answer."""
        if not self._steady or len(data) > PIECE_BYTES:
            self._hold(data)
            return
        times = self._times
        begun = perf_counter() if times.uncounted >= SAMPLED_EVERY else 0.0
        try:
            (self._feed if self._careful.is_known(data) else self._careful.feed)(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._broken(error)
        answered = self.answered
        if answered:
            self.answered = self._received = 0
            self.since = self.shared.tick
            times.uncounted += answered
            if begun:
                times.took_sampled(perf_counter() - begun)
        elif self._others:
            self._others = False
        else:
            self._unfinished(data)
        if self._careful.is_awaited:
            self._invite()

    def eof_received(self) -> bool:
        """The client has stopped sending. It may still wait for an answer."""
        self._gone = True
        return self._busy or bool(self._held)

    def pause_writing(self) -> None:
        """The client does not read its answers: read nothing more from it."""
        self._full, self._steady = True, False
        self.since = self.shared.tick
        self.transport.pause_reading()
        self.shared.stalls(self)

    def resume_writing(self) -> None:
        """The client reads its answers again."""
        self._full = False
        self.shared.flows(self)
        self._go_on()

    def connection_lost(self, _: Exception | None) -> None:
        """Release all resources, and the parser, which refers back to this object."""
        self._end()
        self.shared.remove(self)
        self._careful.close()
        del self._parser, self._feed

    # called by the parser

    def on_url(self, url: bytes) -> None:
        """A part of the target; usually all of it."""
        if self._url:
            url = self._url + url
            if len(url) > limits.MAXIMUM_TARGET_BYTES:
                self._refusal = TooLarge(414, "target-too-long", "target", limits.MAXIMUM_TARGET_BYTES)
                raise self._refusal
        self._url = url

    def on_body(self, part: bytes) -> None:
        """A part of a body."""
        if self._body is None:
            self._body = bytearray()
        self._refusal = self.shared.body_refused(len(self._body), len(part))
        if self._refusal is not None:
            raise self._refusal
        self._body += part

    def on_message_complete(self) -> None:
        """Answer a request whose headers are known."""
        self.complete(self._parser)

    def complete(self, parser: HttpRequestParser, refusal: Problem | None = None) -> None:
        """Answer a request, or queue it behind the one in progress, or refuse it."""
        if refusal is not None:
            self._refusal = refusal
            raise refusal
        if self._quick and self._body is None and parser.should_keep_alive() and parser.get_method() == b"GET":
            answer = self._lookups.lookup(self._url)
            if answer is not None:
                self._url = b""
                self.answered += 1
                self._write(answer)
                return
        if not self._closing:
            self._other(parser)

    def _hold(self, data: bytes) -> None:
        """Hold bytes that can't be parsed now. Discard those of a closing connection."""
        if self._closing:
            return
        self._held += data
        if self._steady:
            self._steady = False
            self.transport.pause_reading()
            self._go_on()

    def _go_on(self) -> None:
        """Parse held bytes, a few pieces at a time, then resume reading."""
        for _ in range(limits.PIECES_AT_ONCE):
            if not self._held or self._busy or self._full or self._closing:
                break
            piece = bytes(self._held[:PIECE_BYTES])
            del self._held[:PIECE_BYTES]
            self._steady = True
            self.data_received(piece)
            self._steady = False
        if self._busy or self._full or self._closing:
            return
        if self._held:
            self.shared.soon(self._go_on)
        elif self._gone:
            self._close()
        else:
            self._steady = True
            self.transport.resume_reading()

    def _unfinished(self, piece: bytes) -> None:
        """Check the limits of an incomplete request."""
        if self._busy or self._closing:
            return
        if not self._received:
            self.since = self.shared.tick
        self._received += len(piece)
        if self._body is None:
            if self._received > limits.MAXIMUM_HEADER_BYTES:
                self._refuse(TooLarge(431, "headers-too-large", "headers", limits.MAXIMUM_HEADER_BYTES))
        elif self._received > 2 * limits.MAXIMUM_BODY_BYTES:
            self._refuse(TooLarge(413, "body-too-large", "body", limits.MAXIMUM_BODY_BYTES))

    def _invite(self) -> None:
        """Let a client send the body that it holds back, once the requests before it are answered."""
        if not self._busy and not self._closing:
            self._careful.is_awaited = False
            self._write(CONTINUE)

    def _broken(self, error: Exception) -> None:
        """Handle bytes that are not HTTP, an exceeded limit, or a request for another protocol."""
        if isinstance(error, HttpParserUpgrade) or self._closing:
            return  # bytes after the last request of a connection are ignored
        cause = error.__context__ if isinstance(error.__context__, Exception) else None
        refusal = self._refusal or cause or BadRequest("invalid-http", f"the bytes are not an HTTP/1.1 request ({error})")
        if self._busy:
            self._broken_by = refusal
            self._held.clear()
            return
        self._refuse(refusal)

    # requests without a prepared answer

    def _other(self, parser: HttpRequestParser) -> None:
        modern, keep = parser.get_http_version() == "1.1", parser.should_keep_alive() and not parser.should_upgrade()
        self._queue.append((parser.get_method(), self._url, bytes(self._body or b""), keep))
        self._drop_body()
        self._url, self._received, self._others = b"", 0, True
        if not self._busy:
            self._work(modern)

    def _work(self, modern: bool) -> None:
        """Answer queued requests, until one takes a while."""
        while self._queue and not self._closing:
            method, url, body, keep = self._queue.popleft()
            answer = self.shared.endpoints.answer(method, url, body)
            if not isinstance(answer, Answer):
                self._busy, self._quick, self._steady = True, False, False
                self.since = self.shared.tick
                self.transport.pause_reading()
                self.shared.begin(self._wait(answer, keep, modern))
                return
            self._answer(answer, keep, modern, head_only=method == b"HEAD")
        self._quick = modern and not self._closing and not self.shared.leaving

    async def _wait(self, pending: Awaitable[Answer], keep: bool, modern: bool) -> None:
        answer = await pending
        self._busy = False
        if self._closing:
            return
        self._answer(answer, keep, modern)
        self._work(modern)
        if self._broken_by is not None and not self._busy and not self._closing:
            self._refuse(self._broken_by)
        if self._careful.is_awaited:
            self._invite()
        self._go_on()

    def _answer(self, answer: Answer, keep: bool, modern: bool, *, head_only: bool = False) -> None:
        self.since = self.shared.tick
        keep = keep and not self.shared.leaving
        connection = CLOSE if not keep else b"" if modern else KEEP
        self._write(answer.bytes(connection, head_only=head_only))
        if not keep:
            self._close()

    def _refuse(self, problem: Exception) -> None:
        self._write(self.shared.endpoints.refused(problem).bytes(CLOSE))
        self._close()

    def _close(self) -> None:
        """Let the client read its answers, then close. Discard further input."""
        self._end()
        self.since = self.shared.tick
        self.shared.soon(self._end_output)

    def _end(self) -> None:
        self._closing, self._quick, self._steady = True, False, False
        self._queue.clear()
        self._held.clear()
        self._drop_body()

    def _end_output(self) -> None:
        if self.transport.is_closing():
            return
        if self._gone or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self.transport.resume_reading()

    def _drop_body(self) -> None:
        if self._body is not None:
            self.shared.body_bytes -= len(self._body)
            self._body = None

    def overdue(self, tick: int) -> str:
        """Why the connection should end now; "" if it should not."""
        if self._busy and not self._full:
            return ""
        why, seconds = limits.patience(stalled=self._full, closing=self._closing, receiving=self._received > 0)
        return why if tick - self.since > seconds else ""

    def time_out(self) -> None:
        """Tell a slow client why its connection ends."""
        self._refuse(Problem(408, "too-slow", "the request took too long", f"send it within {limits.RECEIVE_SECONDS} s"))

    def leave(self) -> None:
        """Close, or make the next answer the last one if a request is in progress."""
        self._quick = False
        if self._steady and not self._received:
            self._close()
