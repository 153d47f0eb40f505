"""Decides where one request goes, and why. Pure: the time and the random source are arguments.

Writes always go to the primary copy. :mod:`foreshard.routing._reads` chooses among the copies of a read.
"""

from __future__ import annotations

from random import Random

from foreshard.model import Placement, RequestKind
from foreshard.routing._reads import ReadChoice
from foreshard.routing.decision import PRIMARY, RouteDecision, RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook


def decide(
    request: RouteRequest, placement: Placement, context: RoutingContext, book: LoadBook, now: float, random: Random
) -> RouteDecision:
    """Return where ``request`` goes, given its key's ``placement`` in the table."""
    if request.kind is RequestKind.READ and placement.shadows:
        return ReadChoice(request, placement, context, book, now, random).decide()
    decision = _only_copy(placement, book, now) if request.kind is RequestKind.READ else _write(placement, book, now)
    if not request.explain:
        return decision
    return decision._replace(copies=ReadChoice(request, placement, context, book, now, random).primary_taken())


def decide_primary(partition: str, kind: RequestKind, book: LoadBook, now: float) -> RouteDecision:
    """Return the decision for a request whose only choice is the primary copy on ``partition``; its epoch is 0."""
    placement = Placement("", partition)
    return _only_copy(placement, book, now) if kind is RequestKind.READ else _write(placement, book, now)


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
