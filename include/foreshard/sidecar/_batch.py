"""Answers many keys from one table, in pieces between which other requests are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from foreshard.model import RequestKind, RoutingTable
from foreshard.sidecar._answers import encode
from foreshard.sidecar._figures import SidecarCounters
from foreshard.sidecar._prepared_answers import PreparedAnswers
from foreshard.sidecar._requests import Question
from foreshard.sidecar._service import RouteService

KEYS_AT_ONCE = 250
"""Keys that are answered before other requests get a turn: about half a millisecond."""
BEGIN = b'{"key":"'


async def routes_of(
    service: RouteService, figures: SidecarCounters, keys: Sequence[str], question: Question, *, plain: bool
) -> bytes:
    """Return the body that answers a batch.

    ``plain``: no key needs escaping in JSON. Raises like :meth:`RouteService.route`.
    """
    table, prepared = service.table(), None if question.explain else service.prepare()
    answers: list[bytes] = []
    try:
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            if start:
                await asyncio.sleep(0)
            decided = _Decided(service, figures, question, table)
            answers += _prepared(prepared, some, question, plain, decided) if prepared else map(decided.answer, some)
    finally:
        if prepared is not None:
            service.done_with(prepared)
    between = b"," + BEGIN
    return b'{"table_version":%d,"routes":[%b%b]}' % (table.version, BEGIN if answers else b"", between.join(answers))


class _Decided:
    """Answers keys whose routes are not prepared."""

    def __init__(self, service: RouteService, figures: SidecarCounters, question: Question, table: RoutingTable) -> None:
        self._service, self._figures, self._question, self._table = service, figures, question, table

    def answer(self, key: str) -> bytes:
        """The answer for one key, from the key's first character on."""
        decision, answer = self._service.route(self._question.about(key), self._table)
        self._figures.routed(self._question.kind.value, decision.role, decision.code)
        return encode(answer)[len(BEGIN) :]


def _prepared(
    prepared: PreparedAnswers, keys: Sequence[str], question: Question, plain: bool, decided: _Decided
) -> Iterable[bytes]:
    """The answer for each key, from the key's first character on."""
    tails = prepared.writes if question.kind is RequestKind.WRITE else prepared.reads
    changed, find, slots = prepared.placements.changed, prepared.placements.find, prepared.routes.slots
    encoded = [key.encode() for key in keys]
    names = encoded if plain else [encode(key)[1:-1] for key in keys]
    answers: list[bytes] = []
    for key, name, data in zip(keys, names, encoded, strict=True):
        tail = tails.outside(key, changed[key]) if key in changed else tails[find(data) or slots.value(data)]
        if tail is None:
            answers.append(decided.answer(key))
        else:
            tail.sent += 1
            answers.append(name + tail.text)
    return answers
