"""The hot path: a request's target → the parts of its answer, where the decision is prepared and nothing needs decoding."""

from __future__ import annotations

import string
from collections.abc import Callable

from foreshard.errors import ForeshardError
from foreshard.model import RequestKind
from foreshard.routing.simple import SimpleRoutes
from foreshard.sidecar.answers import EPOCHS, KNOWN_EPOCHS, LONGEST_PREPARED, ROUTE_HEADS
from foreshard.sidecar.requests import parse_query
from foreshard.sidecar.service import RouteService

PREFIX = b"/v1/route/"
START = len(PREFIX)
PLAIN = (string.ascii_letters + string.digits + "".join(c for c in string.punctuation if c not in '"\\%?#')).encode()
"""What stands for itself both in a path and in JSON."""
OTHERS_MARKED = bytes(byte if byte in PLAIN else 0 for byte in range(256))
QUERIES, LONGEST_QUERY = 1_024, 256

Lookup = Callable[[bytes], bytes | None]


def lookup_of(service: RouteService, prepare: Callable[[], SimpleRoutes | None]) -> Lookup:
    """The lookup: a target's answer, None where the request has to be looked at closely.

    ``prepare`` is called where the prepared decisions don't stand any more. Written out in one function, for speed.
    """
    asks_write = Queries()
    heads, epochs, join = ROUTE_HEADS, EPOCHS, b"".join

    def lookup(target: bytes) -> bytes | None:
        path, _, query = target.partition(b"?")
        key = path[START:]
        writes = asks_write[query]
        if writes is None or not key or not path.startswith(PREFIX) or key.translate(OTHERS_MARKED) != key:
            return None
        simple = service.prepared
        if simple is None and (simple := prepare()) is None:
            return None
        try:
            found = simple.write_bytes(key) if writes else simple.read_bytes(key)
        except ForeshardError:
            return None
        if found is None:
            return None
        number, to = found
        epoch = epochs[number] if number < KNOWN_EPOCHS else b"%d" % number
        size = to.size + len(key) + len(epoch)
        if size < LONGEST_PREPARED:
            return join((heads[size], key, to.before, epoch, to.behind))
        to.sent -= 1
        return None

    return lookup


class Queries(dict[bytes, bool | None]):
    """Query → whether it asks for a write; None where it needs more than a prepared answer."""

    def __missing__(self, query: bytes) -> bool | None:
        if len(query) > LONGEST_QUERY:
            return None
        if len(self) >= QUERIES:
            self.clear()
        try:
            question = parse_query(query)
        except ForeshardError:
            return None
        self[query] = None if question.explain else question.kind is RequestKind.WRITE
        return self[query]
