"""Reads requests: from the bytes on the wire to a route request, or to a clear refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from foreshard.model import RequestKind
from foreshard.routing.decision import RouteRequest
from foreshard.sidecar._limits import MAXIMUM_KEY_BYTES, MAXIMUM_KEYS, MAXIMUM_TEXT
from foreshard.sidecar._problems import BadRequest, Problem

PARAMETERS = ("op", "from", "max_staleness_ms", "explain")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a key."""

    kind: RequestKind
    location: str | None = None
    max_staleness: float | None = None
    explain: bool = False

    def about(self, key: str) -> RouteRequest:
        """The question about one key."""
        return RouteRequest(key, self.kind, self.location, self.max_staleness, self.explain)


def parse_key(path: bytes) -> str:
    """Read the key from the raw path behind ``/v1/route/``, percent-encoded or not."""
    try:
        key = (unquote_to_bytes(path) if b"%" in path else path).decode()
    except UnicodeDecodeError as error:
        raise BadRequest("invalid-key", f"the key is no valid UTF-8 at byte {error.start}; percent-encode its UTF-8") from None
    return check_key(key)


def check_key(key: Any, where: str = "the key") -> str:
    """Return ``key`` where it can be the key of a document; ``where`` names it in the refusal."""
    if not isinstance(key, str):
        raise BadRequest("invalid-key", f"{where} is no text; send keys as text")
    if not key:
        raise BadRequest("empty-key", f"{where} is empty; name the partitionable key")
    if len(key) > MAXIMUM_KEY_BYTES // 4 and len(key.encode("utf-8", "surrogatepass")) > MAXIMUM_KEY_BYTES:
        raise BadRequest("key-too-long", f"{where} has more than {MAXIMUM_KEY_BYTES} bytes; no key is that long")
    if "\0" in key:
        raise BadRequest("invalid-key", f"{where} holds a NUL character; remove it")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise BadRequest("invalid-key", f"{where} holds half of a surrogate pair; send valid Unicode") from None
    return key


@lru_cache(maxsize=4096)
def parse_query(query: bytes) -> Question:
    """Read ``op``, ``from``, ``max_staleness_ms`` and ``explain``."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except UnicodeDecodeError:
        raise BadRequest("invalid-query", "the query is no valid UTF-8; percent-encode its UTF-8") from None
    except ValueError as error:
        raise BadRequest("invalid-query", f"the query can't be read ({error})") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise BadRequest("repeated-parameter", f"parameter {name[:MAXIMUM_TEXT]!r} is given twice; give it once")
        values[name] = value
    return parse_question(values)


def parse_question(values: Mapping[str, Any]) -> Question:
    """Read the parameters of a query or of a body."""
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


def parse_batch(body: bytes) -> tuple[list[str], Question]:
    """Read the body of ``POST /v1/routes``: ``{"keys": […], "op", "from", "max_staleness_ms"}``."""
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise BadRequest("invalid-body", 'the body is no JSON; send {"keys": […], "op": "read"}') from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise BadRequest("invalid-body", 'the body has no list of keys; send {"keys": […], "op": "read"}')
    if isinstance(document.get("max_staleness_ms"), str):
        raise BadRequest("invalid-staleness", "max_staleness_ms must be a number, not text")
    keys = document.pop("keys")
    if len(keys) > MAXIMUM_KEYS:
        raise Problem(413, "too-many-keys", "too many keys", f"{len(keys)} keys; ask for at most {MAXIMUM_KEYS} at once")
    if b"\\" in body or not _surely_keys(keys):
        keys = [check_key(key, f"key number {number}") for number, key in enumerate(keys)]
    return keys, parse_question(document)


def _surely_keys(keys: list[Any]) -> bool:
    """Whether these are keys, as far as can be seen at once, where no text holds an escape (and so no NUL, nor half a pair)."""
    return set(map(type, keys)) <= {str} and all(keys) and max(map(len, keys), default=0) <= MAXIMUM_KEY_BYTES // 4


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
