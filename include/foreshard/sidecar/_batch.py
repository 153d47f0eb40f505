"""Many keys at once, from one table, in pieces between which other requests are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from foreshard.model import RequestKind, RoutingTable
from foreshard.routing.simple import SimpleRoutes, Tail
from foreshard.sidecar._answers import encode
from foreshard.sidecar._figures import SidecarCounters
from foreshard.sidecar._requests import Question
from foreshard.sidecar._service import RouteService

KEYS_AT_ONCE = 250
"""Keys between two chances for other requests: about half a millisecond."""
BEGIN = b'{"key":"'


async def routes_of(
    service: RouteService, figures: SidecarCounters, keys: Sequence[str], question: Question, *, plain: bool
) -> bytes:
    """The body that answers a batch; ``plain``: no key needs escaping in JSON. Raises what :meth:`RouteService.route` does."""
    table, simple = service.table(), None if question.explain else service.simple()
    answers: list[bytes] = []
    try:
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            if start:
                await asyncio.sleep(0)
            decided = _Decided(service, figures, question, table)
            answers += _prepared(simple, some, question, plain, decided) if simple else map(decided.answer, some)
    finally:
        if simple is not None:
            service.done_with(simple)
    between = b"," + BEGIN
    return b'{"table_version":%d,"routes":[%b%b]}' % (table.version, BEGIN if answers else b"", between.join(answers))


class _Decided:
    """Answers that are not prepared."""

    def __init__(self, service: RouteService, figures: SidecarCounters, question: Question, table: RoutingTable) -> None:
        self._service, self._figures, self._question, self._table = service, figures, question, table

    def answer(self, key: str) -> bytes:
        """A key's answer, from the first letter of the key on."""
        made, answer = self._service.route(self._question.about(key), self._table)
        self._figures.routed(self._question.kind.value, made.role, made.code)
        return encode(answer)[len(BEGIN) :]


def _prepared(simple: SimpleRoutes, keys: Sequence[str], question: Question, plain: bool, decided: _Decided) -> Iterable[bytes]:
    """Each key's answer, from the first letter of the key on."""
    tails = simple.writes if question.kind is RequestKind.WRITE else simple.reads
    changed, find = simple.placements.changed, simple.placements.find
    names = map(str.encode, keys) if plain else (encode(key)[1:-1] for key in keys)
    answers: list[bytes] = []
    for key, name, value in zip(keys, names, map(find, keys), strict=True):
        tail: Tail | None = tails[value] if value and key not in changed else tails.elsewhere(key, changed.get(key))
        if tail is None:
            answers.append(decided.answer(key))
        else:
            tail.sent += 1
            answers.append(name + tail.text)
    return answers
