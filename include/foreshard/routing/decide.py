"""Where one request goes, and why. Pure: the moment and the random source are passed in.

Writes go to the primary copy, always; :mod:`foreshard.routing._reads` chooses among the copies of a read.
"""

from __future__ import annotations

from random import Random

from foreshard.model import Placement, RequestKind
from foreshard.routing._reads import ReadChoice
from foreshard.routing.decision import PRIMARY, RouteDecision, RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook


def decide(
    request: RouteRequest, placement: Placement, around: RoutingContext, book: LoadBook, now: float, random: Random
) -> RouteDecision:
    """Return where ``request`` goes; ``placement`` is what the table says of its key."""
    if request.kind is RequestKind.READ and placement.shadows:
        return ReadChoice(request, placement, around, book, now, random).decide()
    made = _only_copy(placement, book, now) if request.kind is RequestKind.READ else _write(placement, book, now)
    if not request.explain:
        return made
    return made._replace(copies=ReadChoice(request, placement, around, book, now, random).primary_taken())


def _write(placement: Placement, book: LoadBook, now: float) -> RouteDecision:
    at = book.pressure(placement.primary, now)
    if not at.reachable:
        sentence = f"writes go to the primary copy on {placement.primary}, which does not answer its reporter now"
        return RouteDecision(placement.primary, PRIMARY, placement.epoch, "write_primary_unreachable", sentence)
    sentence = f"writes go to the primary copy on {placement.primary}"
    if at.utilisation is not None and at.utilisation > book.rules.room_mark:
        sentence += f", overloaded at {at.utilisation:.0%} of its capacity"
        return RouteDecision(placement.primary, PRIMARY, placement.epoch, "write_primary_overloaded", sentence)
    return RouteDecision(placement.primary, PRIMARY, placement.epoch, "write_primary", sentence)


def _only_copy(placement: Placement, book: LoadBook, now: float) -> RouteDecision:
    at = book.pressure(placement.primary, now)
    if not at.reachable:
        sentence = f"the only copy is on {placement.primary}, which does not answer its reporter now"
        return RouteDecision(placement.primary, PRIMARY, placement.epoch, "only_copy_unreachable", sentence)
    if at.utilisation is not None and at.utilisation > book.rules.room_mark:
        sentence = f"the only copy is on {placement.primary}, overloaded at {at.utilisation:.0%} of its capacity"
        return RouteDecision(placement.primary, PRIMARY, placement.epoch, "only_copy_overloaded", sentence)
    sentence = f"the only copy is on {placement.primary}"
    return RouteDecision(placement.primary, PRIMARY, placement.epoch, "only_copy", sentence)
