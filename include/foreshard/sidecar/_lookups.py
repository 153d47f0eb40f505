"""The hot path: from a request's target to its answer, if the route is prepared and the target needs no decoding."""

from __future__ import annotations

import string
from collections.abc import Callable

from foreshard.errors import ForeshardError
from foreshard.model import RequestKind
from foreshard.model.key_space import UnusableKey
from foreshard.sidecar._answers import LONGEST_PREPARED, ROUTE_HEADS
from foreshard.sidecar._prepared_answers import AnswerTails, PreparedAnswers
from foreshard.sidecar._requests import parse_query
from foreshard.sidecar._service import RouteService

PREFIX = b"/v1/route/"
START = len(PREFIX)
PLAIN = (string.ascii_letters + string.digits + "".join(c for c in string.punctuation if c not in '"\\%?#')).encode()
"""The bytes that need no escaping, neither in a path nor in JSON."""
OTHERS_MARKED = bytes(byte if byte in PLAIN else 0 for byte in range(256))
QUERIES, LONGEST_QUERY = 1_024, 256

Lookup = Callable[[bytes], bytes | None]


class Lookups:
    """``lookup`` maps a target to its answer, or to None if the request must be handled by :class:`Endpoints`.

    ``prepare`` is called when the prepared answers have become invalid.
    """

    def __init__(self, service: RouteService, prepare: Callable[[], PreparedAnswers | None]) -> None:
        self._service, self._prepare = service, prepare
        self.lookup: Lookup = self._first

    def _first(self, target: bytes) -> bytes | None:
        """Build the lookup for the current prepared answers, and use it."""
        answers = self._prepare()
        self.lookup = self._first if answers is None else self._of(answers)
        return None if answers is None else self.lookup(target)

    def _of(self, answers: PreparedAnswers) -> Lookup:
        """The lookup in one table, as a closure: attribute lookups would be a noticeable part of its time."""
        service, again, heads, join = self._service, self._first, ROUTE_HEADS, b"".join
        find, changed = answers.placements.find, answers.placements.changed
        slot_values, slot_of = answers.routes.slots.values, answers.routes.slots.slot_of
        tails_of = TailsByQuery(answers)

        def lookup(target: bytes) -> bytes | None:
            if service.prepared is not answers:
                return again(target)
            key, _, query = target[START:].partition(b"?")
            tails = tails_of[query]
            if tails is None or not key or target[:START] != PREFIX or key.translate(OTHERS_MARKED) != key:
                return None
            try:
                if changed and (name := key.decode()) in changed:
                    tail = tails.outside(name, changed[name])
                else:
                    tail = tails[find(key) or slot_values[slot_of(key)]]
            except (ForeshardError, UnusableKey):
                return None
            if tail is None or (size := tail.size + len(key)) >= LONGEST_PREPARED:
                return None
            tail.sent += 1
            return join((heads[size], key, tail.text))

        return lookup


class TailsByQuery(dict[bytes, AnswerTails | None]):
    """Query → the tails that answer it; None if a prepared answer can't serve it."""

    def __init__(self, answers: PreparedAnswers) -> None:
        super().__init__()
        self._answers = answers

    def __missing__(self, query: bytes) -> AnswerTails | None:
        if len(query) > LONGEST_QUERY:
            return None
        if len(self) >= QUERIES:
            self.clear()
        try:
            question = parse_query(query)
        except ForeshardError:
            return None
        tails = self._answers.writes if question.kind is RequestKind.WRITE else self._answers.reads
        self[query] = None if question.explain else tails
        return self[query]
