"""Prepared routes, written out as the answers that a sidecar sends."""

from __future__ import annotations

import json
from collections.abc import Iterator

from foreshard.model import Placement, RequestKind
from foreshard.routing.packed import EPOCH_SHIFT, PRIMARY_MASK
from foreshard.routing.prepared import PreparedRoute, PreparedRoutes, RoutesOfKind

MOST_TAILS = 4_096


class AnswerTail:
    """The part of an answer that follows the key. ``sent`` counts how often it was sent."""

    __slots__ = ("route", "sent", "size", "text")

    def __init__(self, epoch: int, route: PreparedRoute, version: int) -> None:
        before, after = route.written or _written(route, version)
        self.text = b"%b%d%b" % (before, epoch, after)
        self.size, self.route, self.sent = len(self.text), route, 0


class AnswerTails(dict[int, AnswerTail | None]):
    """The answer tails of one request kind, by value in the packed table. None: the request has a choice among copies.

    There are few, because many keys share partition and epoch. The sender of a tail increments its ``sent``.
    """

    def __init__(self, routes: RoutesOfKind, version: int) -> None:
        super().__init__()
        self._routes, self._version = routes, version
        self._outside: dict[tuple[int, str], AnswerTail] = {}

    def __missing__(self, value: int) -> AnswerTail | None:
        routes = self._routes
        if len(self) >= MOST_TAILS:
            self.count()
            self.clear()
        has_choice = value & routes.choice
        tail = None if has_choice else AnswerTail(value >> EPOCH_SHIFT, routes.at(value & PRIMARY_MASK), self._version)
        self[value] = tail
        return tail

    def outside(self, key: str, placement: Placement | None) -> AnswerTail | None:
        """The tail for a key that is not in the packed table; see :meth:`RoutesOfKind.outside`."""
        found = self._routes.outside(key, placement)
        if found is None:
            return None
        epoch, route = found
        tail = self._outside.get((epoch, route.partition))
        if tail is None:
            if len(self._outside) >= MOST_TAILS:
                self.count()
                self._outside.clear()
            tail = self._outside[epoch, route.partition] = AnswerTail(epoch, route, self._version)
        return tail

    def count(self) -> None:
        """Add the counts of the tails to their routes."""
        for tail in (*self.values(), *self._outside.values()):
            if tail is not None and tail.sent:
                tail.route.sent += tail.sent
                tail.sent = 0

    def forget(self) -> None:
        """Drop all tails."""
        self.clear()
        self._outside.clear()


class PreparedAnswers:
    """The prepared routes of one table and their written answers."""

    def __init__(self, routes: PreparedRoutes) -> None:
        self.routes, self.placements = routes, routes.placements
        version = routes.table.version
        self.writes, self.reads = AnswerTails(routes.writes, version), AnswerTails(routes.reads, version)

    def used(self) -> Iterator[tuple[RequestKind, PreparedRoute]]:
        """Iterate over the routes that requests took since the last ``renew``."""
        self.writes.count()
        self.reads.count()
        return self.routes.used()

    def renew(self) -> None:
        """See :meth:`PreparedRoutes.renew`."""
        self.routes.renew()
        self.writes.forget()
        self.reads.forget()


def _written(route: PreparedRoute, version: int) -> tuple[bytes, bytes]:
    """The parts of an answer before and after the epoch, with the fields in the order of ``RouteService.route``."""
    where = {"partition": route.partition, "location": route.location, "role": route.role}
    why = {"table_version": version, "reason": route.reason, "reason_code": route.code, "uri": route.address}
    before, after = (json.dumps(part, separators=(",", ":"))[1:-1] for part in (where, why))
    route.written = (f'",{before},"epoch":'.encode(), f",{after}}}".encode())
    return route.written
