"""Many keys at once, from one table, in pieces between which other requests are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice

from foreshard.model import RequestKind, RoutingTable
from foreshard.routing.simple import SimpleRoutes
from foreshard.sidecar.answers import EPOCHS, KNOWN_EPOCHS, encode
from foreshard.sidecar.figures import Figures
from foreshard.sidecar.requests import Question
from foreshard.sidecar.service import RouteService

KEYS_AT_ONCE = 250
"""Keys between two chances for other requests: about half a millisecond."""


async def routes_of(service: RouteService, figures: Figures, keys: Sequence[str], question: Question, *, plain: bool) -> bytes:
    """The body that answers a batch; ``plain``: no key needs escaping in JSON. Raises what :meth:`RouteService.route` does."""
    table, simple = service.table(), None if question.explain else service.simple()
    batch = _Batch(service, figures, question, table, simple, plain)
    parts: list[bytes] = [b'{"table_version":%d,"routes":[' % table.version]
    left = iter(keys)
    first = True
    while some := list(islice(left, KEYS_AT_ONCE)):
        if not first:
            await asyncio.sleep(0)
        parts.extend(batch.answers(some))
        first = False
    if len(parts) > 1:
        parts[-1] = parts[-1][:-1]  # the last comma
    parts.append(b"]}")
    if simple is not None:
        service.done_with(simple)
    return b"".join(parts)


class _Batch:
    """The keys of one request."""

    def __init__(
        self,
        service: RouteService,
        figures: Figures,
        question: Question,
        table: RoutingTable,
        simple: SimpleRoutes | None,
        plain: bool,
    ) -> None:
        self._service, self._figures, self._question, self._table = service, figures, question, table
        self._plain = plain
        writes = question.kind is RequestKind.WRITE
        self._simple = simple and (simple.write if writes else simple.read)

    def answers(self, keys: Sequence[str]) -> Iterator[bytes]:
        """Each key's answer and a comma."""
        simple, plain = self._simple, self._plain
        for key in keys:
            made = simple(key) if simple else None
            if made is None:
                yield encode(self._decided(key)) + b","
                continue
            _, number, to = made
            epoch = EPOCHS[number] if number < KNOWN_EPOCHS else b"%d" % number
            name = key.encode() if plain else encode(key)[1:-1]
            yield b'{"key":"%b%b%b%b,' % (name, to.before, epoch, to.behind)

    def _decided(self, key: str) -> dict[str, object]:
        made, answer = self._service.route(self._question.about(key), self._table)
        self._figures.routed(self._question.kind.value, made.role, made.code)
        return answer
