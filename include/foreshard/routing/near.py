"""The most frequent choice, prepared: a read of a key whose nearest copies all answer and have room. Pure.

It depends on the copies and on where the read comes from, and of the key itself only on how fresh its shadows are. So it is
made once for all keys of the same copies, and stands as long as the loads' figures that it was made of. The draw among equally
near copies and the look at the freshness are each read's own. All other reads are decided by :mod:`foreshard.routing._reads`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from foreshard.model import Placement
from foreshard.routing._reads import ReadChoice, chance_of
from foreshard.routing.decision import PRIMARY, CopyView, RouteDecision, RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook


class NearCopy:
    """One of the nearest copies, with the decision for it; ``sent`` counts the reads that it was taken for."""

    __slots__ = ("address", "location", "partition", "reason", "role", "sent", "utilisation")

    def __init__(self, view: CopyView, decision: RouteDecision, location: str, address: str) -> None:
        self.partition, self.role, self.utilisation = view.partition, view.role, view.utilisation
        self.reason, self.location, self.address = decision.sentence, location, address
        self.sent = 0


class NearChoice:
    """The nearest copies of keys that have the same copies."""

    __slots__ = ("_caught_up_at", "_chance", "_limit", "_mark", "_shadows", "copies")

    def __init__(
        self, copies: Sequence[NearCopy], mark: float, caught_up_at: Mapping[tuple[str, str], float], limit: float
    ) -> None:
        self.copies, self._mark, self._caught_up_at, self._limit = copies, mark, caught_up_at, limit
        self._shadows = tuple(copy.partition for copy in copies if copy.role != PRIMARY)
        self._chance = chance_of(copies[0].utilisation, copies[1].utilisation, mark) if len(copies) == 2 else 1.0

    def take(self, key: str, now: float, random: Random) -> NearCopy | None:
        """The copy for a read of ``key``, which is counted; None where one of the nearest is not fresh enough."""
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
    around: RoutingContext,
    book: LoadBook,
    now: float,
    addresses: Mapping[str, tuple[str, str]],
) -> NearChoice | None:
    """The choice for reads like ``request`` of keys with the copies of ``placement``; None where it is not that simple.

    ``addresses``: a partition's location and address. What is taken by it must be told to the book (``sent``) now and then.
    """
    found = ReadChoice(request, placement, around, book, now, Random()).nearest()  # noqa: S311 - nothing is drawn
    if not found or any(view.partition not in addresses for view, _ in found):
        return None
    copies = tuple(NearCopy(view, decision, *addresses[view.partition]) for view, decision in found)
    limit = around.default_staleness if request.max_staleness is None else request.max_staleness
    return NearChoice(copies, book.rules.room_mark, around.caught_up_at, limit)
