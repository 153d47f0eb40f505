"""The fuzz targets. Each takes bytes, and raises if the sidecar fails or gives a wrong answer.

``protocol``: bytes as a client sends them. The answers must be complete and independent of how the bytes are cut, and each
route must equal the decision of :meth:`RouteService.route`. ``requests``: well-formed requests made from the bytes, with known
answers. ``image`` and ``overlay``: saved tables with corrected checksums, so that the code behind the checks is reached.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from tests.sidecar_config import CONFIG
from tests.slots import slot_map
from tests.unit.sidecar.conversation import Conversation, Received, connections_of, read_answers
from xxhash import xxh3_64_digest, xxh3_64_intdigest, xxh3_128

from foreshard.errors import CorruptRoutingFile, ForeshardError
from foreshard.model import Location, Partition, Placement, RequestKind, RoutingTable
from foreshard.ports.routing_file import SavedRouting
from foreshard.routing.decision import RouteRequest
from foreshard.routing.image import HEADER, image_parts
from foreshard.routing.packed import PackedPlacements, pack
from foreshard.sidecar import _limits as limits
from foreshard.sidecar._problems import Problem
from foreshard.sidecar._requests import parse_batch, parse_key
from foreshard.sidecar._service import RouteService
from foreshard.stores.files.routing_description import description_of
from foreshard.stores.files.routing_file import FILES, read_routing
from foreshard.stores.files.routing_overlay import Overlay, checksum_line, read_overlay, write_overlay

NOW = 1_700_000_000.0
PARTITIONS = tuple(Partition(f"p-{n}", "San Jose", 10.0, f"mongodb://127.0.0.1:{n}/") for n in range(4))
LOCATIONS = (Location("San Jose", 37.336, -121.890),)
ROWS = (
    *(Placement(f"k{n}", f"p-{n % 4}", (), n + 1) for n in range(40)),
    Placement("hot", "p-0", ("p-1",), 2_000),
    Placement("lost", "gone", (), 1),
    Placement("日本/🚲", "p-3", (), 7),
    Placement('say "x"\\', "p-2", (), 8),
)
RULE = slot_map(("p-0", "p-3"), (1.0, 2.0))


def service_of(rows: Sequence[Placement] = ROWS) -> RouteService:
    """A service whose answers don't depend on earlier requests."""
    table = RoutingTable(7, PackedPlacements(pack(rows[1:], count(5)), {rows[0].key: rows[0]}), RULE, datetime.now(UTC))
    service = RouteService(replace(CONFIG, read_cost=0.0, write_cost=0.0), Random(1), lambda: NOW)
    service.install_registry(PARTITIONS, LOCATIONS)
    service.install_table(table, "fuzzed", "file", NOW)
    return service


SERVICE = service_of()
LOOP = asyncio.new_event_loop()
atexit.register(LOOP.close)


def protocol(data: bytes) -> None:
    """The first two bytes determine where the others are cut."""
    cuts, sent = data[:2], data[2:]
    whole = _answers([sent])
    step = 1 + cuts[0] + 256 * (cuts[1] if len(cuts) > 1 else 0) if cuts else 1
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
    if len(pieces) < 2_000:
        _same(whole, _answers(pieces))
    for answer in whole:
        _check(answer)


def requests(data: bytes) -> None:
    """Each line is the key of a request; the line's first byte selects the kind of request."""
    sent, expected = [], []
    for line in data.split(b"\n")[:40]:
        kind = RequestKind.WRITE if line[:1] and line[0] & 1 else RequestKind.READ
        batch = bool(line[:1] and line[0] & 2)
        key = line[1:]
        if batch:
            keys = key.split(b",")
            body = b'{"keys":%b,"op":"%b"}' % (_as_json(keys), kind.value.encode())
            sent.append(b"POST /v1/routes HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            expected.append(_expected_batch(body, kind))
        else:
            sent.append(
                b"GET /v1/route/%b?op=%b HTTP/1.1\r\nhost: x\r\n\r\n" % (quote(key, safe="").encode(), kind.value.encode())
            )
            expected.append(_expected_route(key, kind))
    answers = _answers(sent)
    assert len(answers) == len(expected), (len(answers), len(expected))
    for answer, wanted in zip(answers, expected, strict=True):
        assert (answer.status, answer.json() if answer.status == 200 else None) == wanted, (answer, wanted)


def image(data: bytes) -> None:
    """Overwrite a valid image with bytes and correct its checksums. If it opens, it must answer without failing."""
    whole = _image()
    at = int.from_bytes(data[:3], "little") % len(whole)
    cut = data[3:4]
    changed = bytearray(whole[:at] + data[4:] + whole[at + len(data[4:]) :])
    if cut and cut[0] & 1:
        del changed[at + len(data[4:]) :]
    _sign(changed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILES[0]
        path.write_bytes(changed)
        try:
            saved = read_routing(path)
        except CorruptRoutingFile:
            return
        found = saved.table.placements
        assert isinstance(found, PackedPlacements)
        for row in (*ROWS, Placement("unlisted", "p-0")):
            found.base.value(row.key)


def overlay(data: bytes) -> None:
    """Bytes as the lines of an overlay, with a correct checksum."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overlay.jsonl"
        content = data if data.endswith(b"\n") or not data else data + b"\n"
        path.write_bytes(content + checksum_line(xxh3_128(content).hexdigest()))
        try:
            found = read_overlay(path)
        except CorruptRoutingFile:
            return
        write_overlay(path, found)
        again = read_overlay(path)
        assert (again.description, again.changed) == (found.description, found.changed)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "protocol": protocol, "requests": requests, "image": image, "overlay": overlay,
}  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """The first inputs."""
    get = b"GET /v1/route/k1?op=write&from=San%20Jose&max_staleness_ms=5&explain=1 HTTP/1.1\r\nhost: x\r\n\r\n"
    body = b'{"keys":["k1","hot","\\u00e4"],"op":"read"}'
    post = b"POST /v1/routes HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    chunked = b"POST /v1/routes HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(body),
        body,
    )
    others = [b"%b HTTP/1.1\r\nhost: x\r\n\r\n" % line for line in (
        b"POST /v1/refresh", b"GET /v1/table", b"GET /metrics", b"HEAD /healthz", b"GET /readyz", b"GET /openapi.json",
        b"DELETE /v1/partitions", b"GET http://h/v1/route/hot", b"GET /v1/route/%E6%97%A5%E6%9C%AC%2F%F0%9F%9A%B2",
    )]  # fmt: skip
    tail = (
        b"GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    )
    whole = _image()
    return {
        "protocol": [
            b"\x05\x00" + get * 3,
            b"\xff\x0f" + post + get + chunked,
            b"\x10\x00" + b"".join(others),
            b"\x40\x00" + tail,
        ],
        "requests": [b"\x00k1\n\x01hot\n\x02k1,k2,hot,lost\n\x03new", '\x00日本/🚲\n\x02日本/🚲,say "x"\\'.encode()],
        "image": [struct.pack("<I", at)[:3] + b"\x00" + whole[at : at + 64] for at in (0, 16, 96, len(whole) - 200)],
        "overlay": [_overlay()],
    }


def _answers(pieces: Sequence[bytes]) -> list[Received]:
    async def talk() -> bytes:
        connections = connections_of(SERVICE)
        conversation = Conversation(connections)
        await conversation.say(*pieces)
        conversation.protocol.eof_received()
        written = bytes(conversation.transport.written)
        if not conversation.transport.is_closing():
            conversation.transport.abort()
        assert connections.body_bytes == 0
        assert len(connections) == 0
        return written

    return _read(LOOP.run_until_complete(talk()))


def _read(written: bytes) -> list[Received]:
    """The answers. The answer to a HEAD request has no body, which is visible only from the start of the next answer."""
    found: list[Received] = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        length = 0 if head.startswith(b"HTTP/1.1 100") else int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        bodiless = rest.startswith(b"HTTP/1.1 ") or (not rest and length > 0)
        size = len(head) + 4 + (0 if bodiless else length)
        found += read_answers(written[:size], ["HEAD"] if bodiless else ())
        written = written[size:]
    return found


def _same(one: list[Received], other: list[Received]) -> None:
    """Compare answers. Metrics may differ; whether there is a 100 Continue depends on where the bytes are cut."""
    plain = [[_plain(a) for a in answers if a.status != 100] for answers in (one, other)]
    assert plain[0] == plain[1], plain


def _plain(answer: Received) -> tuple[Any, ...]:
    figures = answer.headers["content-type"].startswith("text/plain")
    detail = answer.status >= 400 and bool(answer.body) and answer.json()["type"].endswith("invalid-http")
    length = answer.headers["content-length"] if not (figures or detail) else ""
    return answer.status, length, answer.headers.get("connection"), b"" if figures or detail else answer.body


def _check(answer: Received) -> None:
    assert answer.status in (100, 200, 400, 404, 405, 413, 414, 431, 503), answer
    if answer.status >= 400 and answer.body:
        problem = answer.json()
        assert (problem["status"], answer.headers["content-type"]) == (answer.status, "application/problem+json")
        assert problem["title"]
        assert len(problem["detail"]) < 1_000
    elif answer.body.startswith(b'{"key":'):
        _right(answer.json())
    elif answer.body.startswith(b'{"table_version":7,"routes"'):
        for one in answer.json()["routes"]:
            _right(one)


def _right(found: dict[str, Any]) -> None:
    kind = RequestKind.WRITE if found["reason_code"].startswith("write") else RequestKind.READ
    _, wanted = SERVICE.route(RouteRequest(found["key"], kind))
    names = ("key", "partition", "location", "epoch", "table_version", "uri")
    assert [found[n] for n in names] == [wanted[n] for n in names], (found, wanted)


def _expected_route(key: bytes, kind: RequestKind) -> tuple[int, Any]:
    try:
        return 200, SERVICE.route(RouteRequest(parse_key(quote(key, safe="").encode()), kind))[1]
    except Problem as problem:
        return problem.status, None
    except ForeshardError:
        return 503, None


def _expected_batch(body: bytes, kind: RequestKind) -> tuple[int, Any]:
    try:
        keys, _ = parse_batch(body)
        return 200, {"table_version": 7, "routes": [SERVICE.route(RouteRequest(key, kind))[1] for key in keys]}
    except Problem as problem:
        return problem.status, None
    except ForeshardError:
        return 503, None


def _as_json(keys: Sequence[bytes]) -> bytes:
    return json.dumps([key.decode("utf-8", "surrogateescape") for key in keys], ensure_ascii=len(keys) % 2 == 0).encode(
        "utf-8", "surrogateescape"
    )


def _saved(placements: PackedPlacements) -> SavedRouting:
    table = RoutingTable(7, placements, RULE, datetime(2025, 1, 1, tzinfo=UTC))
    return SavedRouting("fuzzed", table, PARTITIONS, LOCATIONS)


def _image() -> bytes:
    packed = pack(ROWS, count(5), [p.partition_id for p in PARTITIONS])
    return b"".join(image_parts(packed, description_of(_saved(PackedPlacements(packed)))))


def _overlay() -> bytes:
    description = description_of(_saved(PackedPlacements(pack((), count(5)))))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overlay.jsonl"
        write_overlay(path, Overlay(description, {p.key: p for p in ROWS[:3]}))
        return b"".join(path.read_bytes().splitlines(keepends=True)[:-1])


def _sign(content: bytearray) -> None:
    """Correct the checksums and the length, as far as the parts exist."""
    if len(content) < HEADER.size:
        return
    fields = list(HEADER.unpack_from(content))
    start = HEADER.size
    for number in range(3):
        length = min(fields[4 + number], len(content))
        fields[7 + number] = xxh3_64_intdigest(bytes(content[start : start + length]))
        start += -(-length // 8) * 8
    fields[10] = len(content)
    head = HEADER.pack(*fields[:-1], bytes(8))
    content[: HEADER.size] = head[:-8] + xxh3_64_digest(head[:-8])


assert limits.PIECE_BYTES < 2**16
