"""Speaks to the sidecar's protocol in memory: bytes in, bytes out, and the calls to its transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from foreshard.sidecar._endpoints import Endpoints
from foreshard.sidecar._metrics import SidecarMetrics
from foreshard.sidecar._open_connections import OpenConnections
from foreshard.sidecar._protocol import SidecarProtocol


class Transport:
    """Records what is written. ``takes``: the number of bytes that the client reads before it stops reading."""

    def __init__(self, takes: int | None = None) -> None:
        self.written, self.takes, self.high = bytearray(), takes, 0
        self.reading, self.ended, self.closed, self.aborted = True, False, False, False
        self.protocol: Any = None

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        assert not self.ended
        assert isinstance(data, bytes)
        self.written += data
        if self.takes is not None and not self.protocol._full and len(self.written) - self.takes > self.high:
            self.protocol.pause_writing()

    def take_all(self) -> None:
        """Make the client read everything from now on."""
        self.takes = None
        self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True
        self.protocol.connection_lost(None)

    def abort(self) -> None:
        self.aborted = True
        self.protocol.connection_lost(None)


@dataclass(frozen=True)
class Received:
    """One answer, parsed from bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


async def refresh() -> int:
    return 8


def connections_of(service, *, refreshes: Callable[[], Any] = refresh, **more: Any) -> OpenConnections:
    """The server side, without sockets."""
    return OpenConnections(Endpoints(service, SidecarMetrics(service), refreshes), **more)


class Conversation:
    """One connection to ``connections``."""

    def __init__(self, connections: OpenConnections, takes: int | None = None) -> None:
        self.transport = Transport(takes)
        self.protocol = SidecarProtocol(connections)
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)

    async def say(self, *pieces: bytes) -> None:
        """Send pieces, each once the server reads."""
        for piece in pieces:
            for _ in range(10_000):
                if self.transport.reading or self.transport.is_closing():
                    break
                await asyncio.sleep(0)
            if not self.transport.is_closing():
                self.protocol.data_received(piece)
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is in progress."""
        for number in range(10_000):
            await asyncio.sleep(0)
            if number > 8 and not self.protocol._held and not self.protocol._busy:
                break

    def answers(self, methods: Sequence[str] = ()) -> list[Received]:
        """All answers. Every byte must belong to one."""
        return read_answers(bytes(self.transport.written), methods)


def read_answers(data: bytes, methods: Sequence[str] = ()) -> list[Received]:
    """Split a stream into answers. Raise if it is not a sequence of complete answers."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines[1:])
        assert len(headers) == len(lines) - 1
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        length = 0 if status == "100" or method == "HEAD" else int(headers["content-length"])
        assert len(data) >= length
        found.append(Received(int(status), headers, data[:length]))
        data = data[length:]
    return found


def request(method: str, target: str | bytes, body: bytes | None = None, *headers: str) -> bytes:
    """The bytes of a request."""
    path = target if isinstance(target, bytes) else target.encode()
    lines = [f"{method} ".encode() + path + b" HTTP/1.1", b"host: sidecar", *(header.encode() for header in headers)]
    if body is not None:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + (body or b"")


def ask(
    service, method: str, target: str | bytes, *, content: bytes | None = None, document: Any = None, refreshes=refresh
) -> Received:
    """Send one request as the second one of a connection, so that a prepared answer can serve it."""
    body = content if document is None else json.dumps(document).encode()

    async def twice() -> list[Received]:
        conversation = Conversation(connections_of(service, refreshes=refreshes))
        await conversation.say(request("GET", "/healthz"), request(method, target, body))
        return conversation.answers(["GET", method])

    _, answer = asyncio.run(twice())
    return answer
