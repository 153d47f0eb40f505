"""Prepared reads of keys with shadows, for the most frequent case: the nearest copies all answer and have room. Pure.

The choice depends on the copies and on the reader's location; the key itself matters only for the freshness of its shadows. So
one choice serves all keys with the same copies, until the loads it was made from are replaced. The draw among equally near
copies and the freshness check happen for each read. All other reads are decided by :mod:`foreshard.routing._reads`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from foreshard.model import Placement
from foreshard.routing._reads import ReadChoice, chance_of
from foreshard.routing.decision import PRIMARY, CopyView, RouteDecision, RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook
from foreshard.routing.prepared import Addresses


class NearCopy:
    """One of the nearest copies with its decision. ``sent`` counts the reads that took it."""

    __slots__ = ("address", "location", "partition", "reason", "role", "sent", "utilisation")

    def __init__(self, view: CopyView, decision: RouteDecision, location: str, address: str) -> None:
        self.partition, self.role, self.utilisation = view.partition, view.role, view.utilisation
        self.reason, self.location, self.address = decision.sentence, location, address
        self.sent = 0


class NearChoice:
    """The nearest copies, for all keys that have the same copies."""

    __slots__ = ("_caught_up_at", "_chance", "_limit", "_mark", "_shadows", "copies")

    def __init__(
        self, copies: Sequence[NearCopy], mark: float, caught_up_at: Mapping[tuple[str, str], float], limit: float
    ) -> None:
        self.copies, self._mark, self._caught_up_at, self._limit = copies, mark, caught_up_at, limit
        self._shadows = tuple(copy.partition for copy in copies if copy.role != PRIMARY)
        self._chance = chance_of(copies[0].utilisation, copies[1].utilisation, mark) if len(copies) == 2 else 1.0

    def take(self, key: str, now: float, random: Random) -> NearCopy | None:
        """Choose and count the copy for a read of ``key``. None if one of the nearest copies is too stale."""
        for name in self._shadows:
            caught_up = self._caught_up_at.get((key, name))
            if caught_up is None or now - caught_up > self._limit:
                return None
        copies = self.copies
        if len(copies) == 1:
            taken = copies[0]
        elif len(copies) == 2:
            taken = copies[0] if random.random() < self._chance else copies[1]
        else:
            one, other = random.sample(copies, 2)
            taken = one if random.random() < chance_of(one.utilisation, other.utilisation, self._mark) else other
        taken.sent += 1
        return taken


def near_choice(
    request: RouteRequest,
    placement: Placement,
    context: RoutingContext,
    book: LoadBook,
    now: float,
    addresses: Addresses,
) -> NearChoice | None:
    """Return the choice for reads like ``request`` of keys with the copies of ``placement``; None if it can't be prepared.

    The caller adds the counted reads to the load book from time to time.
    """
    found = ReadChoice(request, placement, context, book, now, Random()).nearest()  # noqa: S311 - nothing is drawn
    if not found or any(view.partition not in addresses for view, _ in found):
        return None
    copies = tuple(NearCopy(view, decision, *addresses[view.partition]) for view, decision in found)
    limit = context.default_staleness if request.max_staleness is None else request.max_staleness
    return NearChoice(copies, book.rules.room_mark, context.caught_up_at, limit - context.ahead)
