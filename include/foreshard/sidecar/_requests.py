"""Parses requests: from bytes on the wire to a route request, or to a refusal that says what is wrong.

Refused are also requests that a web page could have made in a browser, because the sidecar answers without a password. A page
reaches a loopback address in two ways. Its own name may resolve to it (DNS rebinding); the ``Host`` header then has that name.
Or it sends a request to the address from its own origin; the browser then adds ``Origin``. Addresses, ``localhost``, names
without a dot and configured names are trusted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from httptools import HttpRequestParser

from foreshard.model import RequestKind
from foreshard.model.key_space import KeyType, canonical_key
from foreshard.routing.decision import RouteRequest
from foreshard.routing.keys import LONGEST_KEY, key_problem
from foreshard.sidecar._limits import MAXIMUM_BODY_BYTES, MAXIMUM_KEYS, MAXIMUM_TEXT
from foreshard.sidecar._problems import BadRequest, Problem, TooLarge

UNAUTHORIZED, FORBIDDEN = 401, 403
OPEN_TARGETS = frozenset({b"/healthz", b"/readyz"})
"""Targets that need no token, for probes."""
ONLY_ONCE = frozenset({b"authorization", b"host", b"origin"})
"""Headers that decide whether a request is trusted. Of two, another server on the way may have seen the other one."""
PARAMETERS = ("op", "from", "max_staleness_ms", "explain")


@dataclass(frozen=True, slots=True)
class Question:
    """The parameters of a request, without its key."""

    kind: RequestKind
    location: str | None = None
    max_staleness: float | None = None
    explain: bool = False

    def about(self, key: str) -> RouteRequest:
        """The route request for one key."""
        return RouteRequest(key, self.kind, self.location, self.max_staleness, self.explain)


def parse_key(path: bytes, key_type: KeyType = KeyType.STRING) -> str:
    """Read the key from the raw path after ``/v1/route/``, percent-encoded or not. Return its canonical text."""
    try:
        key = (unquote_to_bytes(path) if b"%" in path else path).decode()
    except UnicodeDecodeError as error:
        raise BadRequest("invalid-key", f"the key is not valid UTF-8 at byte {error.start}; percent-encode its UTF-8") from None
    return check_key(key, key_type)


def check_key(key: Any, key_type: KeyType = KeyType.STRING, where: str = "the key") -> str:
    """Return the canonical text of a valid key, else raise :class:`BadRequest`. ``where`` names it in the message."""
    problem = key_problem(key, key_type)
    if problem is not None:
        raise BadRequest(problem.code, f"{where} {problem.phrase}")
    return canonical_key(key, key_type)


@lru_cache(maxsize=4096)
def parse_query(query: bytes) -> Question:
    """Read ``op``, ``from``, ``max_staleness_ms`` and ``explain``."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except UnicodeDecodeError:
        raise BadRequest("invalid-query", "the query is not valid UTF-8; percent-encode its UTF-8") from None
    except ValueError as error:
        raise BadRequest("invalid-query", f"the query can't be read ({error})") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise BadRequest("repeated-parameter", f"parameter {name[:MAXIMUM_TEXT]!r} is given twice; give it once")
        values[name] = value
    return parse_question(values)


def parse_question(values: Mapping[str, Any]) -> Question:
    """Read the parameters of a query or a body."""
    for name in values:
        if name not in PARAMETERS:
            raise BadRequest("unknown-parameter", f"unknown parameter {name[:MAXIMUM_TEXT]!r}; known: {', '.join(PARAMETERS)}")
    op = values.get("op", "read")
    if op not in ("read", "write"):
        raise BadRequest("unknown-op", f"unknown op {str(op)[:MAXIMUM_TEXT]!r}; known: read, write")
    location = values.get("from")
    if location is not None and (not isinstance(location, str) or len(location) > MAXIMUM_TEXT):
        raise BadRequest("invalid-location", f"from must be a location's name of at most {MAXIMUM_TEXT} characters")
    explain = values.get("explain", "0")
    if not isinstance(explain, str | bool) or explain not in ("0", "1", "true", "false", True, False):
        raise BadRequest("invalid-explain", "explain must be 0 or 1")
    return Question(
        RequestKind(op), location or None, _staleness(values.get("max_staleness_ms")), explain in ("1", "true", True)
    )


def parse_batch(body: bytes, key_type: KeyType = KeyType.STRING) -> tuple[list[str], Question]:
    """Read the body of ``POST /v1/routes``: ``{"keys": […], "op", "from", "max_staleness_ms"}``."""
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise BadRequest("invalid-body", 'the body is not JSON; send {"keys": […], "op": "read"}') from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise BadRequest("invalid-body", 'the body has no list of keys; send {"keys": […], "op": "read"}')
    if isinstance(document.get("max_staleness_ms"), str):
        raise BadRequest("invalid-staleness", "max_staleness_ms must be a number, not text")
    keys = document.pop("keys")
    if len(keys) > MAXIMUM_KEYS:
        raise Problem(413, "too-many-keys", "too many keys", f"{len(keys)} keys; send at most {MAXIMUM_KEYS} at once")
    if key_type is not KeyType.STRING or b"\\" in body or not _all_valid(keys):
        keys = [check_key(key, key_type, f"key number {number}") for number, key in enumerate(keys)]
    return keys, parse_question(document)


def _all_valid(keys: list[Any]) -> bool:
    """Whether these are valid keys, by a quick check. The body must contain no escape, so no NUL and no surrogate."""
    return set(map(type, keys)) <= {str} and all(keys) and max(map(len, keys), default=0) <= LONGEST_KEY // 4


def _staleness(value: Any) -> float | None:
    """Milliseconds → seconds."""
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise BadRequest("invalid-staleness", "max_staleness_ms must be a number of milliseconds, 0 or more")
    return number / 1000.0


class CarefulParser:
    """Parses requests and checks their headers, on behalf of a connection's protocol.

    Collecting headers costs as much as an answer. Clients send the same headers each time: ``block`` is the end of the last
    accepted request, from its first line's end on. A request that ends with it needs no second look. With a ``token``, only
    requests that have it count.
    """

    def __init__(self, protocol: Any, names: Iterable[str], token: str | None = None) -> None:
        self.block = b""
        self._names = frozenset(names)
        self._token = None if token is None else token.encode()
        self._target = b""
        self._protocol: Any = protocol
        self._seen: dict[bytes, bytes] = {}
        self._repeated: bytes | None = None
        self.is_awaited = False
        """Whether the client waits for 100 Continue before it sends the body."""
        self._is_within, self._accepted = False, 0
        self.parser = HttpRequestParser(self)

    def is_known(self, data: bytes) -> bool:
        """Whether ``data`` is one whole request without a body whose headers were accepted before."""
        return data[data.find(b"\r\n") :] == self.block and not self._is_within

    def feed(self, data: bytes) -> None:
        """Parse bytes. Raises like the parser."""
        begins, self._accepted = not self._is_within, 0
        self.parser.feed_data(data)
        if begins and not self._is_within and self._accepted == 1 and data.find(b"\r\n\r\n") == len(data) - 4:
            self.block = data[data.find(b"\r\n") :]

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_within, self.is_awaited, self._repeated = True, False, None
        self._target = b""
        self._seen.clear()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._target += url
        self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        name = name.lower()
        if name in self._seen and name in ONLY_ONCE:
            self._repeated = name
        self._seen[name] = value

    def on_headers_complete(self) -> None:
        """Refuse at once what a client that expects 100 Continue should not send."""
        if self._seen.get(b"expect", b"").lower() != b"100-continue" or not self._is_modern():
            return
        refusal = self._refused() or _too_long(self._seen.get(b"content-length", b""))
        if refusal is not None:
            self._protocol.complete(self.parser, refusal)
        self.is_awaited = True

    def on_body(self, part: bytes) -> None:
        """Hand a part of the body on. The client waits no longer."""
        self.is_awaited = False
        self._protocol.on_body(part)

    def on_message_complete(self) -> None:
        """Check the headers, and hand the request on."""
        self._is_within = self.is_awaited = False
        refusal = self._refused()
        self._accepted += refusal is None and self._knows_token()
        self._protocol.complete(self.parser, refusal)

    def _is_modern(self) -> bool:
        return self.parser.get_http_version() == "1.1"

    def _refused(self) -> Problem | None:
        if self._repeated is not None:
            name = self._repeated.decode().title()
            return BadRequest("repeated-header", f"the {name} header is sent twice; send it once")
        refusal = refused_headers(self._seen, self._names, modern=self._is_modern())
        if refusal is not None or self._target in OPEN_TARGETS or self._knows_token():
            return refusal
        detail = "send Authorization: Bearer with the token in FORESHARD_SIDECAR__TOKEN"
        return Problem(UNAUTHORIZED, "no-token", "the sidecar's token is missing or wrong", detail)

    def _knows_token(self) -> bool:
        scheme, _, given = self._seen.get(b"authorization", b"").partition(b" ")
        return self._token is None or (scheme.lower() == b"bearer" and compare_digest(given.strip(), self._token))

    def close(self) -> None:
        """Release the parser and the protocol, which refer to each other."""
        del self.parser
        self._protocol = None


def _too_long(length: bytes) -> Problem | None:
    """Why a body of this length is refused; None if it is not. The parser has checked that these are digits."""
    digits = length.strip().lstrip(b"0")
    if len(digits) <= len(str(MAXIMUM_BODY_BYTES)) and int(digits or b"0") <= MAXIMUM_BODY_BYTES:
        return None
    return TooLarge(413, "body-too-large", "body", MAXIMUM_BODY_BYTES)


def refused_headers(headers: dict[bytes, bytes], names: frozenset[str], *, modern: bool) -> Problem | None:
    """Return why headers (names in lower case) are refused; None if they are not. ``modern``: HTTP/1.1."""
    host = headers.get(b"host")
    if host is None:
        return BadRequest("no-host", "send a Host header") if modern else None
    if not is_trusted(host.decode("latin-1"), names):
        detail = "name the sidecar by its address, or add the name to FORESHARD_SIDECAR__NAMES"
        return Problem(FORBIDDEN, "unknown-host", "the Host header names another server", detail)
    origin = headers.get(b"origin")
    if origin is not None and origin.lower() not in {b"http://" + host.lower(), b"https://" + host.lower()}:
        return Problem(FORBIDDEN, "foreign-origin", "a web page of another origin", "call the sidecar from the app itself")
    return None


def is_trusted(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header can't be a web page's own name. Port and case don't matter."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if not name or name in names or "." not in name or name.endswith(".localhost"):
        return bool(name)
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
