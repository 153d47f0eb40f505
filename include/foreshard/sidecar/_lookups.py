"""The hot path: a request's target → the parts of its answer, where the decision is prepared and nothing needs decoding."""

from __future__ import annotations

import string
from collections.abc import Callable

from xxhash import xxh3_64_intdigest

from foreshard.errors import ForeshardError
from foreshard.model import RequestKind
from foreshard.routing.simple import SimpleRoutes
from foreshard.sidecar._answers import LONGEST_PREPARED, ROUTE_HEADS
from foreshard.sidecar._requests import parse_query
from foreshard.sidecar._service import RouteService

PREFIX = b"/v1/route/"
START = len(PREFIX)
PLAIN = (string.ascii_letters + string.digits + "".join(c for c in string.punctuation if c not in '"\\%?#')).encode()
"""What stands for itself both in a path and in JSON."""
OTHERS_MARKED = bytes(byte if byte in PLAIN else 0 for byte in range(256))
QUERIES, LONGEST_QUERY = 1_024, 256

Lookup = Callable[[bytes], bytes | None]


class Lookups:
    """``lookup`` gives a target's answer, None where the request has to be looked at closely.

    ``prepare`` is called where the prepared decisions don't stand any more.
    """

    def __init__(self, service: RouteService, prepare: Callable[[], SimpleRoutes | None]) -> None:
        self._service, self._prepare = service, prepare
        self._queries = Queries()
        self.lookup: Lookup = self._first

    def _first(self, target: bytes) -> bytes | None:
        """Have a lookup for the decisions that stand, and use it."""
        simple = self._prepare()
        self.lookup = self._first if simple is None else self._of(simple)
        return None if simple is None else self.lookup(target)

    def _of(self, simple: SimpleRoutes) -> Lookup:
        """The lookup of one table, written out in one function: a call costs as much as a tenth of it."""
        service, again, queries, heads, join = self._service, self._first, self._queries, ROUTE_HEADS, b"".join
        base, changed = simple.placements.base, simple.placements.changed
        slots, homes, seed, digest_of = base.slots, base.homes, base.seed, xxh3_64_intdigest
        written = {True: simple.writes, False: simple.reads}

        def lookup(target: bytes) -> bytes | None:
            if service.prepared is not simple:
                return again(target)
            key, _, query = target[START:].partition(b"?")
            writes = queries[query]
            if writes is None or not key or target[:START] != PREFIX or key.translate(OTHERS_MARKED) != key:
                return None
            tails = written[writes]
            try:
                if changed and (row := changed.get(key.decode())) is not None:
                    tail = tails.elsewhere(key.decode(), row)
                else:
                    digest = digest_of(key, seed)
                    at = (digest * homes >> 64) * 2
                    while (found := slots[at]) < digest:
                        at += 2
                    value = slots[at + 1] if found == digest else 0
                    tail = tails[value] if value else tails.elsewhere(key.decode(), None)
            except ForeshardError:
                return None
            if tail is None or (size := tail.size + len(key)) >= LONGEST_PREPARED:
                return None
            tail.sent += 1
            return join((heads[size], key, tail.text))

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
